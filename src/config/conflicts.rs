//! What is wrong only between two keys, each of which is fine by itself.

use std::net::SocketAddr;
use std::path::Path;

use super::addresses::Scheme;
use super::files;
use super::model::{Config, ProbeKind, StoreKind};
use super::reading::{Files, Reading};

/// Records every conflict among the sound keys of `config`.
pub(super) fn find(config: &Config, reading: &mut Reading<'_>) {
    one_port_twice(config, reading);
    mixed_schemes(config, reading);
    endpoint_twice(config, reading);
    probe_without_target(config, reading);
    tls_for_nobody(config, reading);
    half_an_identity(reading);
    redis_for_nobody(config, reading);
    redis_settings(config, reading);
    if let Some(tls) = &config.listener.tls {
        let keys = ["listener.tls.certificate", "listener.tls.private_key"];
        foreign_key(keys, &tls.certificate, &tls.private_key, reading);
    }
    let tls = &config.upstream.tls;
    if let (Some(certificate), Some(key)) = (&tls.client_certificate, &tls.client_private_key) {
        foreign_key(["upstream.tls.client_certificate", "upstream.tls.client_private_key"], certificate, key, reading);
    }
}

fn one_port_twice(config: &Config, reading: &mut Reading<'_>) {
    let sound = reading.is_sound("listener.address") && reading.is_sound("admin.address");
    if sound && overlap(config.listener.address, config.admin.address) {
        // Either may stand at its default: point at the one that is written.
        let key = if reading.mentions("admin.address") { "admin.address" } else { "listener.address" };
        let message = format!(
            "listener.address {} and admin.address {} are the same port",
            config.listener.address, config.admin.address
        );
        reading.conflict(key, &message, "give each its own port, such as 8043 and 9043");
    }
}

/// An address and a wildcard of the same port overlap too: the second to bind would fail, or take connections away.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let same_ip = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    same_ip && one.port() == other.port() && one.port() != 0
}

fn mixed_schemes(config: &Config, reading: &mut Reading<'_>) {
    let endpoints = &config.upstream.endpoints;
    let Some(first) = endpoints.first() else { return };
    if let Some(other) = endpoints.iter().find(|endpoint| endpoint.scheme != first.scheme) {
        let message = format!("mixes schemes: {first} and {other}");
        let cure = "write all with https (or all with http): a failover must not change the protection";
        reading.conflict("upstream.endpoints", &message, cure);
    }
}

/// The list has seen to entries that are the same in everything; these differ in their node, or have it in common.
fn endpoint_twice(config: &Config, reading: &mut Reading<'_>) {
    if !reading.is_sound("upstream.endpoints") {
        return;
    }
    let endpoints = &config.upstream.endpoints;
    for (position, endpoint) in endpoints.iter().enumerate() {
        let key = format!("upstream.endpoints[{position}]");
        let mut earlier = endpoints.iter().take(position);
        if earlier.clone().any(|other| other.to_string() == endpoint.to_string()) {
            reading.conflict(&key, &format!("{endpoint} stands in the list twice"), "remove one of them");
        } else if endpoint.node.is_some() && earlier.any(|other| other.node == endpoint.node) {
            reading.conflict(&key, "names a node that another endpoint names too", "give each endpoint its own node");
        }
    }
}

fn probe_without_target(config: &Config, reading: &mut Reading<'_>) {
    let probe = &config.upstream.probe;
    if !reading.is_sound("upstream.probe.path") || !reading.is_sound("upstream.probe.kind") {
        return;
    }
    let encrypted = config.upstream.endpoints.iter().any(|endpoint| endpoint.scheme == Scheme::Https);
    match (probe.kind, &probe.path) {
        (Some(ProbeKind::Http), None) => {
            let cure = "add `path = \"/agentgateway/\"` to [upstream.probe]";
            reading.conflict("upstream.probe.kind", "an http probe needs a path to ask for", cure);
        }
        (kind, Some(_)) if kind != Some(ProbeKind::Http) => {
            let cure = "write kind = \"http\", or remove the path";
            reading.conflict("upstream.probe.path", "only an http probe has a path", cure);
        }
        (Some(ProbeKind::Tls), _) if !encrypted && reading.is_sound("upstream.endpoints") => {
            let cure = "write kind = \"tcp\", or https:// in upstream.endpoints";
            reading.conflict("upstream.probe.kind", "a tls probe, but no endpoint is https", cure);
        }
        _ => {}
    }
}

fn tls_for_nobody(config: &Config, reading: &mut Reading<'_>) {
    let endpoints = &config.upstream.endpoints;
    let sound = reading.is_sound("upstream.endpoints") && reading.is_sound("upstream.tls");
    let plain = sound && endpoints.iter().all(|endpoint| endpoint.scheme == Scheme::Http);
    if plain && reading.mentions("upstream.tls") {
        let cure = "write https:// in upstream.endpoints, or remove [upstream.tls]";
        reading.conflict("upstream.tls", "settings for TLS, but no endpoint is https", cure);
    }
}

fn half_an_identity(reading: &mut Reading<'_>) {
    let keys = ["upstream.tls.client_certificate", "upstream.tls.client_private_key"];
    for (there, absent) in [(keys[0], keys[1]), (keys[1], keys[0])] {
        if reading.mentions(there) && !reading.mentions(absent) {
            reading.conflict(there, &format!("is nothing without {absent}"), "set both, or neither");
        }
    }
}

fn redis_for_nobody(config: &Config, reading: &mut Reading<'_>) {
    let sound = reading.is_sound("previews.store.kind");
    if sound && config.previews.store == StoreKind::Memory {
        let keys = ["url", "username", "password_file", "ca", "prefix", "timeout", "on_store_failure"];
        let key = keys.map(|key| format!("previews.store.{key}")).into_iter().find(|key| reading.mentions(key));
        if let Some(key) = key {
            let cure = "write kind = \"redis\" in [previews.store], or remove the keys beside kind";
            reading.conflict(&key, "is a setting for Redis, but previews are kept in memory", cure);
        }
    }
}

fn redis_settings(config: &Config, reading: &mut Reading<'_>) {
    let StoreKind::Redis(redis) = &config.previews.store else { return };
    let (ca, username, password) = ("previews.store.ca", "previews.store.username", "previews.store.password_file");
    if reading.is_sound("previews.store.url") && !redis.url.tls && reading.mentions(ca) {
        let cure = "write rediss:// in previews.store.url, or remove ca";
        reading.conflict(ca, "is a setting for TLS, but the url is not rediss", cure);
    }
    if reading.mentions(username) && !reading.mentions(password) {
        reading.conflict(username, "is nothing without previews.store.password_file", "set both, or neither");
    }
}

fn foreign_key(keys: [&str; 2], certificate: &Path, private_key: &Path, reading: &mut Reading<'_>) {
    if reading.files == Files::Skip || !keys.iter().all(|key| reading.is_sound(key)) {
        return;
    }
    let [certificate_key, private_key_key] = keys;
    match files::mismatch(certificate, private_key) {
        None => {}
        Some(rustls::Error::InconsistentKeys(_)) => {
            let message = format!("is not the private key of the first certificate in {}", certificate.display());
            reading.conflict(
                private_key_key,
                &message,
                "name the pair; the chain begins with the server's own certificate",
            );
        }
        Some(error) => {
            let message = format!("certificate and private key cannot be used: {error}");
            reading.conflict(certificate_key, &message, "issue them anew, with an RSA, ECDSA or Ed25519 key");
        }
    }
}
