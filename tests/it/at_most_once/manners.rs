//! Unusual behaviour of an upstream, one test for each.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::upstream::send;
use super::{before, callout, endpoint, poll, show};
use crate::support::{Lab, Peer, Upstream, Wire, within};

/// An upstream that gives `answer` to every poll.
async fn always(mut peer: Peer, answer: &str) {
    while peer.request().await.is_some() {
        if send(&mut peer, &[answer]).await.is_none() {
            return;
        }
    }
}

async fn gateway_before(upstream: SocketAddr) -> Lab {
    before(&[endpoint(upstream)], "").start().await
}

const ENVELOPE: &str = r#"{"message":"","retcode":"0","event":null}"#;

#[tokio::test]
async fn connections_that_end_with_their_answer_are_not_used_again() {
    for (head, reused) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 41", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 41\r\nConnection: close", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 41\r\nConnection: Close, x", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 41", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 41\r\nConnection: keep-alive", true),
        ("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 41", true),
    ] {
        assert_eq!(ENVELOPE.len(), 41);
        let answer = format!("{head}\r\n\r\n{ENVELOPE}");
        let upstream = Upstream::start(move |peer| {
            let answer = answer.clone();
            async move { always(peer, &answer).await }
        });
        let gateway = gateway_before(upstream.address).await;
        let mut client = gateway.client();
        for _ in 0..5 {
            let told = client.send(&poll(20000, "g.n")).await;
            assert_eq!((told.status, told.text().as_str()), (200, ENVELOPE), "{head}");
            assert_eq!(told.version, "HTTP/1.1", "{head}");
        }
        let expected = if reused { 1 } else { 5 };
        assert_eq!(upstream.connections(), expected, "{head}");
        gateway.close().await;
    }
}

#[tokio::test]
async fn an_unsolicited_upgrade_is_not_forwarded() {
    let upstream = Upstream::start(|peer| {
        always(peer, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    });
    let gateway = gateway_before(upstream.address).await;
    show(&gateway, 20000);
    for request in [poll(20000, "g.n"), callout(20000, "g.n")] {
        let told = gateway.send(&request).await;
        assert_eq!(told.status, 502);
        assert!(told.field("message").contains("unknown"), "{told:?}");
    }
    gateway.close().await;
}

fn upload(length: usize) -> String {
    format!(
        "POST /agentgateway/resource/fileupload/20000/text HTTP/1.1\r\nHost: gate\r\nContent-Type: text/plain\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}

#[tokio::test]
async fn an_early_answer_reaches_the_client_although_the_upload_is_not_wanted() {
    // The upstream refuses after the head, and closes with most of the body unread, so the system resets the connection.
    let upstream = Upstream::start(|mut peer| async move {
        if peer.head().await.is_some() {
            send(&mut peer, &["HTTP/1.1 413 Too Large\r\nContent-Length: 9\r\nConnection: close\r\n\r\n", "too large"])
                .await;
        }
    });
    let gateway = gateway_before(upstream.address).await;
    for attempt in 0..50 {
        let socket = TcpStream::connect(gateway.address).await.unwrap();
        let (from, mut to) = socket.into_split();
        let sending = tokio::spawn(async move {
            let _ = to.write_all(upload(8 << 20).as_bytes()).await;
            // Fails when the gateway closes the connection.
            while to.write_all(&[b'x'; 64 * 1024]).await.is_ok() {}
        });
        let mut client = Wire::over(tokio::io::join(from, tokio::io::sink()));
        let told = client.answer().await;
        assert_eq!((told.status, told.text().as_str()), (413, "too large"), "attempt {attempt}");
        drop(client);
        sending.abort();
    }
    gateway.close().await;
}

#[tokio::test]
async fn an_answer_during_an_upload_does_not_free_the_connection() {
    // The upstream answers after the head, then reads the rest. Until it has read all, no other request may use the
    // connection.
    let upstream = Upstream::start(|mut peer| async move {
        while let Some(request) = peer.head().await {
            let _ = send(&mut peer, &["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"]).await;
            if request.request_line().starts_with("POST") {
                let body = peer.body(&request).await.expect("all of it");
                assert_eq!(body, b"upload", "something else came in between");
            }
        }
    });
    let gateway = gateway_before(upstream.address).await;
    let mut uploading = gateway.connect().await;
    uploading.write(format!("{}upl", upload(6)).as_bytes()).await;
    assert_eq!(uploading.answer().await.status, 200);
    for _ in 0..5 {
        assert_eq!(gateway.send(&poll(20000, "g.n")).await.status, 200);
    }
    assert!(upstream.connections() >= 2);
    uploading.write(b"oad").await;
    assert_eq!(uploading.send(&poll(20000, "g.n")).await.status, 200);
    gateway.close().await;
}

#[tokio::test]
async fn a_poll_whose_client_has_left_is_cancelled_upstream() {
    let (ended, mut endings) = tokio::sync::mpsc::channel::<()>(2);
    let upstream = Upstream::start(move |mut peer| {
        let ended = ended.clone();
        async move {
            if peer.request().await.is_some() {
                let _ = ended.send(()).await;
                // The read ends when the gateway closes. No byte may come before that.
                assert!(peer.head().await.is_none());
                let _ = ended.send(()).await;
            }
        }
    });
    let gateway = gateway_before(upstream.address).await;
    let mut client = gateway.connect().await;
    client.write(&poll(20000, "g.n").bytes()).await;
    within("the poll to arrive", endings.recv()).await.unwrap();
    drop(client);
    within("the upstream to lose the poll", endings.recv()).await.unwrap();
    gateway.close().await;
}
