//! The effective configuration, printed and read again, is the same.

use proptest::prelude::*;

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
