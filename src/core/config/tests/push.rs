//! `[push]`.

use super::*;

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
fn push_settings_are_reported_with_their_place_and_cure() {
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
        ("sources = []", "push.sources", "is empty"),
        ("sources = [\"10.1.2.3/16\"]", "push.sources[0]", "not a network"),
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
