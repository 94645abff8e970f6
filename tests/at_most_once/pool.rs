//! Several endpoints: which one gets a request, when one is passed over, and how it comes back.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::client::poll;
use crate::gateway::Gateway;
use crate::manners::{anywhere, serve};
use crate::upstream::{Request, send};

/// An honest upstream that writes down whose requests it got.
fn honest(address: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<u32>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let (address, _) = serve(address, move |mut socket: TcpStream| {
        let noted = Arc::clone(&noted);
        async move {
            while let Some(request) = Request::head(&mut socket).await {
                noted.lock().unwrap().push(request.id);
                if send(&mut socket, &[&request.answer()]).await.is_none() {
                    return;
                }
            }
        }
    });
    (address, seen)
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind(anywhere()).await.unwrap().local_addr().unwrap()
}

fn seen(upstream: &Arc<Mutex<Vec<u32>>>) -> usize {
    upstream.lock().unwrap().len()
}

#[tokio::test]
async fn what_is_refused_is_passed_over_and_a_probe_brings_it_back() {
    let absent = nobody().await;
    let (second, at_second) = honest(anywhere());
    let endpoints = format!("endpoints = [\"http://{absent}\", \"http://{second}\"]");
    let gateway = Gateway::start(&endpoints, |_| {});
    let mut client = gateway.client();
    for _ in 0..10 {
        assert_eq!(client.ask(&poll(20000, "g.n")).await.status, 200);
    }
    assert_eq!(seen(&at_second), 10);
    let told = gateway.upstreams().await;
    assert_eq!((&told[0]["state"], &told[1]["state"]), (&"passed_over".into(), &"in_use".into()), "{told:?}");
    assert!(told[0]["why"].as_str().unwrap().contains("connect"), "{told:?}");
    assert!(told[0]["next_try_ms"].is_u64() && told[1]["next_try_ms"].is_null(), "{told:?}");
    assert!(
        gateway.metrics().await.contains(&format!("previewgate_upstream_healthy{{endpoint=\"http://{absent}\"}} 0"))
    );

    let (_, at_first) = honest(absent);
    let back = gateway.wait_for_state(0, "in_use").await;
    assert_eq!((&back["why"], &back["failures_in_a_row"]), (&serde_json::Value::Null, &0.into()));
    assert_eq!(client.ask(&poll(20000, "g.n")).await.status, 200);
    assert_eq!((seen(&at_first), seen(&at_second)), (1, 10));
    let log = gateway.stop().await;
    let told =
        |words: &str| log.iter().filter(|line| line["message"].as_str().is_some_and(|m| m.contains(words))).count();
    assert_eq!((told("passed over"), told("is back")), (1, 1), "{log:#?}");
}

