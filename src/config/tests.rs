//! One case per bad value; several problems at once; files; the example against the code.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;

const MINIMAL: &str = "[upstream]\nendpoints = [\"https://10.0.0.11:8043\"]\n";

fn skip(text: &str) -> Result<Config, Problems> {
    parse(text, Path::new("/etc/previewgate"), Files::Skip)
}

fn minimal() -> Config {
    skip(MINIMAL).unwrap()
}

fn problems(text: &str) -> Vec<Problem> {
    skip(text).expect_err(text).problems
}

/// `line` within a document that is otherwise fine, and stands on line 3 or 4 of it.
fn document(table: &str, line: &str) -> String {
    if table == "upstream" { format!("{MINIMAL}{line}\n") } else { format!("{MINIMAL}[{table}]\n{line}\n") }
}

/// Table, line, key, value as shown, part of the message, part of the cure.
type Case = (&'static str, &'static str, &'static str, Option<&'static str>, &'static str, &'static str);

const BAD_VALUES: &[Case] = &[
    // Wrong types.
    ("limits", "connections = \"5\"", "limits.connections", Some("\"5\""), "is text", "without quotes"),
    ("limits", "connections = 5.5", "limits.connections", Some("5.5"), "a number with a fraction", "whole number"),
    ("log", "mask_numbers = \"yes\"", "log.mask_numbers", Some("\"yes\""), "is text", "true or false"),
    ("log", "level = 3", "log.level", Some("3"), "is a number", "\"info\""),
    ("listener", "address = 8043", "listener.address", Some("8043"), "is a number", "\"0.0.0.0:8043\""),
    ("upstream", "path_prefixes = \"/a/\"", "upstream.path_prefixes", Some("\"/a/\""), "is text", "a list of paths"),
    ("upstream", "path_prefixes = [1]", "upstream.path_prefixes[0]", Some("1"), "is a number", "/agentgateway/"),
    ("listener", "tls = true", "listener.tls", Some("true"), "is a truth value", "`[listener.tls]`"),
    ("previews", "store = \"memory\"", "previews.store", Some("\"memory\""), "is text", "`[previews.store]`"),
    ("log", "hash_key = 12345", "log.hash_key", Some("(not shown)"), "is a number", "path"),
    // Durations.
    ("previews", "ttl = 10", "previews.ttl", Some("10"), "without a unit", "write \"10s\""),
    ("previews", "ttl = \"10\"", "previews.ttl", Some("\"10\""), "is not a duration", "\"10s\""),
    ("previews", "ttl = \"soon\"", "previews.ttl", Some("\"soon\""), "is not a duration", "\"10s\""),
    ("previews", "ttl = \"0s\"", "previews.ttl", Some("\"0s\""), "too short", "at least \"1ms\""),
    ("previews", "ttl = \"25h\"", "previews.ttl", Some("\"25h\""), "too long", "at most \"1day\""),
    ("previews", "ttl = \"99999999999999999999s\"", "previews.ttl", None, "is not a duration", "\"10s\""),
    ("upstream", "response_timeout = \"10s\"", "upstream.response_timeout", None, "event poll", "at least \"11s\""),
    ("limits", "idle_timeout = \"4s\"", "limits.idle_timeout", None, "connect anew", "at least \"5s\""),
    (
        "previews",
        "snapshot_interval = \"9ms\"",
        "previews.snapshot_interval",
        None,
        "to the disk",
        "at least \"100ms\"",
    ),
    ("validation", "warm_up = \"2days\"", "validation.warm_up", None, "too long", "at most"),
    ("shutdown", "drain = \"0s\"", "shutdown.drain", None, "too short", "at least"),
    // Sizes.
    ("limits", "head_size = \"1KiB\"", "limits.head_size", Some("\"1KiB\""), "out of range", "from 4KiB to 256KiB"),
    ("limits", "head_size = 1024", "limits.head_size", Some("1024"), "out of range", "from 4KiB to 256KiB"),
    ("limits", "head_size = -1", "limits.head_size", Some("-1"), "is not a size", "32KiB"),
    ("limits", "head_size = \"32KB\"", "limits.head_size", Some("\"32KB\""), "is not a size", "32KiB"),
    ("limits", "head_size = \"99999999999999999MiB\"", "limits.head_size", None, "is not a size", "32KiB"),
    ("limits", "callout_body = \"2MiB\"", "limits.callout_body", None, "out of range", "from 256B to 1MiB"),
    ("limits", "event_body = \"65MiB\"", "limits.event_body", None, "out of range", "from 1KiB to 64MiB"),
    // Numbers and words.
    ("limits", "connections = 0", "limits.connections", Some("0"), "is not within 1", "whole number"),
    ("limits", "requests = -4", "limits.requests", Some("-4"), "is not within 1", "whole number"),
    ("previews", "per_agent = 1025", "previews.per_agent", Some("1025"), "not within 1 to 1024", "1024"),
    ("previews", "max_agents = 10000001", "previews.max_agents", None, "not within 1 to 10000000", "10000000"),
    ("runtime", "workers = 1025", "runtime.workers", Some("1025"), "not within 0 to 1024", "1024"),
    ("validation", "reject_status = 500", "validation.reject_status", Some("500"), "not within 200 to 499", "499"),
    ("validation", "reject_status = 66000", "validation.reject_status", None, "not within 200 to 499", "499"),
    ("validation", "mode = \"strict\"", "validation.mode", Some("\"strict\""), "none of", "\"enforce\" or \"monitor\""),
    ("validation", "on_unknown_preview = \"\"", "validation.on_unknown_preview", None, "none of", "\"reject\""),
    ("log", "format = \"xml\"", "log.format", None, "none of", "\"json\" or \"text\""),
    ("log", "level = \"INFO\"", "log.level", None, "none of", "\"info\""),
    ("log", "access = \"some\"", "log.access", None, "none of", "\"callouts\""),
    (
        "previews.store",
        "kind = \"disk\"",
        "previews.store.kind",
        Some("\"disk\""),
        "none of",
        "\"memory\" or \"redis\"",
    ),
    ("previews.store", "prefix = \"x\"", "previews.store.prefix", None, "for Redis", "kind = \"redis\""),
    ("previews.store", "prefx = \"x\"", "previews.store.prefx", None, "unknown", "`previews.store.prefix`"),
    // Addresses.
    ("listener", "address = \"0.0.0.0\"", "listener.address", None, "has no port", "\"0.0.0.0:8043\""),
    ("listener", "address = \"localhost:80\"", "listener.address", None, "names are not resolved", "[::]:8043"),
    ("listener", "address = \":8043\"", "listener.address", Some("\":8043\""), "not an IP address", "[::]:8043"),
    ("admin", "address = \"127.0.0.1:99999\"", "admin.address", None, "not an IP address with a port", "8043"),
    // Names and paths.
    ("upstream.tls", "server_name = \"a b\"", "upstream.tls.server_name", None, "neither a DNS name", "ccgateway"),
    ("upstream.tls", "server_name = \"h:1\"", "upstream.tls.server_name", None, "neither a DNS name", "without scheme"),
    ("upstream", "path_prefixes = []", "upstream.path_prefixes", Some("[…]"), "is empty", "/agentgateway/"),
    ("upstream", "path_prefixes = [\"a/\"]", "upstream.path_prefixes[0]", None, "start and end", "plain path"),
    ("upstream", "path_prefixes = [\"/a\"]", "upstream.path_prefixes[0]", None, "start and end", "plain path"),
    ("upstream", "path_prefixes = [\"/a%41/\"]", "upstream.path_prefixes[0]", None, "contains", "plain path"),
    ("upstream", "path_prefixes = [\"/a/../\"]", "upstream.path_prefixes[0]", None, "contains", "plain path"),
    ("upstream", "path_prefixes = [\"//\"]", "upstream.path_prefixes[0]", None, "contains", "plain path"),
    ("upstream", "path_prefixes = [\"/a;b/\"]", "upstream.path_prefixes[0]", None, "contains", "plain path"),
    ("upstream", "path_prefixes = [\"/previewgate/\"]", "upstream.path_prefixes[0]", None, "own", "plain path"),
    ("upstream", "path_prefixes = [\"/ä/\"]", "upstream.path_prefixes[0]", None, "unescaped", "plain path"),
    ("upstream", "path_prefixes = [\"/a/\", \"/a/\"]", "upstream.path_prefixes[1]", None, "twice", "remove"),
    ("previews", "snapshot = \"\"", "previews.snapshot", Some("\"\""), "is not the path", "directory"),
    ("previews", "snapshot = \"x/\"", "previews.snapshot", Some("\"x/\""), "is not the path", "directory"),
    ("previews", "snapshot = 1", "previews.snapshot", Some("1"), "is a number", "path"),
    ("log", "hash_key = \"\"", "log.hash_key", Some("(not shown)"), "is not a path", "not its content"),
    ("log", "hash_key = \"a\\nb\"", "log.hash_key", Some("(not shown)"), "is not a path", "not its content"),
    // Unknown keys and what was meant.
    ("upstream", "conect_timeout = \"2s\"", "upstream.conect_timeout", None, "unknown", "`upstream.connect_timeout`"),
    ("limit", "", "limit", None, "unknown", "did you mean `limits`?"),
    ("previews", "perAgent = 1", "previews.perAgent", None, "unknown", "did you mean `previews.per_agent`?"),
    ("upstream", "ca = \"x\"", "upstream.ca", None, "unknown", "did you mean `upstream.tls.ca`?"),
    ("limits", "ttl = \"1s\"", "limits.ttl", None, "unknown", "did you mean `previews.ttl`?"),
    ("listener.tsl", "", "listener.tsl", None, "unknown", "did you mean `listener.tls`?"),
    ("admin", "certificate = \"x\"", "admin.certificate", None, "unknown", "did you mean `listener.tls.certificate`?"),
    ("log", "zzzz = \"s3cret\"", "log.zzzz", None, "unknown", "previewgate.toml lists every key"),
    ("log", "\"a b\" = 1", "log.\"a b\"", None, "unknown", "remove"),
    // Probes and balancing.
    ("upstream", "balance = \"random\"", "upstream.balance", Some("\"random\""), "none of", "\"ordered\" or \"agent\""),
    ("upstream.probe", "kind = \"icmp\"", "upstream.probe.kind", Some("\"icmp\""), "none of", "\"tcp\""),
    ("upstream.probe", "kind = \"http\"", "upstream.probe.kind", None, "needs a path", "add `path"),
    ("upstream.probe", "path = \"/x\"", "upstream.probe.path", None, "only an http probe", "kind = \"http\""),
    ("upstream.probe", "path = \"x\"", "upstream.probe.path", Some("\"x\""), "not a plain path", "harmless"),
    ("upstream.probe", "path = \"/agentEvent/1\"", "upstream.probe.path", None, "events away", "harmless"),
    ("upstream.probe", "interval = \"10ms\"", "upstream.probe.interval", None, "too short", "at least \"1s\""),
    // Conflicts.
    ("admin", "address = \"0.0.0.0:8043\"", "admin.address", None, "same port", "its own port"),
    ("admin", "address = \"127.0.0.1:8043\"", "admin.address", None, "same port", "its own port"),
    ("listener", "address = \"127.0.0.1:9043\"", "listener.address", None, "same port", "its own port"),
    ("upstream.tls", "client_certificate = \"c\"", "upstream.tls.client_certificate", None, "nothing without", "both"),
    ("upstream.tls", "client_private_key = \"k\"", "upstream.tls.client_private_key", None, "nothing without", "both"),
];

