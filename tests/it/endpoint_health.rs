//! What the gateway says about endpoints that no request reaches, and about failures of its own machine.

use serde_json::Value;

use crate::support::{Lab, Port, Setup, Upstream, eventually_async};

const PROBES: &str = "upstream.probe.interval = \"1s\"\nupstream.probe.kind = \"tcp\"";

async fn endpoint(lab: &Lab, position: usize) -> Value {
    lab.admin("/upstreams").await.json()["upstreams"][position].clone()
}

async fn becomes(lab: &Lab, position: usize, state: &str) {
    eventually_async(format!("state {state}"), async || endpoint(lab, position).await["state"] == state).await;
}

async fn metrics(lab: &Lab, address: std::net::SocketAddr) -> (f64, f64) {
    let series = |name: &str| format!("previewgate_upstream_{name}{{endpoint=\"http://{address}\"}}");
    (lab.scraped(&series("healthy")).await, lab.scraped(&series("unproven")).await)
}

#[tokio::test]
async fn a_standby_that_is_dead_from_the_start_is_noticed_without_a_request() {
    let absent = Port::reserve();
    let dead = absent.address;
    let first = Upstream::start(|mut peer| async move { peer.until_closed().await });
    let lab = Setup::plain().upstreams(&[first.address, dead]).settings(PROBES).start().await;
    becomes(&lab, 1, "passed_over").await;
    becomes(&lab, 0, "in_use").await;
    assert_eq!(metrics(&lab, dead).await, (0.0, 0.0));
    assert_eq!(metrics(&lab, first.address).await, (1.0, 0.0));
    let shown = endpoint(&lab, 1).await;
    assert!(shown["why"].as_str().unwrap().contains("connect") && shown["proven"] == false, "{shown}");

    let _back = Upstream::on(absent.listen(), |mut peer| async move { peer.until_closed().await });
    becomes(&lab, 1, "in_use").await;
    assert_eq!(metrics(&lab, dead).await, (1.0, 0.0));
    let log = lab.close().await.lines();
    let says = |words: &str| {
        let about = |line: &&Value| line["endpoint"].as_str().is_some_and(|name| name.ends_with(&dead.to_string()));
        log.iter().filter(about).filter(|line| line["message"].as_str().unwrap().contains(words)).count()
    };
    assert_eq!((says("passed over"), says("is back")), (1, 1), "{log:#?}");
}

#[tokio::test]
async fn a_standby_that_dies_later_is_noticed_without_a_request() {
    let port = Port::reserve();
    let first = Upstream::start(|mut peer| async move { peer.until_closed().await });
    let standby = Upstream::on(port.listen_for_a_while(), |mut peer| async move { peer.until_closed().await });
    let lab = Setup::plain().upstreams(&[first.address, port.address]).settings(PROBES).start().await;
    becomes(&lab, 1, "in_use").await;
    drop(standby);
    becomes(&lab, 1, "passed_over").await;
    assert_eq!(metrics(&lab, port.address).await, (0.0, 0.0));
}

#[tokio::test]
async fn without_probes_a_standby_stays_unproven_until_it_is_used() {
    let first = Upstream::start(|mut peer| async move { peer.until_closed().await });
    let second = Upstream::start(|mut peer| async move { peer.until_closed().await });
    let setup = Setup::plain().upstreams(&[first.address, second.address]);
    let lab = setup.settings("upstream.probe.kind = \"none\"").start().await;
    for (position, upstream) in [&first, &second].into_iter().enumerate() {
        let shown = endpoint(&lab, position).await;
        assert_eq!((&shown["state"], &shown["passed_over"]), (&"unproven".into(), &false.into()), "{shown}");
        assert_eq!(metrics(&lab, upstream.address).await, (0.0, 1.0));
    }
}
