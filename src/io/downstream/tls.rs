//! TLS towards the clients.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::config::ListenerTls;
use crate::tls::{TlsError, certificates, private_key, provider};

/// TLS 1.2 sessions remembered. The vendor's C# client opens a connection for each request (docs/protocol.md 9).
const SESSIONS: usize = 20_000;

/// TLS towards the clients, under one configuration.
pub struct Acceptor {
    tls: TlsAcceptor,
    clients: ClientAuthorities,
}

/// The authorities whose clients are admitted: those of `listener.tls.client_ca`.
#[derive(Clone)]
pub struct ClientAuthorities(Option<Authorities>);

#[derive(Clone)]
struct Authorities {
    roots: Arc<[CertificateDer<'static>]>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Acceptor {
    /// The acceptor for `[listener.tls]`: TLS 1.2 and 1.3, client certificates demanded if `client_ca` is set.
    ///
    /// # Errors
    /// When a file cannot be read, or certificate and key do not belong together.
    pub fn new(tls: &ListenerTls) -> Result<Self, TlsError> {
        let clients = ClientAuthorities::new(tls.client_ca.as_deref())?;
        Ok(Self { tls: acceptor(tls, &clients)?, clients })
    }

    /// Runs handshakes.
    pub fn tls(&self) -> &TlsAcceptor {
        &self.tls
    }

    /// The authorities whose clients are admitted.
    pub fn clients(&self) -> &ClientAuthorities {
        &self.clients
    }
}

impl ClientAuthorities {
    fn new(file: Option<&Path>) -> Result<Self, TlsError> {
        let Some(file) = file else { return Ok(Self(None)) };
        let roots = certificates(file)?;
        let mut store = RootCertStore::empty();
        for root in &roots {
            store.add(root.clone())?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider()).build()?;
        Ok(Self(Some(Authorities { roots: roots.into(), verifier })))
    }

    /// Whether a client with this certificate chain, its own certificate first, would be admitted now.
    pub fn admit(&self, chain: &[CertificateDer<'_>]) -> bool {
        let Some(authorities) = &self.0 else { return true };
        let Some((own, intermediates)) = chain.split_first() else { return false };
        authorities.verifier.verify_client_cert(own, intermediates, UnixTime::now()).is_ok()
    }

    /// Whether both admit the same clients.
    pub fn are_the_same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(one), Some(other)) => one.roots == other.roots,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

fn acceptor(tls: &ListenerTls, clients: &ClientAuthorities) -> Result<TlsAcceptor, TlsError> {
    let verifier = match &clients.0 {
        Some(authorities) => Arc::clone(&authorities.verifier),
        None => Arc::new(NoClientAuth),
    };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&tls.certificate)?, private_key(&tls.private_key)?)?;
    // curl for one, told to use HTTP/1.0, offers nothing else.
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
    // All suites are good; that the server chooses among them is what audits ask for.
    config.ignore_client_order = true;
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    // Tickets spare both sides the memory, and work whichever worker gets the next connection.
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
