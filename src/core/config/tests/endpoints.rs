//! `[upstream]`: endpoints, and conflicts with them.

use super::*;

#[test]
fn each_bad_endpoint_is_reported_with_its_reason() {
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
    let shown: Vec<_> = config.upstream.endpoints.iter().map(|endpoint| endpoint.url.to_string()).collect();
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
