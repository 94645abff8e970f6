//! The certificate and key files of a configuration: their validity, and whether one was replaced.
//!
//! A generation remembers the validity of the certificates that it was built from, because the files may change later. A
//! valid certificate in force is never replaced by one that is expired or not valid yet.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::config::{Config, StoreKind};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::CertificateRole;
use crate::tls::{self, CertificateFault, CertificateNotice, Period};

/// The certificates that a configuration names, as their files were when they were read.
#[derive(Clone, Debug, Default)]
pub struct Certificates(Vec<CertificateFile>);

/// One file with certificates.
#[derive(Clone, Debug)]
struct CertificateFile {
    source: Source,
    /// Of each certificate in it, in order. Empty if the file cannot be read.
    periods: Vec<Period>,
}

/// A key of the configuration that names a file with certificates.
#[derive(Clone, Debug)]
struct Source {
    key: &'static str,
    path: PathBuf,
    role: CertificateRole,
}

/// A certificate that must not replace the one in force, which is valid.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{notice}; the certificate in force stays")]
pub struct UnfitCertificate {
    notice: CertificateNotice,
    /// When it becomes valid, if it is not valid yet.
    pub valid_from: Option<SystemTime>,
}

impl Certificates {
    /// Reads the certificates that `config` names.
    pub fn read(config: &Config) -> Self {
        let read = |source: Source| CertificateFile { periods: tls::periods(&source.path), source };
        Self(sources(config).into_iter().map(read).collect())
    }

    /// The notices for operators at `now`: for each file at most one, about its worst certificate.
    pub fn notices(&self, now: SystemTime) -> Vec<CertificateNotice> {
        self.0.iter().filter_map(|file| file.notice(now)).collect()
    }

    /// Whether these may replace `earlier` at `now`.
    ///
    /// # Errors
    /// When one of them is expired or not valid yet, and the one that it replaces is not.
    pub fn check_replacing(&self, earlier: &Self, now: SystemTime) -> Result<(), UnfitCertificate> {
        for file in &self.0 {
            let before = earlier.0.iter().find(|before| before.source.key == file.source.key);
            let was_unfit = before.is_some_and(|before| before.unfit(now).is_some());
            if let Some(notice) = file.unfit(now).filter(|_| !was_unfit) {
                let valid_from = (notice.fault == CertificateFault::NotYetValid).then_some(notice.at);
                return Err(UnfitCertificate { notice, valid_from });
            }
        }
        Ok(())
    }

    /// Sets the expiry metric of each role.
    pub(super) fn report_expiry(&self, metrics: &Metrics) {
        // The certificates that endpoints show are reported when they are seen.
        for role in CertificateRole::ALL.iter().filter(|role| **role != CertificateRole::Upstream) {
            let of_role = self.0.iter().filter(|file| file.source.role == *role);
            let end = of_role.flat_map(|file| &file.periods).map(|period| period.end).min();
            metrics.process.certificate_not_after(*role, end);
        }
    }
}

impl CertificateFile {
    fn notices(&self, now: SystemTime) -> impl Iterator<Item = CertificateNotice> {
        let several = self.periods.len() > 1;
        self.periods.iter().enumerate().filter_map(move |(position, period)| {
            let Source { key, path, .. } = &self.source;
            let mut place = format!("{key} {}", path.display());
            if several {
                place.push_str(&format!(" (certificate {} of {})", position + 1, self.periods.len()));
            }
            CertificateNotice::about(place, *period, now)
        })
    }

    /// The notice about the worst certificate of the file.
    fn notice(&self, now: SystemTime) -> Option<CertificateNotice> {
        self.unfit(now).or_else(|| self.notices(now).min_by_key(|notice| (notice.fault, notice.at)))
    }

    /// Why the file cannot be used now. A chain cannot be used if one of its certificates is not valid. A set of CAs cannot be
    /// used if none of them is valid.
    fn unfit(&self, now: SystemTime) -> Option<CertificateNotice> {
        let mut bad: Vec<_> =
            self.notices(now).filter(|notice| notice.fault != CertificateFault::ExpiresSoon).collect();
        if self.source.role.is_set_of_authorities() && bad.len() < self.periods.len() {
            return None;
        }
        bad.sort_by_key(|notice| (notice.fault, notice.at));
        bad.into_iter().next()
    }
}

/// A number that changes with the content of any certificate or key file, also if a symbolic link leads to another file.
pub fn certificate_fingerprint(config: &Config) -> u64 {
    let mut hasher = DefaultHasher::new();
    let certificates = sources(config);
    for path in certificates.iter().map(|source| &*source.path).chain(key_files(config)) {
        std::fs::read(path).ok().hash(&mut hasher);
    }
    hasher.finish()
}

