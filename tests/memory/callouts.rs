//! Polls, previews and callouts, with the times that a preview lives.

use std::time::Duration;

use previewgate::preview::ControlId;
use serde_json::json;
use tokio::time::Instant;

use crate::support::{API, MemorySetup, Request, id, within};

#[tokio::test(start_paused = true)]
async fn a_number_is_valid_only_with_its_control_id_and_for_its_agent() {
    let lab = MemorySetup::new().simulator(|simulator| simulator.lenient_callouts = true).start();
    let (one, other) = (lab.agent(101).await, lab.agent(102).await);
    one.shown(7, "05712345").await;
    other.shown(8, "05719999").await;
    assert_eq!(one.call(7, "05712345").await.verdict(), "ok");
    assert_eq!(one.call(8, "05712345").await.verdict(), "control_id_mismatch");
    assert_eq!(one.call(7, "05719999").await.verdict(), "number_not_in_preview");
    assert_eq!(other.call(7, "05712345").await.verdict(), "control_id_mismatch");
    assert_eq!(lab.agent(103).await.call(7, "05712345").await.verdict(), "unknown_preview");
    assert_eq!(lab.simulator.callouts().len(), 1);
    assert_eq!(lab.metric("previewgate_preview_callouts_total{decision=\"forwarded\",reason=\"ok\"}"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_held_poll_is_answered_at_once_when_an_event_comes() {
    // These limits are far below the poll's wait, and do not concern it.
    let setup = MemorySetup::new().config(|config| {
        let limits = &mut config.limits;
        for limit in [&mut limits.idle_timeout, &mut limits.first_byte_timeout, &mut limits.head_timeout] {
            *limit = Duration::from_secs(2);
        }
    });
    let lab = setup.start();
    let agent = lab.agent(101).await;
    let start = Instant::now();
    assert_eq!(agent.poll().await.passed().json()["event"], json!(null));
    assert_eq!(start.elapsed().as_secs(), 10, "the platform holds a poll for ten seconds");
    let mut wire = lab.connect().await;
    wire.write(&agent.poll_request().bytes()).await;
    within("the poll to be held", lab.simulator.wait_for_held_polls(1)).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let start = Instant::now();
    lab.simulator.preview(id(101), ControlId(7), "1");
    assert_eq!(wire.answer().await.passed().json()["event"]["content"]["controlid"], 7);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(agent.call(7, "1").await.passed().retcode(), "0");
}

#[tokio::test(start_paused = true)]
async fn a_preview_is_valid_for_half_an_hour() {
    // The session lasts for as long as the test.
    let lab = MemorySetup::new().simulator(|simulator| {
        simulator.lenient_callouts = true;
        simulator.follow_ups = false;
        simulator.idle_sign_out = Duration::from_secs(24 * 60 * 60);
    });
    let lab = lab.start();
    let agent = lab.agent(101).await;
    agent.shown(7, "1").await;
    tokio::time::sleep(Duration::from_secs(29 * 60)).await;
    assert_eq!(agent.call(7, "1").await.verdict(), "ok");
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(agent.call(7, "1").await.verdict(), "preview_expired");
    assert_eq!(lab.simulator.callouts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn releases_and_cancellations_end_previews() {
    let lab = MemorySetup::new().simulator(|simulator| simulator.follow_ups = false).start();
    let agent = lab.agent(101).await;
    agent.shown(7, "1").await;
    agent.shown(8, "1").await;
    let cancel = Request::put(format!("{API}/voicecall/101/cancelPreviewCallout"));
    let cancel = cancel.guid(&agent.guid).json(&json!({"callcontrolid": 7}));
    assert_eq!(lab.send(&cancel).await.passed().retcode(), "0");
    assert_eq!(agent.call(7, "1").await.verdict(), "control_id_mismatch");
    assert_eq!(agent.call(8, "1").await.verdict(), "ok");
    agent.released().await;
    assert_ne!(agent.call(8, "1").await.verdict(), "ok");
    assert_eq!(lab.simulator.callouts().len(), 1);
}
