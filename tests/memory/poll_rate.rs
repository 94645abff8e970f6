//! An agent who polls without pauses is answered slowly and not refused, and no other client is delayed.

use std::time::Duration;

use previewgate::simulator::{Fault, Misbehaviour};
use tokio::time::Instant;

use crate::support::{API, MemorySetup, Request};

const SETTINGS: &str = "limits.polls_per_agent = 20\nlimits.held_polls = 2";

#[tokio::test(start_paused = true)]
async fn a_flood_of_polls_is_slowed_down_and_every_poll_gets_its_answer() {
    let lab = MemorySetup::new().settings(SETTINGS).start();
    // As the vendor's Java client meets it: each poll is answered with 000-003 at once.
    let flood =
        Request::get(format!("{API}/agentevent/101")).guid("00000000-0000-0000-0000-000000000000.AgentGateway1");
    let mut wire = lab.connect().await;
    let start = Instant::now();
    for _ in 0..220 {
        let answer = wire.send(&flood).await.passed();
        assert_ne!(answer.retcode(), "0");
    }
    let took = start.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(12)).contains(&took), "{took:?}");
    assert_eq!(lab.metric("previewgate_polls_delayed_total"), 200.0);
    assert_eq!(lab.metric("previewgate_requests_shed_total{kind=\"poll\"}"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn polls_that_wait_take_no_place_of_others() {
    let lab = MemorySetup::new().settings(SETTINGS).start();
    let flood =
        Request::get(format!("{API}/agentevent/101")).guid("00000000-0000-0000-0000-000000000000.AgentGateway1");
    let mut waiting = Vec::new();
    for _ in 0..60 {
        let mut wire = lab.connect().await;
        wire.write(&flood.bytes()).await;
        waiting.push(wire);
    }
    let other = lab.agent(102).await;
    other.shown(7, "5550101").await;
    assert_eq!(other.call(7, "5550101").await.retcode(), "0");
    for wire in &mut waiting {
        wire.answer().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_of_events_is_taken_without_pauses() {
    let lab = MemorySetup::new().settings(SETTINGS).start();
    let agent = lab.agent(101).await;
    let start = Instant::now();
    for control_id in 0..200 {
        agent.shown(control_id, "5550101").await;
    }
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(lab.metric("previewgate_polls_delayed_total"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_no_poll_waits() {
    let lab = MemorySetup::new().settings("limits.polls_per_agent = 0").start();
    lab.simulator.misbehave(Misbehaviour::new(Fault::ServerError { status: 503 }).on("agentevent").always());
    let flood = Request::get(format!("{API}/agentevent/101"));
    let (mut wire, start) = (lab.connect().await, Instant::now());
    for _ in 0..500 {
        wire.send(&flood).await;
    }
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(lab.metric("previewgate_polls_delayed_total"), 0.0);
}