/// The files with certificates.
fn sources(config: &Config) -> Vec<Source> {
    let own = config.listener.tls.as_ref();
    let upstream = &config.upstream.tls;
    let push = config.push.as_ref();
    let redis = match &config.previews.store {
        StoreKind::Memory => None,
        StoreKind::Redis(redis) => redis.ca.as_ref(),
    };
    [
        ("listener.tls.certificate", own.map(|tls| &tls.certificate), CertificateRole::Server),
        ("listener.tls.client_ca", own.and_then(|tls| tls.client_ca.as_ref()), CertificateRole::ClientCa),
        ("upstream.tls.ca", upstream.ca.as_ref(), CertificateRole::UpstreamCa),
        ("upstream.tls.client_certificate", upstream.client_certificate.as_ref(), CertificateRole::UpstreamClient),
        ("push.tls.ca", push.and_then(|push| push.tls.ca.as_ref()), CertificateRole::PushCa),
        ("previews.store.ca", redis, CertificateRole::StoreCa),
    ]
    .into_iter()
    .filter_map(|(key, path, role)| Some(Source { key, path: path?.clone(), role }))
    .collect()
}

/// The files with keys.
fn key_files(config: &Config) -> impl Iterator<Item = &Path> {
    let own = config.listener.tls.as_ref().map(|tls| &*tls.private_key);
    let client = config.upstream.tls.client_private_key.as_deref();
    let push = config.push.as_ref().map(|push| &*push.key);
    [own, client, push].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn at(day: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * day
    }

    fn file(role: CertificateRole, periods: &[(u32, u32)]) -> Certificates {
        let periods = periods.iter().map(|(begin, end)| Period { begin: at(*begin), end: at(*end) }).collect();
        let source = Source { key: "listener.tls.certificate", path: "/tls/a.crt".into(), role };
        Certificates(vec![CertificateFile { source, periods }])
    }

    fn faults(certificates: &Certificates, day: u32) -> Vec<CertificateFault> {
        certificates.notices(at(day)).iter().map(|notice| notice.fault).collect()
    }

    #[test]
    fn notices_come_30_days_before_the_end() {
        let certificates = file(CertificateRole::Server, &[(100, 200)]);
        for (day, expected) in [
            (99, Some(CertificateFault::NotYetValid)),
            (100, None),
            (169, None),
            (171, Some(CertificateFault::ExpiresSoon)),
            (200, Some(CertificateFault::ExpiresSoon)),
            (201, Some(CertificateFault::Expired)),
        ] {
            assert_eq!(faults(&certificates, day), expected.into_iter().collect::<Vec<_>>(), "{day}");
        }
        let notices = certificates.notices(at(201)).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            notices,
            ["listener.tls.certificate /tls/a.crt: the certificate has expired (1970-07-20T00:00:00Z)"]
        );
    }

    #[test]
    fn the_worst_certificate_of_a_file_is_named() {
        let chain = file(CertificateRole::Server, &[(0, 1000), (0, 205), (0, 100), (0, 220)]);
        let notices = chain.notices(at(200));
        assert_eq!(notices.len(), 1, "{notices:?}");
        assert!(notices[0].to_string().contains("(certificate 3 of 4): the certificate has expired"), "{notices:?}");
    }

    #[test]
    fn a_valid_certificate_is_not_replaced_by_one_that_is_not() {
        use CertificateRole::{ClientCa, Server, StoreCa, UpstreamCa, UpstreamClient};
        const GOOD: (u32, u32) = (0, 1000);
        const OLD: (u32, u32) = (0, 100);
        const COMING: (u32, u32) = (300, 1000);
        let replaces =
            |role, new: &[(u32, u32)], old: &[(u32, u32)]| file(role, new).check_replacing(&file(role, old), at(200));
        for role in [Server, UpstreamClient, ClientCa, UpstreamCa, StoreCa] {
            assert!(replaces(role, &[GOOD], &[GOOD]).is_ok());
            assert!(replaces(role, &[GOOD], &[OLD]).is_ok());
            assert!(replaces(role, &[OLD], &[OLD]).is_ok(), "nothing is lost");
            assert!(replaces(role, &[(0, 201)], &[GOOD]).is_ok(), "it is valid, if only for a day");
            assert_eq!(replaces(role, &[OLD], &[GOOD]).unwrap_err().valid_from, None);
            assert_eq!(replaces(role, &[COMING], &[GOOD]).unwrap_err().valid_from, Some(at(300)));
            assert!(file(role, &[OLD]).check_replacing(&Certificates::default(), at(200)).is_err(), "a new key");
        }
        for (role, is_refused) in [(Server, true), (UpstreamClient, true), (ClientCa, false), (UpstreamCa, false)] {
            assert_eq!(replaces(role, &[GOOD, OLD], &[GOOD]).is_err(), is_refused, "{role:?}");
            assert_eq!(faults(&file(role, &[GOOD, OLD]), 200), [CertificateFault::Expired], "{role:?}");
        }
    }
}
