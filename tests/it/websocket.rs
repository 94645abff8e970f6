//! WebSocket: refused by default, relayed in both directions where it is allowed, and never a way around the rule.

use crate::support::{API, Setup, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const HANDSHAKE: &str = "GET /agentgateway/ws HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A platform that accepts every handshake and then echoes. The channel has the requests that it got.
async fn echoing_platform() -> (std::net::SocketAddr, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, heads) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let head = read_head(&mut socket).await;
            let _ = asked.send(head);
            tokio::spawn(async move {
                socket.write_all(AGREED.as_bytes()).await.unwrap();
                let (mut from, mut to) = socket.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    (address, heads)
}

async fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allowed_websocket_is_carried_both_ways_and_counted() {
    let (platform, mut heads) = echoing_platform().await;
    let lab =
        Setup::plain().upstreams(&[platform]).config(|config| config.validation.allow_websocket = true).start().await;
    let mut socket = TcpStream::connect(lab.address).await.unwrap();
    socket.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    let answer = within("the handshake's answer", read_head(&mut socket)).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("sec-websocket-accept: s3ppl"), "{answer}");
    let asked = heads.recv().await.unwrap().to_ascii_lowercase();
    assert!(asked.contains("upgrade: websocket\r\n") && asked.contains("connection: upgrade\r\n"), "{asked}");
    assert_eq!(lab.metric("previewgate_websockets_open"), 1.0);
    // These bytes are not HTTP, come in several pieces, and exceed the limit of a head.
    for piece in [&b"\x81\x05hello\r\n\n\0"[..], &[7; 100_000]] {
        socket.write_all(piece).await.unwrap();
        let mut echoed = vec![0; piece.len()];
        within("the echo", socket.read_exact(&mut echoed)).await.unwrap();
        assert!(echoed == piece);
    }
    drop(socket);
    lab.metric_becomes("previewgate_websockets_open", 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_is_no_way_around_the_rule() {
    let lab = Setup::plain().config(|config| config.validation.allow_websocket = true).start().await;
    let body = r#"{"called":"1","callcontrolid":1}"#;
    let callout = format!(
        "PUT {API}/voicecall/101/previewCallout HTTP/1.1\r\nHost: x\r\nGuid: g\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut socket = TcpStream::connect(lab.address).await.unwrap();
    socket.write_all(callout.as_bytes()).await.unwrap();
    let answer = within("the refusal", read_head(&mut socket)).await;
    assert!(answer.contains("X-Previewgate-Reason: unknown_preview"), "{answer}");
    assert!(lab.simulator.callouts().is_empty());
}
