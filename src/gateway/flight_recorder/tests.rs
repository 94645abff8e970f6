//! Which decisions are kept, and which are evicted.

use std::net::Ipv4Addr;

use super::*;
use crate::gateway::request_ids::RequestIds;
use crate::preview::{Announcement, Bounds, Change, DialedNumber};
use crate::store::EndCause;
use crate::telemetry::Caller;

fn client(number: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, number).into()
}

fn record(verdict: Verdict, request_id: &str) -> DecisionRecord<'_> {
    DecisionRecord {
        audit: None,
        agent_id: AgentId::try_from(1001).ok(),
        verdict,
        reason: if verdict == Verdict::Forwarded { Reason::Ok } else { Reason::UnknownPreview },
        mode: Mode::Enforce,
        called: None,
        control_id: Some(ControlId(7)),
        preview_age: None,
        judged_by: None,
        retcode: Some("0"),
        call_id: None,
        upstream: None,
        status: Some(200),
        duration: Duration::ZERO,
        upstream_duration: None,
        caller: Caller {
            id: "64fd9ca90e103750-3",
            request_id,
            trace_id: None,
            client: "192.0.2.7:50123",
            tenant: None,
            subject: None,
            sha256: None,
        },
    }
}

const NOTHING: Evidence<'_> = Evidence { previews: None, ended: &[], at: Timestamp(0) };

fn decision(record: &DecisionRecord<'_>, evidence: &Evidence<'_>) -> Decision {
    let names =
        Names { id: RequestIds::new().next(), client: &"192.0.2.7:50123".into(), upstream: None, call_id: None };
    Decision::new(record, &names, evidence)
}

fn keep(recorder: &FlightRecorder, from: u8, verdict: Verdict, request_id: &str) {
    recorder.keep(client(from), decision(&record(verdict, request_id), &NOTHING), Instant::now());
}

fn kept(recorder: &FlightRecorder, prefix: &str) -> usize {
    recorder.decisions().iter().filter(|decision| decision.request_id().starts_with(prefix)).count()
}

#[test]
fn the_last_thousand_decisions_are_kept_with_the_newest_first() {
    let recorder = FlightRecorder::default();
    for number in 0..MAX_DECISIONS + 200 {
        keep(&recorder, 1, Verdict::Forwarded, &format!("f{number}"));
    }
    let decisions = recorder.decisions();
    assert_eq!(decisions.len(), MAX_DECISIONS);
    assert_eq!(decisions[0].request_id(), "f1199");
    assert!(decisions.iter().all(|decision| decision.request_id() != "f199"));
}

#[test]
fn a_flood_of_refusals_evicts_neither_forwarded_callouts_nor_refusals_of_other_clients() {
    let recorder = FlightRecorder::default();
    for number in 0..400 {
        keep(&recorder, 1, Verdict::Forwarded, &format!("f{number}"));
    }
    for number in 0..300 {
        keep(&recorder, 2, Verdict::Rejected, &format!("other{number}"));
    }
    for number in 0..20_000 {
        keep(&recorder, 3, Verdict::Rejected, &format!("flood{number}"));
    }
    assert_eq!((kept(&recorder, "f") - kept(&recorder, "flood"), kept(&recorder, "other")), (400, 300));
    assert_eq!(kept(&recorder, "flood"), 300);
    assert_eq!(kept(&recorder, "flood19999"), 1);
}

#[test]
fn neither_queue_can_push_the_other_below_half_of_the_room() {
    let recorder = FlightRecorder::default();
    for number in 0..2000 {
        keep(&recorder, 1, Verdict::Forwarded, &format!("a{number}"));
    }
    for number in 0..2000 {
        keep(&recorder, 3, Verdict::Unverified, &format!("b{number}"));
    }
    assert_eq!((kept(&recorder, "a"), kept(&recorder, "b")), (500, 500));
    assert_eq!((kept(&recorder, "a1999"), kept(&recorder, "b1999")), (1, 1));
}

