//! Contradictions between two keys, each of which is valid by itself.

use std::net::SocketAddr;
use std::path::Path;

use super::document::{Document, Files};
use super::files;
use super::keys;
use super::model::{Config, ProbeKind, ProxyProtocol, StoreKind};
use super::redis::{Discovery, hash_tag};
use super::tenants::MAX_TENANTS;
use crate::endpoint_url::Scheme;

/// Records every conflict among the sound keys of `config`.
pub(super) fn find(config: &Config, document: &mut Document<'_>) {
    one_port_twice(config, document);
    unknown_senders(config, document);
    ambiguous_tenants(config, document);
    mixed_schemes(config, document);
    endpoint_twice(config, document);
    probe_without_target(config, document);
    tls_without_https(config, document);
    incomplete_identity(document);
    redis_keys_without_redis(config, document);
    redis_settings(config, document);
    audit_keys_among_records(config, document);
    if let Some(tls) = &config.listener.tls {
        let keys = ["listener.tls.certificate", "listener.tls.private_key"];
        mismatched_key(keys, &tls.certificate, &tls.private_key, document);
    }
    let tls = &config.upstream.tls;
    if let (Some(certificate), Some(key)) = (&tls.client_certificate, &tls.client_private_key) {
        mismatched_key(
            ["upstream.tls.client_certificate", "upstream.tls.client_private_key"],
            certificate,
            key,
            document,
        );
    }
}

/// Auditors get the records, and must not get the keys with them.
fn audit_keys_among_records(config: &Config, document: &mut Document<'_>) {
    let Some(audit) = &config.audit else { return };
    for (key, path) in [("audit.signing_key", &audit.signing_key), ("audit.number_keys", &audit.number_keys)] {
        if document.is_sound("audit.directory") && document.is_sound(key) && path.starts_with(&audit.directory) {
            let cure = "keep keys elsewhere: records are copied and handed to others";
            document.conflict(key, "is inside audit.directory", cure);
        }
    }
}

fn one_port_twice(config: &Config, document: &mut Document<'_>) {
    let sound = document.is_sound("listener.address") && document.is_sound("admin.address");
    if sound && overlap(config.listener.address, config.admin.address) {
        // One of them may be a default: the problem names the one in the document.
        let key = if document.mentions("admin.address") { "admin.address" } else { "listener.address" };
        let message = format!(
            "listener.address {} and admin.address {} are the same port",
            config.listener.address, config.admin.address
        );
        document.conflict(key, &message, "give each its own port, such as 8043 and 9043");
    }
}

/// An address and a wildcard with the same port overlap too: the second bind would fail, or take connections from the
/// first.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let same_ip = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    same_ip && one.port() == other.port() && one.port() != 0
}

/// A PROXY header sets the address of the client, so the configuration must name its senders.
fn unknown_senders(config: &Config, document: &mut Document<'_>) {
    let required = config.listener.proxy_protocol == ProxyProtocol::Required;
    if required && document.is_sound("listener.proxy_protocol") && !document.mentions("listener.trusted_proxies") {
        let cure = "add `trusted_proxies = [\"10.0.0.0/24\"]` to [listener]: the load balancers that send the header";
        document.conflict(
            "listener.proxy_protocol",
            "is \"required\", but no proxy is trusted to send the header",
            cure,
        );
    }
}

/// Each agent and each node belongs to one tenant.
fn ambiguous_tenants(config: &Config, document: &mut Document<'_>) {
    let tenants = config.tenants.as_deref().unwrap_or_default();
    if !document.is_sound("tenants") {
        return;
    }
    if tenants.len() > MAX_TENANTS {
        let message = format!("has {} tenants", tenants.len());
        document.conflict("tenants", &message, "name at most 100, because each one has its own series in the metrics");
    }
    for (position, tenant) in tenants.iter().enumerate() {
        let mut earlier = tenants.iter().take(position);
        let key = format!("tenants[{position}]");
        if earlier.clone().any(|other| other.name == tenant.name) {
            document.conflict(&key, "has the name of another tenant", "give each tenant its own name");
        } else if let Some(other) = earlier.find(|other| other.overlaps(tenant)) {
            let message = format!("has an agent or a node of the tenant {}", other.name);
            document.conflict(&key, &message, "give each agent and each node to one tenant");
        }
    }
}

fn mixed_schemes(config: &Config, document: &mut Document<'_>) {
    let endpoints = &config.upstream.endpoints;
    let Some(first) = endpoints.first().map(|first| &first.url) else { return };
    if let Some(other) = endpoints.iter().map(|endpoint| &endpoint.url).find(|url| url.scheme != first.scheme) {
        let message = format!("mixes schemes: {first} and {other}");
        let cure = "write all with https (or all with http): a failover must not change the protection";
        document.conflict("upstream.endpoints", &message, cure);
    }
}