#[test]
fn each_bad_value_is_told_with_its_place_and_cure() {
    for (table, line, key, value, message, cure) in BAD_VALUES {
        let text = document(table, line);
        let found = problems(&text);
        assert_eq!(found.len(), 1, "{text}\n{found:#?}");
        let problem = &found[0];
        let header_is_the_offence = line.is_empty();
        let expected_line = if *table == "upstream" || header_is_the_offence { 3 } else { 4 };
        assert_eq!((problem.key.as_str(), problem.line), (*key, Some(expected_line)), "{text}\n{problem}");
        assert!(problem.message.contains(message), "{text}\n{problem}");
        assert!(problem.cure.contains(cure), "{text}\n{problem}");
        if value.is_some() {
            assert_eq!(problem.value.as_deref(), *value, "{text}\n{problem}");
        }
    }
}

#[test]
fn each_bad_endpoint_is_told_with_its_reason() {
    let cases = [
        ("10.0.0.11:8043", "has no scheme"),
        ("ftp://h", "neither https nor http"),
        ("https://user:pw@h", "user name or password"),
        ("https://h?token=pw", "query"),
        ("https://h#f", "query or fragment"),
        ("https://h/", "has a path"),
        ("https://h:8043/agentgateway", "has a path"),
        ("https://", "neither a DNS name"),
        ("https://a b", "neither a DNS name"),
        ("https://10.0.0.999", "neither a DNS name"),
        ("https://h:", "has a port that is not one"),
        ("https://h:0", "has a port that is not one"),
        ("https://h:65536", "has a port that is not one"),
        ("https://h:+1", "has a port that is not one"),
        ("https://::1", "IPv6"),
        ("https://[::1", "IPv6"),
        ("https://[::1]x", "has a port that is not one"),
        ("https://[h]", "IPv6"),
    ];
    for (url, message) in cases {
        let found = problems(&format!("[upstream]\nendpoints = [\"https://fine\", {url:?}]"));
        assert_eq!(found.len(), 1, "{url}: {found:#?}");
        assert_eq!((found[0].key.as_str(), found[0].line), ("upstream.endpoints[1]", Some(2)), "{url}");
        assert!(found[0].message.contains(message), "{url}: {}", found[0]);
        assert!(!found[0].to_string().contains("pw"), "{}", found[0]);
    }
}