#[test]
fn the_memory_is_bounded_in_bytes() {
    let recorder = FlightRecorder::default();
    let mut previews = AgentPreviews::default();
    for control_id in 0..16 {
        let numbers = (0..100).map(|number| DialedNumber::new(format!("\u{202e}{number:063}"))).collect();
        let announcement = Announcement { control_id: ControlId(control_id), numbers, shown: Vec::new() };
        previews.apply(Change::Shown(announcement), Timestamp(1), Bounds { per_agent: 16 });
    }
    let evidence = Evidence { previews: Some(&previews), ended: &[], at: Timestamp(9) };
    let long = "\u{1b}".repeat(10_000);
    for number in 0..3000 {
        let decision = decision(&record(Verdict::Rejected, &long), &evidence);
        assert!(decision.bytes() < 16 << 10, "{}", decision.bytes());
        recorder.keep(client(u8::try_from(number % 7).unwrap()), decision, Instant::now());
    }
    let kept = recorder.lock();
    assert!(kept.others.bytes <= MAX_BYTES, "{}", kept.others.bytes);
    let counted: usize = kept.others.entries.iter().map(|entry| entry.decision.bytes()).sum();
    assert_eq!(counted, kept.others.bytes);
    assert_eq!(kept.clients.values().sum::<usize>(), kept.others.entries.len());
}

#[test]
fn the_preview_that_the_callout_names_is_kept_with_the_newest() {
    let mut previews = AgentPreviews::default();
    for control_id in 0..20 {
        let numbers = vec![DialedNumber::new("88889039")];
        let announcement = Announcement { control_id: ControlId(control_id), numbers, shown: Vec::new() };
        previews.apply(Change::Shown(announcement), Timestamp(100), Bounds { per_agent: 100 });
    }
    let ends = [(Some(3), 250), (None, 150)];
    let cause = GoneCause::Ended(EndCause::Released);
    let ended = ends.map(|(id, at)| RecentEnd { control_id: id.map(ControlId), cause, at: Timestamp(at) });
    let evidence = Evidence { previews: Some(&previews), ended: &ended, at: Timestamp(200) };
    let decision = decision(&record(Verdict::Rejected, "x"), &evidence);
    let ids: Vec<_> = decision.previews.iter().map(|preview| preview.control_id.0).collect();
    assert_eq!(ids, [19, 18, 17, 16, 15, 14, 13, 12, 7]);
    assert_eq!(decision.more_previews, 11);
    assert_eq!(decision.previews[0].numbers[0].to_string(), "******39");
    assert_eq!(decision.previews[0].age, Duration::from_millis(100));
    // The end of preview 3 came after the evaluation.
    let [end] = &decision.ended[..] else { panic!("{:?}", decision.ended) };
    assert_eq!((end.control_id, end.age), (None, Duration::from_millis(50)));
}

#[tokio::test(start_paused = true)]
async fn decisions_are_counted_by_the_minute() {
    let recorder = FlightRecorder::default();
    keep(&recorder, 1, Verdict::Forwarded, "a");
    tokio::time::advance(Duration::from_secs(61)).await;
    keep(&recorder, 1, Verdict::Rejected, "b");
    keep(&recorder, 1, Verdict::Rejected, "c");
    let forwarded = |minutes: &[Minute]| -> Vec<_> {
        minutes.iter().map(|minute| minute.with_verdict(Verdict::Forwarded)).collect()
    };
    let hour = recorder.last_hour();
    assert_eq!(forwarded(&hour), [1, 0]);
    assert_eq!(hour[1].with_reason(Verdict::Rejected, Reason::UnknownPreview), 2);
    tokio::time::advance(Duration::from_secs(60 * 58)).await;
    assert_eq!(forwarded(&recorder.last_hour())[0], 1);
    tokio::time::advance(Duration::from_secs(60)).await;
    let hour = recorder.last_hour();
    assert_eq!((hour.len(), hour[0].with_verdict(Verdict::Rejected)), (60, 2));
    // An hour later, these minutes are gone.
    tokio::time::advance(Duration::from_secs(60 * 60)).await;
    keep(&recorder, 1, Verdict::Forwarded, "d");
    assert_eq!(forwarded(&recorder.last_hour()).iter().sum::<u64>(), 1);
}