#[tokio::test]
async fn without_probes_a_request_finds_out() {
    let absent = nobody().await;
    let (second, _) = honest(anywhere());
    let endpoints =
        format!("endpoints = [\"http://{absent}\", \"http://{second}\"]\n[upstream.probe]\nkind = \"none\"");
    let gateway = Gateway::start(&endpoints, |_| {});
    let mut client = gateway.client();
    assert_eq!(client.ask(&poll(20000, "g.n")).await.status, 200);
    assert_eq!(gateway.upstreams().await[0]["state"], "passed_over");
    let (_, at_first) = honest(absent);
    let asking = async {
        while seen(&at_first) == 0 {
            assert_eq!(client.ask(&poll(20000, "g.n")).await.status, 200);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asking).await.expect("a request tries the first endpoint again");
    assert_eq!(gateway.upstreams().await[0]["state"], "in_use");
    gateway.stop().await;
}

#[tokio::test]
async fn the_last_endpoint_is_never_given_up() {
    let absent = nobody().await;
    let gateway = Gateway::start(&format!("endpoints = [\"http://{absent}\"]"), |_| {});
    for _ in 0..5 {
        let told = gateway.client().ask(&poll(20000, "g.n")).await;
        assert!(told.status == 502 && told.field("message").contains("not sent"), "{told:?}");
    }
    assert_eq!(gateway.upstreams().await[0]["state"], "last_resort");
    let (_, at_last) = honest(absent);
    // No probe needs to have noticed.
    assert_eq!(gateway.client().ask(&poll(20000, "g.n")).await.status, 200);
    assert_eq!(seen(&at_last), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn what_stays_silent_three_times_is_passed_over() {
    let (mute, _) = serve(anywhere(), |mut socket| async move {
        let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
    });
    let (second, _) = honest(anywhere());
    let endpoints = format!("endpoints = [\"http://{mute}\", \"http://{second}\"]");
    let gateway = Gateway::start(&endpoints, |config| config.upstream.response_timeout = Duration::from_millis(100));
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(gateway.client().ask(&poll(20000, "g.n")).await.status);
    }
    assert_eq!(statuses, [504, 504, 504, 200, 200]);
    let told = gateway.upstreams().await;
    assert_eq!((&told[0]["state"], &told[0]["failures_in_a_row"]), (&"passed_over".into(), &3.into()), "{told:?}");
    assert!(told[0]["why"].as_str().unwrap().contains("timeout"), "{told:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn an_http_probe_waits_for_an_answer_that_is_none_of_5xx() {
    // Refuses the first request, says 503 to the first probe, and 404 to the second.
    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    let absent = nobody().await;
    let (second, _) = honest(anywhere());
    let endpoints = format!(
        "endpoints = [\"http://{absent}\", \"http://{second}\"]\n[upstream.probe]\nkind = \"http\"\n\
         interval = \"1s\"\npath = \"/agentgateway/alive\""
    );
    let gateway = Gateway::start(&endpoints, |_| {});
    assert_eq!(gateway.client().ask(&poll(20000, "g.n")).await.status, 200);
    serve(absent, move |mut socket| {
        let counted = Arc::clone(&counted);
        async move {
            while let Some(request) = Request::head(&mut socket).await {
                assert!(request.head.starts_with("GET /agentgateway/alive HTTP/1.1\r\n"), "{}", request.head);
                let status = if counted.fetch_add(1, Ordering::Relaxed) == 0 { "503 Not Yet" } else { "404 No" };
                send(&mut socket, &[&format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")]).await;
            }
        }
    });
    gateway.wait_for_state(0, "in_use").await;
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    gateway.stop().await;
}

#[tokio::test]
async fn agents_stay_at_their_endpoint_and_guids_at_their_node() {
    let (one, at_one) = honest(anywhere());
    let (two, at_two) = honest(anywhere());
    let endpoints = format!(
        "endpoints = [{{ url = \"http://{one}\", node = \"AgentGateway1\" }}, \
         {{ url = \"http://{two}\", node = \"AgentGateway2\" }}]\nbalance = \"agent\""
    );
    let gateway = Gateway::start(&endpoints, |_| {});
    let mut client = gateway.client();
    for _ in 0..3 {
        for agent in 20_000..20_040 {
            client.ask(&poll(agent, "uuid.elsewhere")).await;
        }
    }
    let (mut first, mut second) = (at_one.lock().unwrap().clone(), at_two.lock().unwrap().clone());
    assert!(first.len() > 15 && second.len() > 15, "{} {}", first.len(), second.len());
    first.sort_unstable();
    first.dedup();
    second.sort_unstable();
    second.dedup();
    assert_eq!(first.len() + second.len(), 40, "each agent is at one endpoint only");

    at_one.lock().unwrap().clear();
    at_two.lock().unwrap().clear();
    for agent in 20_000..20_010 {
        client.ask(&poll(agent, "7c9d2a5e-4c51.AgentGateway2")).await;
    }
    assert_eq!((seen(&at_one), seen(&at_two)), (0, 10));
    gateway.stop().await;
}
