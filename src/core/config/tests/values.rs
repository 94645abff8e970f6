//! Every bad value of a single key.

use super::*;

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
    ("listener", "tls = true", "listener.tls", Some("true"), "is true or false", "`[listener.tls]`"),
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
    ("limits", "idle_timeout = \"4s\"", "limits.idle_timeout", None, "reconnect", "at least \"5s\""),
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
    ("previews", "calls_per_number = 101", "previews.calls_per_number", Some("101"), "not within 0 to 100", "100"),
    ("previews", "per_agent = 1025", "previews.per_agent", Some("1025"), "not within 1 to 1024", "1024"),
    ("previews", "max_agents = 10000001", "previews.max_agents", None, "not within 1 to 10000000", "10000000"),
    ("runtime", "workers = 1025", "runtime.workers", Some("1025"), "not within 0 to 1024", "1024"),
    ("validation", "reject_status = 500", "validation.reject_status", Some("500"), "not within 200 to 499", "499"),
    ("validation", "reject_status = 66000", "validation.reject_status", None, "not within 200 to 499", "499"),
    (
        "validation",
        "mode = \"strict\"",
        "validation.mode",
        Some("\"strict\""),
        "not an allowed value",
        "\"enforce\" or \"monitor\"",
    ),
    (
        "validation",
        "on_unknown_preview = \"\"",
        "validation.on_unknown_preview",
        None,
        "not an allowed value",
        "\"reject\"",
    ),
    ("log", "format = \"xml\"", "log.format", None, "not an allowed value", "\"json\" or \"text\""),
    ("log", "level = \"INFO\"", "log.level", None, "not an allowed value", "\"info\""),
    ("log", "access = \"some\"", "log.access", None, "not an allowed value", "\"callouts\""),
    (
        "previews.store",
        "kind = \"disk\"",
        "previews.store.kind",
        Some("\"disk\""),
        "not an allowed value",
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
    ("upstream", "path_prefixes = [\"/previewgate/\"]", "upstream.path_prefixes[0]", None, "reserved", "plain path"),
    ("upstream", "path_prefixes = [\"/ä/\"]", "upstream.path_prefixes[0]", None, "escaped", "plain path"),
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
    (
        "upstream",
        "balance = \"random\"",
        "upstream.balance",
        Some("\"random\""),
        "not an allowed value",
        "\"ordered\" or \"agent\"",
    ),
    ("upstream.probe", "kind = \"icmp\"", "upstream.probe.kind", Some("\"icmp\""), "not an allowed value", "\"tcp\""),
    ("upstream.probe", "kind = \"http\"", "upstream.probe.kind", None, "which needs a path", "add `path"),
    ("upstream.probe", "path = \"/x\"", "upstream.probe.path", None, "only an http probe", "kind = \"http\""),
    ("upstream.probe", "path = \"x\"", "upstream.probe.path", Some("\"x\""), "not a plain path", "harmless"),
    ("upstream.probe", "path = \"/agentEvent/1\"", "upstream.probe.path", None, "remove events", "harmless"),
    ("upstream.probe", "interval = \"10ms\"", "upstream.probe.interval", None, "too short", "at least \"1s\""),
    // Conflicts.
    ("admin", "address = \"0.0.0.0:8043\"", "admin.address", None, "same port", "its own port"),
    ("admin", "address = \"127.0.0.1:8043\"", "admin.address", None, "same port", "its own port"),
    ("listener", "address = \"127.0.0.1:9043\"", "listener.address", None, "same port", "its own port"),
    (
        "upstream.tls",
        "client_certificate = \"c\"",
        "upstream.tls.client_certificate",
        None,
        "no effect without",
        "both",
    ),
    (
        "upstream.tls",
        "client_private_key = \"k\"",
        "upstream.tls.client_private_key",
        None,
        "no effect without",
        "both",
    ),
];

#[test]
fn each_bad_value_is_reported_with_its_place_and_cure() {
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
fn defaults_are_as_documented() {
    let config = minimal();
    assert_eq!(config.listener.address.to_string(), "0.0.0.0:8043");
    assert_eq!(config.validation.mode, Mode::Enforce);
    assert_eq!(config.validation.on_unknown_preview, OnUnknownPreview::Reject);
    assert_eq!(config.limits.head_size, 32 * 1024);
    assert_eq!(config.upstream.response_timeout, Duration::from_secs(30));
    assert!(config.runtime.workers >= 1);
}
