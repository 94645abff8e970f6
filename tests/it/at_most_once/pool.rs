//! Several endpoints: which one gets a request, when one is ejected, and how it is used again.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;

use super::upstream::{Request, send};
use super::{before, endpoint, poll};
use crate::support::{Lab, Peer, Port, Upstream, eventually_async};

/// A working upstream that records the agents whose requests it gets.
fn honest_on(listener: TcpListener) -> (Upstream, Arc<Mutex<Vec<u32>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let upstream = Upstream::on(listener, move |mut peer: Peer| {
        let noted = Arc::clone(&noted);
        async move {
            while let Some(head) = peer.request().await {
                let request = Request::from(head);
                noted.lock().unwrap().push(request.id);
                if send(&mut peer, &[&request.answer()]).await.is_none() {
                    return;
                }
            }
        }
    });
    (upstream, seen)
}

fn honest() -> (Upstream, Arc<Mutex<Vec<u32>>>) {
    honest_on(Port::reserve().listen())
}

/// The response to `GET /upstreams`.
async fn upstreams(lab: &Lab) -> Vec<Value> {
    lab.admin("/upstreams").await.json()["upstreams"].as_array().unwrap().clone()
}

/// Waits until the endpoint at `position` is in `state`.
async fn wait_for_state(lab: &Lab, position: usize, state: &str) -> Value {
    eventually_async(format!("state {state}"), async || upstreams(lab).await[position]["state"] == state).await;
    upstreams(lab).await.swap_remove(position)
}

fn seen(upstream: &Arc<Mutex<Vec<u32>>>) -> usize {
    upstream.lock().unwrap().len()
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_ejected_and_a_probe_readmits_it() {
    let absent = Port::reserve();
    let dead = absent.address;
    let (second, at_second) = honest();
    let gateway = before(&[endpoint(dead), endpoint(second.address)], "").start().await;
    let mut client = gateway.client();
    for _ in 0..10 {
        assert_eq!(client.send(&poll(20000, "g.n")).await.status, 200);
    }
    assert_eq!(seen(&at_second), 10);
    let told = upstreams(&gateway).await;
    assert_eq!((&told[0]["state"], &told[1]["state"]), (&"passed_over".into(), &"in_use".into()), "{told:?}");
    assert!(told[0]["why"].as_str().unwrap().contains("connect"), "{told:?}");
    assert!(told[0]["next_try_ms"].is_u64() && told[1]["next_try_ms"].is_null(), "{told:?}");
    let page = gateway.admin("/metrics").await.text();
    assert!(page.contains(&format!("previewgate_upstream_healthy{{endpoint=\"http://{dead}\"}} 0")));

    let (_first, at_first) = honest_on(absent.listen());
    let back = wait_for_state(&gateway, 0, "in_use").await;
    assert_eq!((&back["why"], &back["failures_in_a_row"]), (&Value::Null, &0.into()));
    assert_eq!(client.send(&poll(20000, "g.n")).await.status, 200);
    assert_eq!((seen(&at_first), seen(&at_second)), (1, 10));
    let log = gateway.close().await.lines();
    let told =
        |words: &str| log.iter().filter(|line| line["message"].as_str().is_some_and(|m| m.contains(words))).count();
    assert_eq!((told("passed over"), told("is back")), (1, 1), "{log:#?}");
}

#[tokio::test]
async fn without_probes_a_request_readmits_the_endpoint() {
    let absent = Port::reserve();
    let dead = absent.address;
    let (second, _) = honest();
    let endpoints = [endpoint(dead), endpoint(second.address)];
    let gateway = before(&endpoints, "upstream.probe.kind = \"none\"").start().await;
    let mut client = gateway.client();
    assert_eq!(client.send(&poll(20000, "g.n")).await.status, 200);
    assert_eq!(upstreams(&gateway).await[0]["state"], "passed_over");
    let (_first, at_first) = honest_on(absent.listen());
    eventually_async("a request to try the first endpoint again", async || {
        assert_eq!(gateway.send(&poll(20000, "g.n")).await.status, 200);
        seen(&at_first) > 0
    })
    .await;
    assert_eq!(upstreams(&gateway).await[0]["state"], "in_use");
    gateway.close().await;
}

#[tokio::test]
async fn the_last_endpoint_is_never_ejected() {
    let absent = Port::reserve();
    let dead = absent.address;
    let gateway = before(&[endpoint(dead)], "upstream.poll_patience = \"200ms\"").start().await;
    for _ in 0..5 {
        let told = gateway.send(&poll(20000, "g.n")).await;
        assert!(told.status == 502 && told.field("message").contains("not sent"), "{told:?}");
    }
    assert_eq!(upstreams(&gateway).await[0]["state"], "last_resort");
    let (_last, at_last) = honest_on(absent.listen());
    // This does not depend on a probe.
    assert_eq!(gateway.send(&poll(20000, "g.n")).await.status, 200);
    assert_eq!(seen(&at_last), 1);
    gateway.close().await;
}

#[tokio::test]
async fn an_endpoint_that_times_out_three_times_is_ejected() {
    let mute = Upstream::start(|mut peer| async move { peer.until_closed().await });
    let (second, _) = honest();
    let setup = before(&[endpoint(mute.address), endpoint(second.address)], "");
    // The second endpoint answers well within this time. The first one uses it up three times.
    let gateway = setup.config(|config| config.upstream.response_timeout = Duration::from_millis(500)).start().await;
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(gateway.send(&poll(20000, "g.n")).await.status);
    }
    assert_eq!(statuses, [504, 504, 504, 200, 200]);
    let told = upstreams(&gateway).await;
    assert_eq!((&told[0]["state"], &told[0]["failures_in_a_row"]), (&"passed_over".into(), &3.into()), "{told:?}");
    assert!(told[0]["why"].as_str().unwrap().contains("timeout"), "{told:?}");
    gateway.close().await;
}

