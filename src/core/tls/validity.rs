//! When a certificate is valid, and what an operator should know about it.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A certificate that ends within this time is reported.
const SOON: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// The first moment.
    pub begin: SystemTime,
    /// The last moment.
    pub end: SystemTime,
}

impl Period {
    /// Of a certificate in DER; `None` if it cannot be read.
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let validity = parsed.validity();
        Some(Self { begin: time(validity.not_before.timestamp()), end: time(validity.not_after.timestamp()) })
    }
}

/// Seconds since the Unix epoch as a time. No certificate of today is older than the epoch.
fn time(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// What is wrong with a certificate at some time, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CertificateFault {
    /// It has ended.
    Expired,
    /// It has not begun.
    NotYetValid,
    /// It ends soon.
    ExpiresSoon,
}

/// A certificate that an operator should replace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateNotice {
    /// What is wrong with it.
    pub fault: CertificateFault,
    /// Where it comes from: a key and a file, or an endpoint.
    place: String,
    /// The time at which it begins or ends.
    pub at: SystemTime,
}

/// `KEY PATH: the certificate has expired (TIME)`
impl fmt::Display for CertificateNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, place, at } = self;
        let at = humantime::format_rfc3339_seconds(*at);
        match fault {
            CertificateFault::Expired => write!(f, "{place}: the certificate has expired ({at})"),
            CertificateFault::NotYetValid => write!(f, "{place}: the certificate is not valid yet (from {at})"),
            CertificateFault::ExpiresSoon => write!(f, "{place}: the certificate expires soon ({at})"),
        }
    }
}

impl CertificateNotice {
    /// What is wrong at `now` with a certificate from `place` that is valid during `period`, if anything is.
    pub fn about(place: impl Into<String>, period: Period, now: SystemTime) -> Option<Self> {
        let (fault, at) = if now > period.end {
            (CertificateFault::Expired, period.end)
        } else if now < period.begin {
            (CertificateFault::NotYetValid, period.begin)
        } else if now + SOON > period.end {
            (CertificateFault::ExpiresSoon, period.end)
        } else {
            return None;
        };
        Some(Self { fault, place: place.into(), at })
    }

    /// Logs it, in one line.
    pub fn log(&self) {
        match self.fault {
            CertificateFault::Expired | CertificateFault::NotYetValid => {
                tracing::error!(target: "previewgate::certificates", "{self}");
            }
            CertificateFault::ExpiresSoon => tracing::warn!(target: "previewgate::certificates", "{self}"),
        }
    }
}