#[test]
fn endpoints_are_compared_in_one_spelling() {
    let endpoints = |list: &str| skip(&format!("[upstream]\nendpoints = [{list}]"));
    let config = endpoints("\"HTTPS://Gateway.Example\", \"https://[2001:DB8:0::1]:1\"").unwrap();
    let shown: Vec<_> = config.upstream.endpoints.iter().map(Endpoint::to_string).collect();
    assert_eq!(shown, ["https://gateway.example:443", "https://[2001:db8::1]:1"]);

    for (list, key, message) in [
        ("\"https://h\", \"https://H:443\"", "upstream.endpoints[1]", "twice"),
        ("\"https://h\", \"http://h\"", "upstream.endpoints", "mixes schemes"),
        ("", "upstream.endpoints", "is empty"),
    ] {
        let found = endpoints(list).unwrap_err().problems;
        assert!(found.len() == 1 && found[0].key == key && found[0].message.contains(message), "{found:#?}");
    }
}

/// `[previews.store]` with a line or two beside `kind` and `url`.
fn redis(url: &str, lines: &str) -> String {
    document("previews.store", &format!("kind = \"redis\"\nurl = {url:?}\n{lines}"))
}

#[test]
fn each_bad_redis_setting_is_told_with_its_reason() {
    for (url, lines, key, message, cure) in [
        ("redis.example:6379", "", "url", "has no scheme", "rediss://HOST"),
        ("http://h", "", "url", "neither rediss nor redis", "rediss://HOST"),
        ("redis://:hunter2@h", "", "url", "user name or password", "password_file"),
        ("rediss://user:hunter2@h:6379/0", "", "url", "user name or password", "password_file"),
        ("redis://h/hunter2", "", "url", "no database number", "rediss://HOST"),
        ("redis://h/70000", "", "url", "no database number", "rediss://HOST"),
        ("redis://h?password=hunter2", "", "url", "query", "rediss://HOST"),
        ("redis://h:0", "", "url", "port", "1 to 65535"),
        ("redis://", "", "url", "neither a DNS name", ""),
        ("redis://h", "ca = \"ca.crt\"", "ca", "is not rediss", "rediss://"),
        ("redis://h", "username = \"u\"", "username", "nothing without", "set both"),
        ("redis://h", "username = \"u v\"\npassword_file = \"p\"", "username", "other characters", "visible"),
        ("redis://h", "prefix = \"\"", "prefix", "is empty", "1 to 64"),
        ("redis://h", "timeout = \"2s\"", "timeout", "too long", "at most \"1s\""),
        ("redis://h", "on_store_failure = \"ignore\"", "on_store_failure", "none of", "\"local\""),
        ("redis://h", "password = \"hunter2\"", "password", "unknown", "previews.store.password_file"),
    ] {
        let found = problems(&redis(url, lines));
        assert_eq!(found.len(), 1, "{url} {lines}: {found:#?}");
        assert_eq!(found[0].key, format!("previews.store.{key}"), "{}", found[0]);
        assert!(found[0].message.contains(message) && found[0].cure.contains(cure), "{}", found[0]);
        assert!(!found[0].to_string().contains("hunter2"), "{}", found[0]);
    }
    let found = problems(&document("previews.store", "kind = \"redis\""));
    assert_eq!((found.len(), found[0].key.as_str()), (1, "previews.store.url"), "{found:#?}");
}

