//! The gateway's own part of the time to an answer.

use previewgate::simulator::{Fault, Misbehaviour};

use crate::support::{API, MemorySetup, Request};

#[tokio::test(start_paused = true)]
async fn the_time_of_the_upstream_is_not_the_gateways_own() {
    let lab = MemorySetup::new().start();
    lab.simulator.misbehave(Misbehaviour::new(Fault::Delay { milliseconds: 7000 }).on("slow"));
    lab.send(&Request::get(format!("{API}/slow"))).await.passed();
    let sum = |family: &str| lab.metric(&format!("previewgate_{family}_seconds_sum{{operation=\"other\"}}"));
    assert!(sum("request_duration") >= 7.0 && sum("own_duration") < 0.001, "{}", sum("own_duration"));
    assert_eq!(lab.metric("previewgate_own_duration_seconds_count{operation=\"other\"}"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_an_upstream_that_does_not_answer_is_not_the_gateways_own() {
    let lab = MemorySetup::new().settings("upstream.response_timeout = \"11s\"").start();
    lab.simulator.misbehave(Misbehaviour::new(Fault::Delay { milliseconds: 60_000 }).on("slow"));
    assert_eq!(lab.send(&Request::get(format!("{API}/slow"))).await.own().status, 504);
    assert!(lab.metric("previewgate_own_duration_seconds_sum{operation=\"other\"}") < 0.001);
}
