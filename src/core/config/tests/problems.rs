//! Several problems at once, and how they read.

use super::*;

#[test]
fn missing_required_keys_are_reported() {
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
fn problems_have_a_readable_form() {
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
fn a_required_proxy_header_needs_trusted_proxies() {
    let found = problems(&document("listener", "proxy_protocol = \"required\""));
    assert_eq!((found.len(), found[0].key.as_str(), found[0].line), (1, "listener.proxy_protocol", Some(4)));
    assert!(skip(&document("listener", "proxy_protocol = \"required\"\ntrusted_proxies = [\"10.0.0.5\"]")).is_ok());
}
