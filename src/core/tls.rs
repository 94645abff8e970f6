//! The parts of TLS that all sides use: PEM files and the crypto provider.

mod validity;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use validity::{CertificateFault, CertificateNotice, Period};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be read.
    #[error("{}: {source}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// The error in it.
        source: rustls::pki_types::pem::Error,
    },
    /// A PEM file without a certificate. Most likely another program is still writing it.
    #[error("{}: holds no certificate", .0.display())]
    Empty(PathBuf),
    /// Certificates and keys that do not work together.
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
    /// A set of root certificates that cannot be used.
    #[error("the client CA cannot be used: {0}")]
    ClientCa(#[from] rustls::server::VerifierBuilderError),
    /// The system has no root certificates and none are configured.
    #[error("the system has no root certificates: set `ca` in [upstream.tls] or [push.tls]")]
    NoRoots,
    /// A name that cannot be verified against a certificate.
    #[error("{0} is neither a DNS name nor an IP address")]
    ServerName(String),
}

/// The only crypto provider of this program. It is always passed explicitly: rustls panics at run time if it must
/// choose between two.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// All certificates of a PEM file, at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| TlsError::Pem { path: path.to_owned(), source })?;
    if certificates.is_empty() { Err(TlsError::Empty(path.to_owned())) } else { Ok(certificates) }
}

/// The first private key of a PEM file.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|source| TlsError::Pem { path: path.to_owned(), source })
}

/// The certificates of a PEM file as roots to verify against.
pub fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

/// When the certificates in a PEM file are valid, in the order of the file; none if the file cannot be read.
pub fn periods(path: &Path) -> Vec<Period> {
    certificates(path).unwrap_or_default().iter().filter_map(|certificate| Period::of(certificate)).collect()
}
