//! TLS towards the clients.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{NoClientAuth, ServerSessionMemoryCache, WebPkiClientVerifier};
use tokio_rustls::TlsAcceptor;

use crate::config::ListenerTls;
use crate::tls::{TlsError, certificates, private_key, provider, roots};

/// TLS 1.2 sessions remembered. The vendor's C# client opens a connection for each request (docs/protocol.md 9).
const SESSIONS: usize = 20_000;

/// The acceptor for `[listener.tls]`: TLS 1.2 and 1.3, client certificates demanded if `client_ca` is set.
///
/// # Errors
/// When a file cannot be read, or certificate and key do not belong together.
pub fn acceptor(tls: &ListenerTls) -> Result<TlsAcceptor, TlsError> {
    let verifier = match &tls.client_ca {
        Some(path) => WebPkiClientVerifier::builder_with_provider(Arc::new(roots(path)?), provider()).build()?,
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
