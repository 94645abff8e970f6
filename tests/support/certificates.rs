//! Certificates of one site: one authority for the applications' side, another for the upstream's.

use std::path::Path;
use std::sync::Arc;

use previewgate::simulator::{Authority, SelfSigned};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

/// The versions of TLS that the gateway speaks.
const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

/// Keys and certificates. Their files are in the directory of the site.
pub(crate) struct Pki {
    /// The gateway, towards applications.
    pub(crate) server: SelfSigned,
    /// An application.
    client: SelfSigned,
    /// The upstream.
    pub(crate) upstream: SelfSigned,
}

impl Pki {
    /// Makes them and writes the files into `directory`.
    pub(super) fn new(directory: &Path) -> Self {
        let (ours, theirs) = (Authority::new().unwrap(), Authority::new().unwrap());
        let server = ours.issue(&["127.0.0.1", "localhost"]).unwrap();
        let client = ours.issue(&["application.example"]).unwrap();
        let upstream = theirs.issue(&["127.0.0.1", "localhost"]).unwrap();
        let upstream_client = theirs.issue(&["previewgate.example"]).unwrap();
        for (name, content) in [
            ("ca.crt", &server.ca),
            ("server.crt", &server.certificate),
            ("server.key", &server.private_key),
            ("upstream-ca.crt", &upstream.ca),
            ("upstream-client.crt", &upstream_client.certificate),
            ("upstream-client.key", &upstream_client.private_key),
        ] {
            std::fs::write(directory.join(name), content).unwrap();
        }
        Self { server, client, upstream }
    }

    /// An application that trusts the gateway and has no certificate of its own.
    pub(crate) fn anonymous(&self) -> Arc<ClientConfig> {
        self.server.client_config().unwrap()
    }

    /// An application that trusts the gateway and has a certificate.
    pub(crate) fn identified(&self) -> Arc<ClientConfig> {
        self.client(&VERSIONS, true)
    }

    /// An application that trusts the gateway and speaks these versions of TLS, with a certificate or without.
    pub(crate) fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        certificate: bool,
    ) -> Arc<ClientConfig> {
        client(&self.server.ca, versions, certificate.then_some(&self.client))
    }
}

/// A client that trusts `ca` and may have a certificate of its own.
pub(crate) fn trusting(ca: &str, own: Option<&SelfSigned>) -> Arc<ClientConfig> {
    client(ca, &VERSIONS, own)
}

/// The same with these versions of TLS only.
pub(crate) fn trusting_by(
    ca: &str,
    versions: &[&'static SupportedProtocolVersion],
    own: Option<&SelfSigned>,
) -> Arc<ClientConfig> {
    client(ca, versions, own)
}

/// The certificate that a server with this identity shows (DER).
pub(crate) fn leaf(of: &SelfSigned) -> Vec<u8> {
    CertificateDer::from_pem_slice(of.certificate.as_bytes()).unwrap().to_vec()
}

fn client(ca: &str, versions: &[&'static SupportedProtocolVersion], own: Option<&SelfSigned>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let chain = CertificateDer::pem_slice_iter(own.certificate.as_bytes()).map(Result::unwrap).collect();
            let key = PrivateKeyDer::from_pem_slice(own.private_key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    })
}
