//! `[previews.store]` with `kind = "redis"`.

use super::*;

/// `[previews.store]` with a line or two beside `kind` and `url`.
pub(super) fn redis(url: &str, lines: &str) -> String {
    document("previews.store", &format!("kind = \"redis\"\nurl = {url:?}\n{lines}"))
}

#[test]
fn each_bad_redis_setting_is_reported_with_its_reason() {
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
        ("redis+sentinel://a,b", "", "url", "no name of a master", "/MASTER"),
        ("redis+sentinel://a,,b/m", "", "url", "neither a DNS name", ""),
        ("redis+sentinel://a/m/x", "", "url", "no database number", "/MASTER"),
        ("redis+cluster://a,b/0", "prefix = \"{p}\"", "url", "has a path", "redis+cluster://HOST"),
        ("redis+cluster://a,,b", "prefix = \"{p}\"", "url", "neither a DNS name", ""),
        ("redis+clusters://a", "", "url", "neither rediss nor redis", "rediss://HOST"),
        ("redis+cluster://a", "", "prefix", "no part in braces", "{previewgate}:"),
        ("redis+cluster://a", "prefix = \"p{}:\"", "prefix", "no part in braces", "{previewgate}:"),
        ("redis+cluster://a", "prefix = \"}p{\"", "prefix", "no part in braces", "{previewgate}:"),
        ("redis://h", "ca = \"ca.crt\"", "ca", "is not rediss", "rediss://"),
        ("redis://h", "username = \"u\"", "username", "no effect without", "set both"),
        ("redis://h", "username = \"u v\"\npassword_file = \"p\"", "username", "other characters", "visible"),
        ("redis://h", "prefix = \"\"", "prefix", "is empty", "1 to 64"),
        ("redis://h", "timeout = \"2s\"", "timeout", "too long", "at most \"1s\""),
        ("redis://h", "on_store_failure = \"ignore\"", "on_store_failure", "not an allowed value", "\"local\""),
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
fn each_setting_for_redis_is_reported_if_previews_are_kept_in_memory() {
    let keys: Vec<_> = describe_keys().into_iter().map(|description| description.key).collect();
    let settings: Vec<_> = keys.iter().filter_map(|key| key.strip_prefix("previews.store.")).collect();
    assert!(settings.len() > 5, "{settings:?}");
    for name in settings.into_iter().filter(|name| *name != "kind") {
        let found = problems(&document("previews.store", &format!("{name} = \"x\"")));
        assert_eq!((found.len(), found[0].key.as_str()), (1, format!("previews.store.{name}").as_str()), "{found:#?}");
        assert!(found[0].message.contains("is a setting for Redis"), "{}", found[0]);
    }
}

#[test]
fn a_cluster_is_named_by_its_nodes() {
    for (url, shown) in [
        ("redis+cluster://a,b:7001,[::1]", "redis+cluster://a:6379,b:7001,[::1]:6379"),
        ("REDISS+CLUSTER://a:1/", "rediss+cluster://a:1"),
    ] {
        let config = skip(&redis(url, "prefix = \"x{previewgate}:\"")).unwrap();
        let StoreKind::Redis(store) = &config.previews.store else { panic!("{url}") };
        assert_eq!(store.url.to_string(), shown);
        assert_eq!(skip(&config.to_toml()).unwrap(), config);
    }
}

#[test]
fn redis_has_defaults_and_survives() {
    for (url, shown) in [
        ("redis://Redis.Example", "redis://redis.example:6379/0"),
        ("REDISS://[2001:db8::1]:7000/3", "rediss://[2001:db8::1]:7000/3"),
        ("redis://10.0.0.1/", "redis://10.0.0.1:6379/0"),
        ("redis+sentinel://a,b:1,[::1]/mymaster", "redis+sentinel://a:26379,b:1,[::1]:26379/mymaster/0"),
        ("rediss+sentinel://a/m/3", "rediss+sentinel://a:26379/m/3"),
    ] {
        let config = skip(&redis(url, "")).unwrap();
        let StoreKind::Redis(store) = &config.previews.store else { panic!("{url}") };
        assert_eq!(store.url.to_string(), shown);
        assert_eq!((store.prefix.as_str(), store.timeout), ("previewgate:", Duration::from_millis(200)));
        assert_eq!(store.on_store_failure, OnStoreFailure::Local);
        assert_eq!(skip(&config.to_toml()).unwrap(), config);
    }
}
