//! Warnings about settings that are allowed but risky.

use super::redis::redis;
use super::*;

#[test]
fn warnings_name_the_key() {
    let quiet = document("listener", "address = \"127.0.0.1:8043\"");
    let quiet = quiet + "[audit]\ndirectory = \"audit\"\nsigning_key = \"audit.key\"\nnumber_keys = \"numbers\"\n";
    assert_eq!(skip(&quiet).unwrap().warnings(), Vec::<String>::new());
    let forwarding = skip(&(quiet + "on_failure = \"forward\"\n")).unwrap().warnings();
    assert!(matches!(&forwarding[..], [one] if one.starts_with("audit.on_failure:")), "{forwarding:?}");
    let unproved = |mode: &str| {
        let warnings = skip(&document("validation", mode)).unwrap().warnings();
        warnings.iter().any(|warning| warning.starts_with("audit:"))
    };
    assert!(unproved("mode = \"enforce\"") && !unproved("mode = \"monitor\""));
    for (table, line, key) in [
        ("listener", "address = \"[::]:8043\"", "listener.tls:"),
        ("listener", "trusted_proxies = [\"0.0.0.0/0\"]", "listener.trusted_proxies:"),
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
