//! A client that is refused again and again does not fill the log.

use serde_json::Value;

use crate::support::{CapturedLog, Setup};

const SUPPRESSED: &str = "previewgate_log_refusals_suppressed_total";
const REFUSED: &str = "previewgate_preview_callouts_total{decision=\"rejected\",reason=\"control_id_mismatch\"}";

/// The lines of this kind that have `word` in `field`.
fn lines(log: &CapturedLog, field: &str, word: &str) -> Vec<Value> {
    log.lines().into_iter().filter(|line| line[field] == word).collect()
}

#[tokio::test]
async fn refusals_of_one_client_are_throttled_and_forwarded_callouts_are_not() {
    let lab = Setup::plain().lenient().settings("log.refusals_per_minute = 5").start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "5550101").await;
    for number in 0..60 {
        let (control_id, verdict) = if number % 3 == 0 { (7, "ok") } else { (99, "control_id_mismatch") };
        let request = agent.callout(control_id, "5550101").id(&format!("flood-{number}"));
        assert_eq!(lab.send(&request).await.verdict(), verdict);
    }
    lab.metric_becomes(REFUSED, 40.0).await;
    let suppressed = lab.metric(SUPPRESSED);
    // A busy machine may take long, so that a line comes back.
    assert!((30.0..=35.0).contains(&suppressed), "{suppressed}");
    let log = lab.close().await;
    assert_eq!(lines(&log, "decision", "forwarded").len(), 20);
    let refusals = lines(&log, "decision", "rejected");
    assert_eq!(refusals.len(), 40 - suppressed as usize);
    assert_eq!(refusals[0]["request_id"], "flood-1", "the first refusals have a line");
    // The access line of a refusal goes with it.
    let accessed = lines(&log, "operation", "previewCallout");
    assert_eq!(accessed.len(), 60 - suppressed as usize);
    // The log says how many there were, and whose: now and then, and at the end.
    let reports = log.lines().into_iter().filter_map(|line| line["suppressed"].as_u64().map(|count| (count, line)));
    let reports: Vec<_> = reports.collect();
    assert!(reports.iter().all(|(_, line)| line["client"] == "127.0.0.1" && line["level"] == "WARN"), "{reports:?}");
    assert_eq!(reports.iter().map(|(count, _)| *count as f64).sum::<f64>(), suppressed);
}

#[tokio::test]
async fn a_reload_changes_the_limit() {
    let lab = Setup::plain().lenient().settings("log.refusals_per_minute = 1").start().await;
    let agent = lab.agent(101).await;
    let refused = async |id: String| {
        assert_eq!(lab.send(&agent.callout(7, "1").id(&id)).await.verdict(), "unknown_preview");
    };
    for number in 0..10 {
        refused(format!("before-{number}")).await;
    }
    lab.reload_with("log.refusals_per_minute = 0");
    for number in 0..10 {
        refused(format!("after-{number}")).await;
    }
    let log = lab.close().await;
    let ids: Vec<_> = lines(&log, "decision", "rejected").iter().map(|line| line["request_id"].to_string()).collect();
    assert_eq!(ids.iter().filter(|id| id.contains("after")).count(), 10);
    assert!(ids.iter().filter(|id| id.contains("before")).count() < 10);
}
