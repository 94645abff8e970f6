//! Throw-away certificates, for the demo, the simulated CC-Gateway and the tests.
//!
//! Each call makes a new certificate authority, so that a client that trusts one simulator trusts no other.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// The crypto provider of every simulated endpoint. It is passed explicitly, because the process may have no default.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A leaf certificate, its key, and the authority that signed it: all PEM, all ECDSA P-256.
#[derive(Clone)]
pub struct SelfSigned {
    /// The leaf, followed by the authority.
    pub certificate: String,
    /// The leaf's private key, PKCS #8.
    pub private_key: String,
    /// The authority's certificate: what a client puts into its trust store.
    pub ca: String,
}

impl std::fmt::Debug for SelfSigned {
    /// Shows no field: one of them is a private key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SelfSigned").finish_non_exhaustive()
    }
}

/// Makes a certificate authority and a leaf for these DNS names and IP addresses, fit for servers and for clients.
pub fn self_signed(names: &[&str]) -> io::Result<SelfSigned> {
    Authority::new()?.issue(names)
}

/// A throw-away certificate authority that can issue several leaves: one for each side of mutual TLS.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// Makes a key and a certificate of its own.
    pub fn new() -> io::Result<Self> {
        Self::with(|_| {})
    }

    /// The authority's certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Makes a key and a certificate of its own that is valid during this period.
    pub fn valid(period: Range<SystemTime>) -> io::Result<Self> {
        Self::with(|params| limit(params, period))
    }

    fn with(adjust: impl FnOnce(&mut CertificateParams)) -> io::Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "previewgate simulator throw-away CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        adjust(&mut params);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(io::Error::other)?;
        CertifiedIssuer::self_signed(params, key).map(Self).map_err(io::Error::other)
    }

    /// Signs a leaf for these DNS names and IP addresses.
    pub fn issue(&self, names: &[&str]) -> io::Result<SelfSigned> {
        self.issue_with(names, |_| {})
    }

    /// Signs a leaf that is valid during this period.
    pub fn issue_valid(&self, names: &[&str], period: Range<SystemTime>) -> io::Result<SelfSigned> {
        self.issue_with(names, |params| limit(params, period))
    }

    fn issue_with(&self, names: &[&str], adjust: impl FnOnce(&mut CertificateParams)) -> io::Result<SelfSigned> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names.clone()).map_err(io::Error::other)?;
        if let Some(name) = names.into_iter().next() {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        adjust(&mut params);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(io::Error::other)?;
        let leaf = params.signed_by(&key, &self.0).map_err(io::Error::other)?;
        Ok(SelfSigned { certificate: leaf.pem() + &self.pem(), private_key: key.serialize_pem(), ca: self.pem() })
    }
}

/// Makes a certificate valid during `period` only, in whole seconds.
fn limit(params: &mut CertificateParams, period: Range<SystemTime>) {
    params.not_before = period.start.into();
    params.not_after = period.end.into();
}

impl SelfSigned {
    /// A server with this certificate that asks its clients for none.
    pub fn server_config(&self) -> io::Result<Arc<ServerConfig>> {
        let (chain, key) = self.identity()?;
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(io::Error::other)?;
        Ok(Arc::new(config))
    }

    /// A server with this certificate that demands one from its clients, signed by the same authority.
    pub fn mutual_server_config(&self) -> io::Result<Arc<ServerConfig>> {
        let (chain, key) = self.identity()?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()?), provider())
            .build()
            .map_err(io::Error::other)?;
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(io::Error::other)?;
        Ok(Arc::new(config))
    }

    /// A client that trusts this authority and no other.
    pub fn client_config(&self) -> io::Result<Arc<ClientConfig>> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(self.roots()?)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }

    fn roots(&self) -> io::Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.ca.as_bytes()).map_err(io::Error::other)?)
            .map_err(io::Error::other)?;
        Ok(roots)
    }

    fn identity(&self) -> io::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(io::Error::other)?;
        let key = PrivateKeyDer::from_pem_slice(self.private_key.as_bytes()).map_err(io::Error::other)?;
        Ok((chain, key))
    }
}
