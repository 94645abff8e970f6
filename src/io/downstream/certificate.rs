//! The certificate that a client has shown, as logs name it.

use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;

/// The longest subject in a log line, in characters.
const MAX_SUBJECT: usize = 256;

/// Who a client is by its certificate. Every log line of the connection has it as text, so the text is made once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The subject: `CN=agent-desktop-17, O=Example`.
    pub subject: Box<str>,
    /// SHA-256 of the certificate, in hexadecimal digits.
    pub sha256: Box<str>,
}

impl ClientCertificate {
    /// Reads a certificate. A subject that cannot be read is empty.
    pub fn new(certificate: &CertificateDer<'_>) -> Self {
        let subject = x509_parser::parse_x509_certificate(certificate).map(|(_, parsed)| parsed.subject().to_string());
        let subject: String = subject.unwrap_or_default().chars().take(MAX_SUBJECT).collect();
        let mut sha256 = String::new();
        for byte in digest(&SHA256, certificate).as_ref() {
            // Writing into a string cannot fail.
            let _ = write!(sha256, "{byte:02x}");
        }
        Self { subject: subject.into(), sha256: sha256.into() }
    }
}
