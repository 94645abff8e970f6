//! An upstream's odd manners, one at a time.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{callout, poll, read};
use crate::gateway::Gateway;
use crate::upstream::{Request, listen, send};

/// Serves each connection with `serve`; returns where, and the number of connections so far.
pub(crate) fn serve<F, S>(address: SocketAddr, serve: S) -> (SocketAddr, Arc<AtomicU32>)
where
    F: Future<Output = ()> + Send + 'static,
    S: Fn(TcpStream) -> F + Send + 'static,
{
    let listener = listen(address);
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            // What has been sent is on its way, also if the socket is closed with something unread.
            socket.set_nodelay(true).unwrap();
            tokio::spawn(serve(socket));
        }
    });
    (address, connections)
}

pub(crate) fn anywhere() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// Answers every poll with `answer`, as often as it is asked.
async fn always(mut socket: TcpStream, answer: &str) {
    while Request::head(&mut socket).await.is_some() {
        if send(&mut socket, &[answer]).await.is_none() {
            return;
        }
    }
}

async fn gateway_before(upstream: SocketAddr) -> Gateway {
    Gateway::start(&format!("endpoints = [\"http://{upstream}\"]"), |config| {
        config.upstream.response_timeout = Duration::from_millis(300);
    })
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
        let (address, connections) = serve(anywhere(), move |socket| {
            let answer = answer.clone();
            async move { always(socket, &answer).await }
        });
        let gateway = gateway_before(address).await;
        let mut client = gateway.client();
        for _ in 0..5 {
            let told = client.ask(&poll(20000, "g.n")).await;
            assert_eq!((told.status, told.body.as_str()), (200, ENVELOPE), "{head}");
            assert!(told.head.starts_with("HTTP/1.1 200"), "{head}: {}", told.head);
        }
        let expected = if reused { 1 } else { 5 };
        assert_eq!(connections.load(Ordering::Relaxed), expected, "{head}");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn an_upgrade_that_nobody_asked_for_is_not_passed_on() {
    let (address, _) = serve(anywhere(), |socket| {
        always(socket, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    });
    let gateway = gateway_before(address).await;
    gateway.show(20000);
    for request in [poll(20000, "g.n"), callout(20000, "g.n")] {
        let told = gateway.client().ask(&request).await;
        assert_eq!(told.status, 502);
        assert!(told.field("message").contains("unknown"), "{told:?}");
    }
    gateway.stop().await;
}

fn upload(length: usize) -> String {
    format!(
        "POST /agentgateway/resource/fileupload/20000/text HTTP/1.1\r\nHost: gate\r\nContent-Type: text/plain\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}

#[tokio::test]
async fn an_early_answer_reaches_the_client_although_the_upload_is_not_wanted() {
    // Says no after the head and closes with most of the body unread: the system resets the connection.
    let (address, _) = serve(anywhere(), |mut socket| async move {
        if Request::head(&mut socket).await.is_some() {
            send(
                &mut socket,
                &["HTTP/1.1 413 Too Large\r\nContent-Length: 9\r\nConnection: close\r\n\r\n", "too large"],
            )
            .await;
        }
    });
    let gateway = gateway_before(address).await;
    for attempt in 0..50 {
        let socket = TcpStream::connect(gateway.address()).await.unwrap();
        let (mut from, mut to) = socket.into_split();
        let sending = tokio::spawn(async move {
            let _ = to.write_all(upload(8 << 20).as_bytes()).await;
            // Ends with an error when the gateway has had enough.
            while to.write_all(&[b'x'; 64 * 1024]).await.is_ok() {}
        });
        let told = tokio::time::timeout(Duration::from_secs(10), read(&mut from)).await.expect("an answer");
        assert_eq!((told.status, told.body.as_str()), (413, "too large"), "attempt {attempt}");
        drop(from);
        sending.abort();
    }
    gateway.stop().await;
}

#[tokio::test]
async fn an_answer_during_an_upload_does_not_free_the_connection() {
    // Answers at the head, then reads the rest: until it has all of it, no other request may use the connection.
    let (address, connections) = serve(anywhere(), |mut socket| async move {
        while let Some(request) = Request::head(&mut socket).await {
            let _ = send(&mut socket, &["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"]).await;
            if request.head.starts_with("POST") {
                let body = request.body(&mut socket).await.expect("all of it");
                assert_eq!(body, b"upload", "something else came in between");
            }
        }
    });
    let gateway = gateway_before(address).await;
    let mut uploading = TcpStream::connect(gateway.address()).await.unwrap();
    uploading.write_all(format!("{}upl", upload(6)).as_bytes()).await.unwrap();
    assert_eq!(read(&mut uploading).await.status, 200);
    for _ in 0..5 {
        assert_eq!(gateway.client().ask(&poll(20000, "g.n")).await.status, 200);
    }
    assert!(connections.load(Ordering::Relaxed) >= 2);
    uploading.write_all(b"oad").await.unwrap();
    uploading.write_all(poll(20000, "g.n").as_bytes()).await.unwrap();
    assert_eq!(read(&mut uploading).await.status, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn an_upload_may_take_longer_than_an_answer() {
    let (address, _) = serve(anywhere(), |mut socket| async move {
        if let Some(request) = Request::head(&mut socket).await {
            assert_eq!(request.body(&mut socket).await.expect("all of it"), b"slow");
            let _ = send(&mut socket, &["HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone"]).await;
        }
    });
    let gateway = gateway_before(address).await;
    let mut client = TcpStream::connect(gateway.address()).await.unwrap();
    client.write_all(upload(4).as_bytes()).await.unwrap();
    // The time that is tested: 800 ms of upload against 300 ms for an answer.
    for byte in b"slow" {
        tokio::time::sleep(Duration::from_millis(200)).await;
        client.write_all(&[*byte]).await.unwrap();
    }
    let told = read(&mut client).await;
    assert_eq!((told.status, told.body.as_str()), (200, "done"));
    // And the other way round: all of it is there, and no answer comes.
    let (silent, _) = serve(anywhere(), |mut socket| async move {
        let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
    });
    let silent = gateway_before(silent).await;
    let mut client = TcpStream::connect(silent.address()).await.unwrap();
    client.write_all(format!("{}body", upload(4)).as_bytes()).await.unwrap();
    assert_eq!(read(&mut client).await.status, 504);
    gateway.stop().await;
    silent.stop().await;
}

#[tokio::test]
async fn a_poll_whose_client_has_gone_is_taken_back() {
    let (ended, mut endings) = tokio::sync::mpsc::channel::<()>(1);
    let (address, _) = serve(anywhere(), move |mut socket| {
        let ended = ended.clone();
        async move {
            if Request::head(&mut socket).await.is_some() {
                let _ = ended.send(()).await;
                // Ends when the gateway closes.
                assert_eq!(socket.read(&mut [0; 16]).await.unwrap_or(0), 0);
                let _ = ended.send(()).await;
            }
        }
    });
    let gateway = Gateway::start(&format!("endpoints = [\"http://{address}\"]"), |_| {});
    let mut client = TcpStream::connect(gateway.address()).await.unwrap();
    client.write_all(poll(20000, "g.n").as_bytes()).await.unwrap();
    endings.recv().await.expect("the poll has arrived");
    drop(client);
    let taken_back = tokio::time::timeout(Duration::from_secs(5), endings.recv()).await;
    assert!(taken_back.is_ok(), "the upstream still holds the poll");
    gateway.stop().await;
}
