//! Session tickets: which handshakes are short, and until when.

use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{API, Gateway, Setup, trusting_by};

/// The handshake of a new connection with one request. In TLS 1.3 the tickets come with its answer.
async fn handshake(gateway: &Gateway, client: &Arc<ClientConfig>) -> HandshakeKind {
    let socket = TcpStream::connect(gateway.address).await.unwrap();
    let connector = TlsConnector::from(Arc::clone(client));
    let mut stream = connector.connect(gateway.address.ip().into(), socket).await.unwrap();
    let request = format!("GET {API}/x HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.unwrap();
    stream.get_ref().1.handshake_kind().unwrap()
}

#[tokio::test]
async fn each_worker_resumes_the_sessions_of_all_until_a_reload() {
    for version in [&TLS12, &TLS13] {
        let site = Setup::encrypted().site().await;
        let gateway = site.start("runtime.workers = 3\n");
        let client = trusting_by(&site.pki.server.ca, &[version], None);
        for _ in 0..2 {
            // A reload may have new authorities for clients, and a resumed session is not checked against them.
            assert_eq!(handshake(&gateway, &client).await, HandshakeKind::Full, "{version:?}");
            for _ in 0..12 {
                assert_eq!(handshake(&gateway, &client).await, HandshakeKind::Resumed, "{version:?}");
            }
            gateway.reload().unwrap();
        }
        gateway.close().await;
    }
}
