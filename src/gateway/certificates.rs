//! The certificate and key files of a configuration: their expiry, and whether one was replaced.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;

use crate::config::Config;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::CertificateRole;
use crate::tls;

/// Changes when the content of any certificate or key file does, also behind a symbolic link that was swapped.
pub fn certificate_fingerprint(config: &Config) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (path, _) in tls_files(config) {
        std::fs::read(path).ok().hash(&mut hasher);
    }
    hasher.finish()
}

/// Sets the expiry metric of each certificate that `config` names.
pub(super) fn report_expiry(config: &Config, metrics: &Metrics) {
    for role in CertificateRole::ALL {
        let file = tls_files(config).find_map(|(path, of)| (of == Some(*role)).then_some(path));
        metrics.process.certificate_not_after(*role, file.and_then(|path| tls::earliest_end(path)));
    }
}

/// The files, with the role of those that hold certificates.
fn tls_files(config: &Config) -> impl Iterator<Item = (&PathBuf, Option<CertificateRole>)> {
    let own = config.listener.tls.as_ref();
    let upstream = &config.upstream.tls;
    let push = config.push.as_ref();
    [
        (own.map(|tls| &tls.certificate), Some(CertificateRole::Server)),
        (own.map(|tls| &tls.private_key), None),
        (own.and_then(|tls| tls.client_ca.as_ref()), Some(CertificateRole::ClientCa)),
        (upstream.ca.as_ref(), Some(CertificateRole::UpstreamCa)),
        (upstream.client_certificate.as_ref(), Some(CertificateRole::UpstreamClient)),
        (upstream.client_private_key.as_ref(), None),
        (push.map(|push| &push.key), None),
        (push.and_then(|push| push.tls.ca.as_ref()), Some(CertificateRole::PushCa)),
    ]
    .into_iter()
    .filter_map(|(path, role)| Some((path?, role)))
}