#[tokio::test]
async fn an_http_probe_waits_for_an_answer_that_is_none_of_5xx() {
    // Refuses the first request, says 503 to the first probe, and 404 to the second.
    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    let absent = Port::reserve();
    let dead = absent.address;
    let (second, _) = honest();
    let probe = "upstream.probe = { kind = \"http\", interval = \"1s\", path = \"/agentgateway/alive\" }";
    let gateway = before(&[endpoint(dead), endpoint(second.address)], probe).start().await;
    assert_eq!(gateway.send(&poll(20000, "g.n")).await.status, 200);
    let _first = Upstream::on(absent.listen(), move |mut peer: Peer| {
        let counted = Arc::clone(&counted);
        async move {
            while let Some(request) = peer.request().await {
                assert_eq!(request.request_line(), "GET /agentgateway/alive HTTP/1.1");
                let status = if counted.fetch_add(1, Ordering::Relaxed) == 0 { "503 Not Yet" } else { "404 No" };
                send(&mut peer, &[&format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")]).await;
            }
        }
    });
    wait_for_state(&gateway, 0, "in_use").await;
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    gateway.close().await;
}

#[tokio::test]
async fn agents_stay_at_their_endpoint_and_guids_at_their_node() {
    let (one, at_one) = honest();
    let (two, at_two) = honest();
    let node = |address, node: &str| format!("{{ url = {}, node = \"{node}\" }}", endpoint(address));
    let endpoints = [node(one.address, "AgentGateway1"), node(two.address, "AgentGateway2")];
    let gateway = before(&endpoints, "upstream.balance = \"agent\"").start().await;
    let mut client = gateway.client();
    for _ in 0..3 {
        for agent in 20_000..20_040 {
            client.send(&poll(agent, "uuid.elsewhere")).await;
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
        client.send(&poll(agent, "7c9d2a5e-4c51.AgentGateway2")).await;
    }
    assert_eq!((seen(&at_one), seen(&at_two)), (0, 10));
    gateway.close().await;
}
