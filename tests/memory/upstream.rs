//! Endpoints that fail, are ejected and come back; connections to them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use previewgate::simulator::{Fault, Misbehaviour};
use serde_json::json;
use tokio::time::Instant;

use crate::support::{API, MemorySetup, PLATFORM, Request, seconds, within};

fn x() -> Request {
    Request::get(format!("{API}/x"))
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_cannot_be_reached_sends_nothing() {
    let lab = MemorySetup::new().settings("upstream.endpoints = [\"http://nowhere:1\"]").start();
    let own = lab.send(&x()).await.own();
    assert_eq!((own.status, own.reason.as_str()), (502, "upstream_failure"));
    assert!(own.message.contains("not sent"), "{}", own.message);
}

#[tokio::test(start_paused = true)]
async fn even_a_callout_goes_to_the_next_endpoint_if_nothing_of_it_was_sent() {
    let endpoints = format!("upstream.endpoints = [\"http://nowhere:1\", \"http://{PLATFORM}:2\"]");
    let forward = "validation.on_unknown_preview = \"forward\"";
    let setup = MemorySetup::new().simulator(|simulator| simulator.lenient_callouts = true);
    let lab = setup.settings(&format!("{endpoints}\n{forward}")).start();
    let callout = Request::put(format!("{API}/voicecall/101/previewCallout")).guid("g");
    let answer = lab.send(&callout.json(&json!({"called": "1", "callcontrolid": 1}))).await.passed();
    assert_eq!(answer.retcode(), "0");
    assert_eq!(lab.simulator.callouts().len(), 1);
    assert_eq!(lab.metric("previewgate_upstream_healthy{endpoint=\"http://nowhere:1\"}"), 0.0);
    // Ejected: the next request does not try it.
    let dialed = lab.dialed.load(Ordering::Relaxed);
    lab.send(&x()).await.passed();
    assert!(lab.dialed.load(Ordering::Relaxed) <= dialed + 1);
}

#[tokio::test(start_paused = true)]
async fn a_poll_for_longer_than_the_response_timeout_fails() {
    let setup = MemorySetup::new().simulator(|simulator| simulator.poll_wait = Duration::from_secs(60));
    let lab = setup.settings("upstream.response_timeout = \"12s\"").start();
    let agent = lab.agent(101).await;
    let start = Instant::now();
    let own = agent.poll().await.own();
    assert_eq!(start.elapsed().as_secs(), 12);
    assert_eq!((own.status, own.reason.as_str(), own.retcode.as_str()), (504, "upstream_failure", "100-007"));
    within("the upstream poll to be cancelled", lab.simulator.wait_for_no_held_poll()).await;
}

/// The response timeout begins when the upstream has the whole request.
#[tokio::test(start_paused = true)]
async fn an_upload_may_take_longer_than_the_response_timeout() {
    let lab = MemorySetup::new().settings("upstream.response_timeout = \"11s\"").start();
    let upload = |path: &str| format!("POST {API}/{path} HTTP/1.1\r\nHost: gateway\r\nContent-Length: 4\r\n\r\n");
    let mut client = lab.connect().await;
    client.write(upload("x").as_bytes()).await;
    for byte in b"body" {
        tokio::time::sleep(Duration::from_secs(10)).await;
        client.write(&[*byte]).await;
    }
    client.answer().await.passed();

    lab.simulator.misbehave(Misbehaviour::new(Fault::Delay { milliseconds: 3_600_000 }).on("slow"));
    let mut client = lab.connect().await;
    client.write(upload("slow").as_bytes()).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    client.write(b"body").await;
    let waited = seconds(async { assert_eq!(client.answer().await.own().status, 504) });
    assert_eq!(waited.await, 11);
}

#[tokio::test(start_paused = true)]
async fn an_unresponsive_endpoint_is_ejected_and_comes_back_after_a_probe() {
    let lab = MemorySetup::new().settings("upstream.response_timeout = \"11s\"").start();
    let series = format!("previewgate_upstream_healthy{{endpoint=\"http://{PLATFORM}:8043\"}}");
    for healthy in [1.0, 1.0, 0.0] {
        lab.simulator.misbehave(Misbehaviour::new(Fault::Delay { milliseconds: 3_600_000 }).on("slow"));
        assert_eq!(lab.send(&Request::get(format!("{API}/slow"))).await.own().status, 504);
        assert_eq!(lab.metric(&series), healthy);
    }
    lab.probe_endpoints().await;
    assert_eq!(lab.metric(&series), 0.0, "it is too early for a probe");
    tokio::time::sleep(Duration::from_secs(20)).await;
    lab.probe_endpoints().await;
    assert_eq!(lab.metric(&series), 1.0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_before_the_platform_closes_it() {
    let lab = MemorySetup::new().start();
    lab.send(&x()).await.passed();
    lab.send(&x()).await.passed();
    assert_eq!(lab.dialed.load(Ordering::Relaxed), 1, "the second request uses the connection of the first");
    let start = Instant::now();
    within("the idle connection to be closed", lab.simulator.wait_for_connections_open(0)).await;
    assert!((14..=17).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    lab.send(&x()).await.passed();
    assert_eq!(lab.dialed.load(Ordering::Relaxed), 2);
}

const NOWHERE: &str = "upstream.endpoints = [\"http://nowhere:1\", \"http://nowhere:2\"]";

#[tokio::test(start_paused = true)]
async fn a_poll_that_cannot_be_sent_waits_for_its_patience_and_no_other_request_does() {
    for (settings, expected) in
        [("", 3), ("upstream.poll_patience = \"8s\"", 8), ("upstream.poll_patience = \"0s\"", 0)]
    {
        let lab = MemorySetup::new().settings(&format!("{NOWHERE}\n{settings}")).start();
        for (path, seconds_taken) in [("agentevent/101", expected), ("agentevent/allagentevent", expected), ("x", 0)] {
            let poll = Request::get(format!("{API}/{path}")).guid("a.b");
            let taken = seconds(async {
                let own = lab.send(&poll).await.own();
                assert_eq!((own.status, own.reason.as_str()), (502, "upstream_failure"));
                assert!(own.message.contains("not sent"), "{}", own.message);
            });
            assert_eq!(taken.await, seconds_taken, "{path} {settings}");
        }
        let callout = Request::put(format!("{API}/voicecall/101/previewCallout")).guid("a.b");
        let callout = callout.json(&json!({"called": "1", "callcontrolid": 1}));
        assert_eq!(seconds(async { drop(lab.send(&callout).await) }).await, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn many_waiting_polls_share_their_attempts() {
    let lab = MemorySetup::new().settings(NOWHERE).start();
    let polls = (0..200).map(|agent| lab.send(&Request::get(format!("{API}/agentevent/{}", 1000 + agent)).guid("a.b")));
    for answer in futures_util::future::join_all(polls).await {
        assert_eq!(answer.own().status, 502);
    }
    // The first attempt of each poll, and the attempts of one at a time.
    let dialed = lab.dialed.load(Ordering::Relaxed);
    assert!((410..=600).contains(&dialed), "{dialed}");
}

#[tokio::test(start_paused = true)]
async fn a_poll_whose_client_has_left_is_not_tried_again() {
    let lab = MemorySetup::new().settings(&format!("{NOWHERE}\nupstream.poll_patience = \"8s\"")).start();
    let mut wire = lab.connect().await;
    wire.write(&Request::get(format!("{API}/agentevent/101")).guid("a.b").bytes()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(wire);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let dialed = lab.dialed.load(Ordering::Relaxed);
    assert!(dialed >= 4, "{dialed}");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(lab.dialed.load(Ordering::Relaxed), dialed);
}
