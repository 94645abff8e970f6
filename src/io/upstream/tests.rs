//! The upstream client against real sockets.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Request;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::health::FailureMode;
use super::*;
use crate::config;
use crate::failure::FailureKind;
use crate::stream::Stream;
use crate::telemetry::Metrics;

fn upstream(endpoints: &str, earlier: Option<&Upstream>) -> Upstream {
    upstream_by(Arc::new(TcpDial), endpoints, earlier)
}

fn upstream_by(dial: Arc<dyn Dial>, endpoints: &str, earlier: Option<&Upstream>) -> Upstream {
    let text = format!("[upstream]\nendpoints = [{endpoints}]");
    let config = config::parse(&text, std::path::Path::new("/"), config::Files::Check).unwrap();
    Upstream::new(&config, Arc::new(Metrics::new()), dial, earlier).unwrap()
}

#[tokio::test]
async fn a_reload_does_not_repair_an_endpoint() {
    let before = upstream("\"http://a\", \"http://b\"", None);
    let cause = Cause { kind: FailureKind::Connect, endpoint: "a".into(), source: None };
    before.endpoints[0].failed(FailureMode::Unreachable, &cause);
    let after = upstream("\"http://b\", \"http://a\", \"http://c\"", Some(&before));
    let ejected: Vec<_> = after.endpoints().iter().map(|endpoint| endpoint.condition().ejected).collect();
    assert_eq!(ejected, [false, true, false]);
    assert_eq!(after.route(RoutingKey::default()), Route(smallvec::smallvec![0, 2, 1]));
}

/// Responds to one request after the other on each connection.
async fn serve(listener: TcpListener) {
    while let Ok((mut socket, _)) = listener.accept().await {
        tokio::spawn(async move {
            while matches!(socket.read(&mut [0; 4096]).await, Ok(1..)) {
                let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
        });
    }
}

async fn ask(client: &Client) -> UpstreamResponse {
    let request = Request::get("/").body(RequestBody::Whole(Bytes::new())).unwrap();
    client
        .send(&mut Unsent::new(request), client.upstream().route(RoutingKey::default()), Instant::now())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_retired_client_keeps_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = Arc::new(upstream(&format!("\"http://{}\"", listener.local_addr().unwrap()), None));
    tokio::spawn(serve(listener));
    let client = Client::new(Arc::clone(&upstream));
    let open = || upstream.metrics.connections.upstream.open();
    let (idle, in_use) = (ask(&client).await, ask(&client).await);
    idle.response.into_body().collect().await.unwrap();
    assert_eq!(open(), 2);
    client.retire();
    while open() > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(in_use.response.into_body().collect().await.unwrap().to_bytes(), "ok");
    while open() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_cancelled_attempt_closes_its_connection() {
    // The listener does not accept: the connection waits in the backlog, and no response comes.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = Arc::new(upstream(&format!("\"http://{}\"", listener.local_addr().unwrap()), None));
    let client = Client::new(Arc::clone(&upstream));
    let open = || upstream.metrics.connections.upstream.open();
    {
        let mut asking = std::pin::pin!(ask(&client));
        while open() == 0 {
            let now = std::future::poll_fn(|cx| std::task::Poll::Ready(asking.as_mut().poll(cx).is_pending())).await;
            assert!(now);
            tokio::task::yield_now().await;
        }
    }
    while open() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(!upstream.endpoints[0].condition().ejected);
}

/// A machine without ports.
struct NoPorts;

impl Dial for NoPorts {
    fn dial<'a>(&'a self, _: &'a str, _: u16, _: Duration) -> BoxFuture<'a, Result<Stream, DialError>> {
        let error = io::Error::from_raw_os_error(rustix::io::Errno::ADDRNOTAVAIL.raw_os_error());
        Box::pin(std::future::ready(Err((FailureKind::LocalResources, Some(error)))))
    }
}

#[tokio::test]
async fn a_lack_of_this_machine_ejects_no_endpoint() {
    let upstream = Arc::new(upstream_by(Arc::new(NoPorts), "\"http://a\", \"http://b\"", None));
    let client = Client::new(Arc::clone(&upstream));
    for _ in 0..5 {
        let request = Request::get("/").body(RequestBody::Whole(Bytes::new())).unwrap();
        let failure = client
            .send(&mut Unsent::new(request), upstream.route(RoutingKey::default()), Instant::now())
            .await
            .unwrap_err();
        assert!(matches!(&failure, Failure::NotSent(cause) if cause.kind == FailureKind::LocalResources), "{failure}");
        upstream.probe_due().await;
    }
    for endpoint in upstream.endpoints() {
        let condition = endpoint.condition();
        assert!(!condition.ejected && !condition.proven && condition.failures_in_a_row == 0, "{condition:?}");
    }
}

#[tokio::test]
async fn what_one_address_says_of_the_peer_counts_more_than_a_lack_at_another() {
    // Nothing listens at port 1. `localhost` may have an IPv6 address too, on a machine without IPv6.
    for host in ["127.0.0.1", "localhost"] {
        let (kind, _) = TcpDial.dial(host, 1, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(kind, FailureKind::Connect, "{host}");
    }
}
