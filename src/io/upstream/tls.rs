//! TLS towards servers: the upstream, and applications that receive pushes.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;

use crate::config::{Scheme, Upstream};
use crate::tls::{TlsError, certificates, private_key, provider, roots};

/// The connector for `https` endpoints, if there are any.
pub(super) fn connector(upstream: &Upstream) -> Result<Option<TlsConnector>, TlsError> {
    if upstream.endpoints.iter().all(|endpoint| endpoint.url.scheme == Scheme::Http) {
        return Ok(None);
    }
    let tls = &upstream.tls;
    let identity = tls.client_certificate.as_deref().zip(tls.client_private_key.as_deref());
    client_tls(tls.ca.as_deref(), identity, tls.insecure_skip_verify).map(Some)
}

/// A connector for HTTP/1.1. It trusts the roots in the file `ca`, without one those of the system, or any certificate
/// if it is `insecure`. `identity` (certificate chain and private key) is for servers that ask for a certificate.
///
/// # Errors
/// When a file cannot be read, or certificate and key do not belong together.
pub fn client_tls(
    ca: Option<&Path>,
    identity: Option<(&Path, &Path)>,
    insecure: bool,
) -> Result<TlsConnector, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = if insecure {
        let verifier = AcceptAny(provider().signature_verification_algorithms);
        builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
    } else {
        builder.with_root_certificates(trusted(ca)?)
    };
    let mut config = match identity {
        Some((chain, key)) => builder.with_client_auth_cert(certificates(chain)?, private_key(key)?)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The roots to trust: those of the file, or of the system without one.
fn trusted(ca: Option<&Path>) -> Result<RootCertStore, TlsError> {
    if let Some(path) = ca {
        return roots(path);
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TlsError::NoRoots) } else { Ok(roots) }
}

/// For laboratories (`insecure_skip_verify`): accepts any certificate, but still checks the signatures of the
/// handshake.
#[derive(Debug)]
struct AcceptAny(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