#[test]
fn redis_has_defaults_and_survives() {
    for (url, shown) in [
        ("redis://Redis.Example", "redis://redis.example:6379/0"),
        ("REDISS://[2001:db8::1]:7000/3", "rediss://[2001:db8::1]:7000/3"),
        ("redis://10.0.0.1/", "redis://10.0.0.1:6379/0"),
    ] {
        let config = skip(&redis(url, "")).unwrap();
        let StoreKind::Redis(store) = &config.previews.store else { panic!("{url}") };
        assert_eq!(store.url.to_string(), shown);
        assert_eq!((store.prefix.as_str(), store.timeout), ("previewgate:", Duration::from_millis(200)));
        assert_eq!(store.on_store_failure, OnStoreFailure::Local);
        assert_eq!(skip(&config.to_toml()).unwrap(), config);
    }
}

#[test]
fn endpoints_may_name_their_node() {
    let endpoints = |list: &str| skip(&format!("[upstream]\nendpoints = [{list}]"));
    let config = endpoints("\"https://a\", { url = \"https://b\", node = \"AgentGateway1\" }").unwrap();
    let nodes: Vec<_> = config.upstream.endpoints.iter().map(|endpoint| endpoint.node.as_deref()).collect();
    assert_eq!(nodes, [None, Some("AgentGateway1")]);
    assert_eq!(skip(&config.to_toml()).unwrap(), config);

    for (list, key, message) in [
        ("{ url = \"https://a\", nod = \"x\" }", "upstream.endpoints[0].nod", "unknown"),
        ("{ node = \"x\" }", "upstream.endpoints[0].url", "missing"),
        ("{ url = \"https://a/\" }", "upstream.endpoints[0].url", "has a path"),
        ("{ url = \"https://a\", node = \"a.b\" }", "upstream.endpoints[0].node", "not the name of a node"),
        ("{ url = \"https://a\", node = 1 }", "upstream.endpoints[0].node", "is a number"),
        ("\"https://a\", { url = \"https://a\", node = \"x\" }", "upstream.endpoints[1]", "twice"),
        (
            "{ url = \"https://a\", node = \"x\" }, { url = \"https://b\", node = \"x\" }",
            "upstream.endpoints[1]",
            "another endpoint",
        ),
    ] {
        let found = endpoints(list).unwrap_err().problems;
        assert!(found.len() == 1 && found[0].key == key && found[0].message.contains(message), "{found:#?}");
    }
}