/// Equal elements are found when the list is read. This finds equal URLs with different nodes, and equal nodes.
fn endpoint_twice(config: &Config, document: &mut Document<'_>) {
    if !document.is_sound("upstream.endpoints") {
        return;
    }
    let endpoints = &config.upstream.endpoints;
    for (position, endpoint) in endpoints.iter().enumerate() {
        let key = format!("upstream.endpoints[{position}]");
        let mut earlier = endpoints.iter().take(position);
        if earlier.clone().any(|other| other.url == endpoint.url) {
            document.conflict(&key, &format!("{} is in the list twice", endpoint.url), "remove one of them");
        } else if endpoint.node.is_some() && earlier.any(|other| other.node == endpoint.node) {
            document.conflict(&key, "names the same node as another endpoint", "give each endpoint its own node");
        }
    }
}

fn probe_without_target(config: &Config, document: &mut Document<'_>) {
    let probe = &config.upstream.probe;
    if !document.is_sound("upstream.probe.path") || !document.is_sound("upstream.probe.kind") {
        return;
    }
    let encrypted = config.upstream.endpoints.iter().any(|endpoint| endpoint.url.scheme == Scheme::Https);
    match (probe.kind, &probe.path) {
        (Some(ProbeKind::Http), None) => {
            let cure = "add `path = \"/agentgateway/\"` to [upstream.probe]";
            document.conflict("upstream.probe.kind", "is an http probe, which needs a path", cure);
        }
        (kind, Some(_)) if kind != Some(ProbeKind::Http) => {
            let cure = "write kind = \"http\", or remove the path";
            document.conflict("upstream.probe.path", "is a path, but only an http probe has one", cure);
        }
        (Some(ProbeKind::Tls), _) if !encrypted && document.is_sound("upstream.endpoints") => {
            let cure = "write kind = \"tcp\", or https:// in upstream.endpoints";
            document.conflict("upstream.probe.kind", "is a tls probe, but no endpoint is https", cure);
        }
        _ => {}
    }
}

fn tls_without_https(config: &Config, document: &mut Document<'_>) {
    let endpoints = &config.upstream.endpoints;
    let sound = document.is_sound("upstream.endpoints") && document.is_sound("upstream.tls");
    let plain = sound && endpoints.iter().all(|endpoint| endpoint.url.scheme == Scheme::Http);
    if plain && document.mentions("upstream.tls") {
        let cure = "write https:// in upstream.endpoints, or remove [upstream.tls]";
        document.conflict("upstream.tls", "has settings for TLS, but no endpoint is https", cure);
    }
}

fn incomplete_identity(document: &mut Document<'_>) {
    let keys = ["upstream.tls.client_certificate", "upstream.tls.client_private_key"];
    for (there, absent) in [(keys[0], keys[1]), (keys[1], keys[0])] {
        if document.mentions(there) && !document.mentions(absent) {
            document.conflict(there, &format!("has no effect without {absent}"), "set both, or neither");
        }
    }
}

fn redis_keys_without_redis(config: &Config, document: &mut Document<'_>) {
    let sound = document.is_sound("previews.store.kind");
    if sound && config.previews.store == StoreKind::Memory {
        let of_redis = |key: &str| key.starts_with("previews.store.") && key != "previews.store.kind";
        let keys = keys::describe().into_iter().map(|description| description.key);
        if let Some(key) = keys.filter(|key| of_redis(key)).find(|key| document.mentions(key)) {
            let cure = "write kind = \"redis\" in [previews.store], or remove the keys beside kind";
            document.conflict(&key, "is a setting for Redis, but previews are kept in memory", cure);
        }
    }
}

fn redis_settings(config: &Config, document: &mut Document<'_>) {
    let StoreKind::Redis(redis) = &config.previews.store else { return };
    let (ca, username, password) = ("previews.store.ca", "previews.store.username", "previews.store.password_file");
    if document.is_sound("previews.store.url") && !redis.url.tls && document.mentions(ca) {
        let cure = "write rediss:// in previews.store.url, or remove ca";
        document.conflict(ca, "is a setting for TLS, but the url is not rediss", cure);
    }
    let prefix = "previews.store.prefix";
    let is_cluster = matches!(redis.url.discovery, Discovery::Cluster(_));
    if is_cluster && document.is_sound(prefix) && hash_tag(&redis.prefix).is_none() {
        let cure = "write prefix = \"{previewgate}:\", and let the ACL user have ~{previewgate}:* and &{previewgate}:*";
        document.conflict(prefix, "has no part in braces, so a cluster would spread the keys over its nodes", cure);
    }
    if document.mentions(username) && !document.mentions(password) {
        document.conflict(username, "has no effect without previews.store.password_file", "set both, or neither");
    }
}

fn mismatched_key(keys: [&str; 2], certificate: &Path, private_key: &Path, document: &mut Document<'_>) {
    if document.files == Files::Skip || !keys.iter().all(|key| document.is_sound(key)) {
        return;
    }
    let [certificate_key, private_key_key] = keys;
    match files::mismatch(certificate, private_key) {
        None => {}
        Some(rustls::Error::InconsistentKeys(_)) => {
            let message = format!("is not the private key of the first certificate in {}", certificate.display());
            document.conflict(
                private_key_key,
                &message,
                "name the pair; the chain begins with the server's own certificate",
            );
        }
        Some(error) => {
            let message = format!("certificate and private key cannot be used: {error}");
            document.conflict(certificate_key, &message, "issue a new pair, with an RSA, ECDSA or Ed25519 key");
        }
    }
}