#[test]
fn a_tls_probe_of_a_plain_endpoint_is_a_conflict() {
    let found = problems("[upstream]\nendpoints = [\"http://h\"]\n[upstream.probe]\nkind = \"tls\"\n");
    assert_eq!((found.len(), found[0].key.as_str(), found[0].line), (1, "upstream.probe.kind", Some(4)), "{found:#?}");
}

#[test]
fn tls_settings_without_tls_are_a_conflict() {
    let found = problems("[upstream]\nendpoints = [\"http://h\"]\n[upstream.tls]\ninsecure_skip_verify = false\n");
    assert_eq!((found.len(), found[0].key.as_str(), found[0].line), (1, "upstream.tls", Some(3)), "{found:#?}");
}

#[test]
fn what_must_be_there_is_missed() {
    let found = problems("");
    assert_eq!((found.len(), found[0].key.as_str(), found[0].line), (1, "upstream.endpoints", None));

    let found = problems(&document("listener.tls", "certificate = \"c\""));
    assert_eq!((found.len(), found[0].key.as_str(), found[0].line), (1, "listener.tls.private_key", Some(3)));
    assert!(found[0].message.contains("missing"));
}

#[test]
fn all_problems_come_at_once_in_the_order_of_lines() {
    let text = "\
[listener]
address = \"0.0.0.0:9043\"
[listener.tls]
private_key = \"hunter2\"
[validation]
mode = \"strict\"
reject_status = \"200\"
[limits]
conections = 5
head_timeout = 10
[upstream]
endpoints = [\"https://h/\", \"https://user:hunter2@h\", \"http://h\", \"https://i\"]
[password]
hunter = \"hunter2\"
";
    let error = skip(text).unwrap_err();
    let found: Vec<_> = error.problems.iter().map(|problem| (problem.line.unwrap(), problem.key.as_str())).collect();
    let expected = [
        (2, "listener.address"),
        (3, "listener.tls.certificate"),
        (6, "validation.mode"),
        (7, "validation.reject_status"),
        (9, "limits.conections"),
        (10, "limits.head_timeout"),
        (12, "upstream.endpoints"),
        (12, "upstream.endpoints[0]"),
        (12, "upstream.endpoints[1]"),
        (13, "password"),
    ];
    assert_eq!(found, expected);
    assert!(error.to_string().starts_with("configuration: 10 problems\n"));
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn syntax_errors_name_their_line_and_quote_nothing() {
    for (line, text) in [
        (2, "[previews]\nttl = 10s_hunter2\n"),
        (3, "[log]\nlevel = \"info\"\nlevel = \"hunter2\"\n"),
        (1, "hunter2"),
        (2, "[log]\nhash_key = \"hunter2\n"),
    ] {
        let error = skip(text).unwrap_err();
        assert_eq!((error.problems.len(), error.problems[0].line), (1, Some(line)), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn the_problem_reads_well() {
    let error =
        skip("[upstream]\nendpoints = [\"https://h\"]\nresponse_timeout = \"5s\"\nidel_timeout = \"9s\"").unwrap_err();
    let expected = "\
configuration: 2 problems

  line 3, column 20: upstream.response_timeout = \"5s\"
    is too short: the server holds an event poll for 10s, and a poll that is cut off signs its agent out
    cure: write at least \"11s\"

  line 4, column 1: upstream.idel_timeout
    unknown key
    cure: did you mean `upstream.idle_timeout`?";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn defaults_are_those_of_the_design() {
    let config = minimal();
    assert_eq!(config.listener.address.to_string(), "0.0.0.0:8043");
    assert_eq!(config.validation.mode, Mode::Enforce);
    assert_eq!(config.validation.on_unknown_preview, OnUnknownPreview::Reject);
    assert_eq!(config.limits.head_size, 32 * 1024);
    assert_eq!(config.upstream.response_timeout, Duration::from_secs(30));
    assert!(config.runtime.workers >= 1);
}

#[test]
fn warnings_name_the_key() {
    let quiet = skip(&document("listener", "address = \"127.0.0.1:8043\"")).unwrap();
    assert_eq!(quiet.warnings(), Vec::<String>::new());
    for (table, line, key) in [
        ("listener", "address = \"[::]:8043\"", "listener.tls:"),
        ("admin", "address = \"10.0.0.1:9043\"", "admin.address:"),
        ("validation", "mode = \"monitor\"", "validation.mode:"),
        ("validation", "on_unknown_preview = \"forward\"", "validation.on_unknown_preview:"),
        ("validation", "warm_up = \"2m\"", "validation.warm_up:"),
        ("upstream", "idle_timeout = \"20s\"", "upstream.idle_timeout:"),
        ("upstream.tls", "insecure_skip_verify = true", "upstream.tls.insecure_skip_verify:"),
    ] {
        let warnings = skip(&document(table, line)).unwrap().warnings();
        assert!(warnings.iter().any(|warning| warning.starts_with(key)), "{key} {warnings:?}");
    }
    for (url, line, key) in [
        ("redis://10.0.0.1", "", "previews.store.url:"),
        ("rediss://10.0.0.1", "on_store_failure = \"forward\"", "previews.store.on_store_failure:"),
    ] {
        let warnings = skip(&redis(url, line)).unwrap().warnings();
        let about_store: Vec<_> = warnings.iter().filter(|warning| warning.starts_with("previews.store")).collect();
        assert!(about_store.len() == 1 && about_store[0].starts_with(key), "{key} {warnings:?}");
    }
    let plain = |host: &str| skip(&format!("[upstream]\nendpoints = [\"http://{host}\"]")).unwrap().warnings();
    assert!(plain("10.0.0.11").iter().any(|warning| warning.starts_with("upstream.endpoints:")));
    assert!(!plain("localhost").iter().any(|warning| warning.starts_with("upstream.endpoints:")));
}

/// `[push]` with all it needs, and one more line.
fn pushing(line: &str) -> String {
    let mut text = format!("{MINIMAL}[push]\n{line}\n");
    for (key, value) in [("public_url", "\"https://gate\""), ("key", "\"k\""), ("allowed_targets", "[\"cti.example\"]")]
    {
        if !line.starts_with(key) {
            text.push_str(&format!("{key} = {value}\n"));
        }
    }
    text
}

#[test]
fn push_settings_are_told_with_their_place_and_cure() {
    let config = skip(&pushing("")).unwrap();
    assert_eq!(config.push.unwrap().timeout, Duration::from_secs(10));
    for (line, key, message) in [
        ("public_url = \"gate:8043\"", "push.public_url", "has no scheme"),
        ("public_url = \"https://gate/x\"", "push.public_url", "has a path"),
        ("key = 7", "push.key", "is a number"),
        ("timeout = \"0s\"", "push.timeout", "too short"),
        ("allowed_targets = []", "push.allowed_targets", "is empty"),
        ("allowed_targets = [\"a\", \"A\"]", "push.allowed_targets[1]", "twice"),
        ("allowed_targets = [\"10.1.2.3/16\"]", "push.allowed_targets[0]", "beyond its prefix"),
        ("allowed_targets = [\"https://a/x\"]", "push.allowed_targets[0]", "path"),
        ("tls = 1", "push.tls", "`[push.tls]`"),
    ] {
        let found = problems(&pushing(line));
        assert!(found.len() == 1 && found[0].key == key, "{line} {found:#?}");
        assert!(found[0].to_string().contains(message), "{}", found[0]);
    }
    let missing: Vec<_> = problems(&document("push", "")).into_iter().map(|problem| problem.key).collect();
    assert_eq!(missing, ["push.public_url", "push.key", "push.allowed_targets"]);
}

#[test]
fn push_warnings_name_the_key() {
    for (line, key) in [
        ("public_url = \"http://gate\"", "push.public_url:"),
        ("allowed_targets = [\"http://a\"]", "push.allowed_targets:"),
        ("allowed_targets = [\"0.0.0.0/0\"]", "push.allowed_targets:"),
        ("tls = { insecure_skip_verify = true }", "push.tls.insecure_skip_verify:"),
    ] {
        let warnings = skip(&pushing(line)).unwrap().warnings();
        assert!(warnings.iter().any(|warning| warning.starts_with(key)), "{key} {warnings:?}");
    }
    assert!(!skip(&pushing("")).unwrap().warnings().iter().any(|warning| warning.starts_with("push")));
}

mod round_trip {
    use super::*;

    #[test]
    fn every_optional_key_survives() {
        let config = skip(&uncommented(&example("previewgate.toml"))).unwrap();
        assert!(config.listener.tls.is_some() && config.push.is_some());
        assert!(config.log.hash_key.is_some() && config.previews.snapshot.is_some());
        assert!(config.listener.tls.is_some() && config.log.hash_key.is_some());
        assert!(matches!(&config.previews.store, StoreKind::Redis(redis) if redis.username.is_some()));
        assert_eq!(skip(&config.to_toml()).unwrap(), config);
        // Paths are absolute: the text means the same wherever it is saved.
        assert_eq!(parse(&config.to_toml(), Path::new("elsewhere"), Files::Skip).unwrap(), config);
    }

    #[test]
    fn plain_http_survives() {
        let config = skip("[upstream]\nendpoints = [\"http://h\"]").unwrap();
        assert_eq!(skip(&config.to_toml()).unwrap(), config);
    }

    fn duration() -> impl Strategy<Value = Duration> {
        (11_000..=86_400_000_u64, 0..1_000_000_u64)
            .prop_map(|(millis, nanos)| Duration::from_millis(millis).saturating_sub(Duration::from_nanos(nanos / 2)))
            .prop_filter("at least 11 s", |time| *time >= Duration::from_secs(11))
    }

    proptest! {
        #[test]
        fn any_values_survive(
            time in duration(),
            size in 4096_usize..=262_144,
            count in 1_usize..=1024,
            address in any::<std::net::IpAddr>(),
            path in "[^\\n\\x00]{1,40}",
        ) {
            prop_assume!(!path.contains("-----BEGIN"));
            let mut config = minimal();
            config.listener.address = SocketAddr::new(address, 8043);
            config.upstream.response_timeout = time;
            config.limits.idle_timeout = time;
            config.limits.head_size = size;
            config.previews.per_agent = count;
            config.runtime.workers = count;
            config.log.hash_key = Some(Path::new("/etc/previewgate").join(path));
            prop_assert_eq!(skip(&config.to_toml()).unwrap(), config);
        }
    }
}

mod no_panic {
    use super::*;

    proptest! {
        #[test]
        fn from_any_text(text in "\\PC{0,200}") {
            let _ = skip(&text);
        }

        #[test]
        fn from_any_value(index in 0..known().len(), value in "[-\\PC]{0,30}|-?[0-9]{1,30}|\"[^\"]{0,30}\"|\\[.{0,9}\\]") {
            let text = format!("{} = {value}", known()[index]);
            if let Err(problems) = skip(&text) {
                prop_assert!(!problems.to_string().is_empty());
            }
        }

        #[test]
        fn from_any_endpoint(url in "(https?://)?[\\[\\]:/@?#a-z0-9.%\\PC]{0,30}") {
            let _ = skip(&format!("[upstream]\nendpoints = [{}]", toml::Value::from(url)));
        }
    }
}

/// Every key there is, tables included.
fn known() -> Vec<String> {
    let mut reading = Reading::new("", Path::new(""), Files::Skip);
    keys::read(&mut reading, None);
    reading.known().iter().cloned().collect()
}

fn example_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn example(name: &str) -> String {
    fs::read_to_string(example_directory().join(name)).unwrap()
}

/// With every `# key = value` and `# [table]` line in effect, and previews where every key of theirs means something.
fn uncommented(text: &str) -> String {
    let text = text.replace("kind = \"memory\"", "kind = \"redis\"");
    let line = |line: &str| match line.strip_prefix("# ") {
        Some(setting) if setting.starts_with('[') || is_setting(setting) => format!("{setting}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

fn is_setting(line: &str) -> bool {
    let key = line.split_once(" = ").map_or("", |(key, _)| key);
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

mod examples {
    use super::*;

    #[test]
    fn every_file_loads_on_a_fresh_machine() {
        let files: Vec<_> = fs::read_dir(example_directory()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(files.len() >= 2);
        for file in files {
            load(&file, Files::Check).unwrap_or_else(|problems| panic!("{problems}"));
        }
    }

    #[test]
    fn production_states_the_defaults() {
        let example = skip(&example("previewgate.toml")).unwrap();
        let mut defaults = minimal();
        defaults.upstream.endpoints.clone_from(&example.upstream.endpoints);
        assert_eq!(example, defaults);
    }

    #[test]
    fn production_names_every_key_and_writes_every_default() {
        let text = example("previewgate.toml");
        let everything: toml::Table = uncommented(&text).parse().unwrap();
        let written: toml::Table = text.parse().unwrap();
        let default: toml::Table = minimal().to_toml().parse().unwrap();
        for key in known() {
            assert!(lookup(&everything, &key).is_some(), "{key} is not in the example");
            let has_default = lookup(&default, &key).is_some();
            assert_eq!(lookup(&written, &key).is_some(), has_default, "{key}: commented out if it has no default");
        }
    }

    fn lookup<'t>(table: &'t toml::Table, key: &str) -> Option<&'t toml::Value> {
        match key.split_once('.') {
            None => table.get(key),
            Some((first, rest)) => lookup(table.get(first)?.as_table()?, rest),
        }
    }
}

mod referenced_files {
    use super::*;

    struct Pem {
        certificate: String,
        key: String,
    }

    fn pem() -> Pem {
        let certified = rcgen::generate_simple_self_signed(["gateway.example".to_owned()]).unwrap();
        Pem { certificate: certified.cert.pem(), key: certified.signing_key.serialize_pem() }
    }

    /// The problems of `[listener.tls]` with these files, and a configuration file beside them.
    fn with_files(certificate: &str, key: &str, ca: Option<&str>) -> Vec<Problem> {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| fs::write(directory.path().join(name), content).unwrap();
        write("server.crt", certificate);
        write("server.key", key);
        let mut text = document("listener.tls", "certificate = \"server.crt\"\nprivate_key = \"server.key\"");
        if let Some(ca) = ca {
            write("ca.crt", ca);
            text.push_str("client_ca = \"ca.crt\"\n");
        }
        write("gateway.toml", &text);
        load(&directory.path().join("gateway.toml"), Files::Check).map_or_else(|error| error.problems, |_| Vec::new())
    }

    fn assert_single(found: &[Problem], key: &str, message: &str) {
        assert!(found.len() == 1 && found[0].key == key && found[0].message.contains(message), "{found:#?}");
    }

    #[test]
    fn a_matching_pair_loads() {
        let pem = pem();
        assert_eq!(with_files(&pem.certificate, &pem.key, Some(&pem.certificate)), []);
    }

    #[test]
    fn a_foreign_key_is_refused() {
        assert_single(
            &with_files(&pem().certificate, &pem().key, None),
            "listener.tls.private_key",
            "is not the private",
        );
    }

    #[test]
    fn each_file_holds_what_it_should() {
        let Pem { certificate, key } = pem();
        let broken = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert_single(&with_files(&key, &key, None), "listener.tls.certificate", "without a readable PEM certificate");
        assert_single(&with_files("", &key, None), "listener.tls.certificate", "without a readable PEM certificate");
        assert_single(&with_files(&certificate, &certificate, None), "listener.tls.private_key", "PEM private key");
        assert_single(&with_files(&certificate, encrypted, None), "listener.tls.private_key", "encrypted");
        assert_single(&with_files(broken, &key, None), "listener.tls.certificate", "cannot be used");
        assert_single(&with_files(&certificate, &key, Some(broken)), "listener.tls.client_ca", "trusted as a CA");
    }

    #[test]
    fn an_absent_file_is_a_problem_and_its_name_may_be_a_secret() {
        let check = |line: &str| parse(&document("log", line), Path::new("/nowhere"), Files::Check).unwrap_err();
        let error = check("hash_key = \"hunter2\"");
        assert_single(&error.problems, "log.hash_key", "cannot be read");
        assert!(error.to_string().contains("/nowhere") && !error.to_string().contains("hunter2"), "{error}");
        assert_single(&check("hash_key = \"/\"").problems, "log.hash_key", "not a regular file");
        assert_single(&check("hash_key = \"/dev/zero\"").problems, "log.hash_key", "not a regular file");
    }

    #[test]
    fn a_pasted_secret_is_not_shown() {
        let text = document(
            "listener.tls",
            "certificate = \"\"\"-----BEGIN PRIVATE KEY-----\nhunter2\"\"\"\nprivate_key = \"k\"",
        );
        let error = skip(&text).unwrap_err();
        assert_single(&error.problems, "listener.tls.certificate", "is not a path");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn a_snapshot_is_a_file_that_may_not_exist_yet() {
        let check = |line: &str| parse(&document("previews", line), Path::new("/nowhere"), Files::Check);
        let config = check("snapshot = \"previews.snapshot\"").unwrap();
        assert_eq!(config.previews.snapshot.unwrap(), Path::new("/nowhere/previews.snapshot"));
        for other in ["/tmp", "/dev/null", ".."] {
            let error = check(&format!("snapshot = {other:?}")).unwrap_err();
            assert_single(&error.problems, "previews.snapshot", "something else");
        }
    }

    #[test]
    fn paths_are_absolute_even_beside_a_file_named_without_directory() {
        let config = parse(&document("log", "hash_key = \"hash.key\""), Path::new(""), Files::Skip).unwrap();
        assert!(config.log.hash_key.unwrap().is_absolute());
    }

    #[test]
    fn a_short_hash_key_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("hash.key"), "fifteen bytes..").unwrap();
        let error = parse(&document("log", "hash_key = \"hash.key\""), directory.path(), Files::Check).unwrap_err();
        assert_single(&error.problems, "log.hash_key", "less than 16 bytes");
        assert_eq!(error.problems[0].value.as_deref(), Some("\"hash.key\""));
    }

    #[test]
    fn a_password_file_holds_one_line() {
        let directory = tempfile::tempdir().unwrap();
        let check = |content: &str| {
            fs::write(directory.path().join("redis.password"), content).unwrap();
            parse(&redis("redis://h", "password_file = \"redis.password\""), directory.path(), Files::Check)
        };
        for good in ["hunter2", "hunter2\n", "hunter 2\r\n"] {
            assert!(check(good).is_ok(), "{good:?}");
        }
        for bad in ["", "\n", "two\nlines\n", "\u{0}"] {
            assert_single(&check(bad).unwrap_err().problems, "previews.store.password_file", "without a password");
        }
        let text = redis("redis://h", "password_file = \"hunter2\"");
        let absent = parse(&text, Path::new("/nowhere"), Files::Check).unwrap_err();
        assert!(!absent.to_string().contains("hunter2"), "{absent}");
    }

    #[test]
    fn the_configuration_file_itself_must_be_readable() {
        let error = load(Path::new("/nowhere/gateway.toml"), Files::Check).unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/gateway.toml: 1 problem\n"), "{error}");
        assert!(error.problems[0].message.contains("cannot be read"));
    }
}
