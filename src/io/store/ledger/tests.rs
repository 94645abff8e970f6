//! What events, sign-ins and ends do to the state of the agents.

mod calls;
mod clocks;
mod ends;
mod killed;
mod model;
mod store_away;
mod takeover;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::preview::{Announcement, ControlId, ManualClock};
use crate::protocol::parse_events;
use crate::store::{PreviewSource, StoreState};
use crate::telemetry::metrics::DropCause;

struct Scene {
    ledger: Ledger,
    clock: Arc<ManualClock>,
    metrics: Arc<Metrics>,
}

fn agent(number: u32) -> AgentId {
    AgentId::try_from(number).unwrap()
}

fn config() -> Previews {
    Previews {
        ttl: Duration::from_secs(60),
        calls_per_number: 0,
        per_agent: 16,
        max_agents: 100,
        snapshot: None,
        snapshot_interval: Duration::from_secs(10),
        session_key: None,
        store: StoreKind::Memory,
    }
}

fn scene() -> Scene {
    let (clock, metrics) = (Arc::new(ManualClock::new(Timestamp(1_000_000))), Arc::new(Metrics::new()));
    Scene { ledger: Ledger::new(&config(), clock.clone(), Arc::clone(&metrics)), clock, metrics }
}

fn preview(agent: u32, control_id: i64, generated_at: u64) -> String {
    format!(
        r#"{{"eventType":"AgentEvent_Preview_CallOut","workNo":"{agent}","eventGenTime":{generated_at},
            "content":{{"controlid":{control_id},"dialeddigits":"100"}}}}"#
    )
}

fn release(agent: u32, generated_at: u64) -> String {
    format!(r#"{{"eventType":"AgentEvent_Release_Preview","workNo":"{agent}","eventGenTime":{generated_at}}}"#)
}

/// The answer to a poll of all agents that began just now.
fn poll_of_all(ledger: &Ledger) -> Source<'static> {
    let (began, at) = (ledger.moment(), ledger.clock().now());
    Source { meant_for: None, delivery: Delivery::PollAll, session: None, began, at }
}

impl Scene {
    fn poll(&self, number: u32, guid: &str, began: Moment, events: &[String]) -> Recorded {
        self.answered(number, guid, began, "0", events)
    }

    fn answered(&self, number: u32, guid: &str, began: Moment, retcode: &str, events: &[String]) -> Recorded {
        let body = format!(r#"{{"retcode":"{retcode}","event":[{}]}}"#, events.join(","));
        let source = Source {
            meant_for: Some(agent(number)),
            delivery: Delivery::Poll,
            session: Some(guid.as_bytes()),
            began,
            at: self.ledger.clock().now(),
        };
        self.ledger.record(parse_events(body.as_bytes()).unwrap(), &source)
    }

    fn poll_all(&self, events: &[String]) -> Recorded {
        let body = format!(r#"{{"retcode":"0","event":[{}]}}"#, events.join(","));
        self.ledger.record(parse_events(body.as_bytes()).unwrap(), &poll_of_all(&self.ledger))
    }

    fn push(&self, number: u32, began: Moment, events: &[String]) -> Recorded {
        self.pushed(Some(number), None, began, events)
    }

    /// `number`: the agent of the push address, where it is known.
    fn pushed(&self, number: Option<u32>, guid: Option<&str>, began: Moment, events: &[String]) -> Recorded {
        let body = format!(r#"{{"eventList":[{}]}}"#, events.join(","));
        let session = guid.map(str::as_bytes);
        let source = Source {
            meant_for: number.map(agent),
            delivery: Delivery::Push,
            session,
            began,
            at: self.ledger.clock().now(),
        };
        self.ledger.record(parse_events(body.as_bytes()).unwrap(), &source)
    }

    fn control_ids(&self, number: u32) -> Vec<i64> {
        let previews = self.ledger.local().previews(agent(number)).unwrap_or_default();
        previews.iter().map(|preview| preview.control_id.0).collect()
    }

    fn has_metric(&self, line: &str) -> bool {
        self.metrics.encode().lines().any(|known| known == line)
    }
}

#[test]
fn a_release_that_overtakes_its_preview_ends_it_and_the_drop_is_counted() {
    let scene = scene();
    let (first, second) = (scene.ledger.moment(), scene.ledger.moment());
    scene.poll(101, "own", second, &[release(101, 2000)]);
    let late = scene.poll(101, "own", first, &[preview(101, 7, 1000)]);
    assert_eq!((late.outdated, late.agents.len()), (1, 0));
    assert_eq!(late.outcomes[..], [Outcome::Dropped(agent(101), DropCause::Outdated)]);
    assert_eq!(scene.control_ids(101), [] as [i64; 0]);
    assert!(scene.has_metric("previewgate_previews_dropped_total{cause=\"outdated\"} 1"));
    scene.poll(101, "own", scene.ledger.moment(), &[preview(101, 8, 2000)]);
    assert_eq!(scene.control_ids(101), [8]);
}

#[test]
fn one_answer_about_many_agents_is_recorded_for_each_in_order() {
    let scene = scene();
    let events = [
        preview(101, 1, 1),
        preview(102, 2, 2),
        release(101, 3),
        preview(101, 3, 4),
        r#"{"eventType":"AgentEvent_Release_Preview"}"#.to_owned(),
        r#"{"eventType":"AgentEvent_Talking","workNo":"101"}"#.to_owned(),
    ];
    let recorded = scene.poll_all(&events);
    assert_eq!((scene.control_ids(101), scene.control_ids(102)), (vec![3], vec![2]));
    assert_eq!((recorded.agents.to_vec(), recorded.unreadable), (vec![agent(101), agent(102)], 1));
    let shown = |number| Outcome::Shown { agent: agent(number), evicted: 0 };
    let ended = Outcome::Ended(agent(101), None);
    assert_eq!(
        recorded.outcomes[..],
        [shown(101), shown(102), ended, shown(101), Outcome::NoAgent, Outcome::Irrelevant]
    );
}

#[test]
fn events_that_cannot_be_read_are_counted() {
    let scene = scene();
    let unreadable = r#"{"eventType":"AgentEvent_Preview_CallOut","workNo":"101"}"#.to_owned();
    let recorded = scene.poll_all(&[unreadable.clone(), preview(101, 1, 1), unreadable]);
    assert_eq!((recorded.unreadable, scene.control_ids(101)), (2, vec![1]));
    assert!(scene.has_metric("previewgate_event_parse_failures_total 2"));
}

#[test]
fn what_a_poll_shows_that_began_before_a_sign_in_is_over() {
    let scene = scene();
    let held = scene.ledger.moment();
    let began = scene.ledger.moment();
    scene.ledger.sign_in(agent(101), &SignIn { began, pushes: false, session: None });
    let recorded = scene.poll(101, "old", held, &[preview(101, 7, 1000)]);
    assert_eq!(recorded.outcomes[..], [Outcome::Dropped(agent(101), DropCause::EarlierSession)]);
    // In the same millisecond, but after the sign-in.
    scene.poll(101, "new", scene.ledger.moment(), &[preview(101, 8, 1000)]);
    assert_eq!(scene.control_ids(101), [8]);
    assert!(scene.has_metric("previewgate_previews_dropped_total{cause=\"earlier_session\"} 1"));
}

#[test]
fn a_push_that_is_faster_than_the_answer_to_its_sign_in_stays() {
    let scene = scene();
    let old = scene.ledger.moment();
    scene.push(101, old, &[preview(101, 1, 1000)]);
    // All of this in one millisecond.
    let began = scene.ledger.moment_of_sign_in();
    scene.push(101, scene.ledger.moment(), &[preview(101, 2, 1000)]);
    scene.ledger.sign_in(agent(101), &SignIn { began, pushes: true, session: None });
    scene.push(101, old, &[preview(101, 3, 1000)]);
    assert_eq!(scene.control_ids(101), [2]);
}

/// The clock stands still: the order of events alone says what was shown before a sign-in.
#[test]
fn a_preview_of_the_same_millisecond_belongs_to_the_session_in_which_it_was_shown() {
    for pushes in [false, true] {
        let scene = scene();
        scene.poll(101, "old", scene.ledger.moment(), &[preview(101, 7, 1), preview(101, 8, 1)]);
        let began = scene.ledger.moment_of_sign_in();
        scene.push(101, scene.ledger.moment(), &[preview(101, 8, 1)]);
        let shown_again = scene.ledger.local().previews(agent(101)).unwrap();
        scene.ledger.sign_in(agent(101), &SignIn { began, pushes, session: None });
        assert!(scene.ledger.recent_ends(agent(101)).iter().all(|end| end.at <= scene.ledger.clock().now()));
        assert_eq!(scene.control_ids(101), if pushes { vec![8] } else { vec![] }, "{shown_again:?}");
        scene.poll(101, "new", scene.ledger.moment(), &[preview(101, 9, 1)]);
        assert_eq!(scene.control_ids(101), if pushes { vec![8, 9] } else { vec![9] });
    }
    // The agent of a sign-in by account is known when its GUID is used.
    let scene = scene();
    scene.poll(101, "old", scene.ledger.moment(), &[preview(101, 7, 1)]);
    scene.ledger.sign_in_of_unknown_agent(b"new", scene.ledger.moment_of_sign_in());
    scene.poll(101, "new", scene.ledger.moment(), &[preview(101, 8, 1)]);
    assert_eq!(scene.control_ids(101), [8]);
}

#[test]
fn after_a_sign_out_the_agent_is_signed_out_until_a_later_poll_or_sign_in_succeeds() {
    let scene = scene();
    let held = scene.ledger.moment();
    scene.poll(101, "own", held, &[preview(101, 7, 1000)]);
    assert!(!scene.ledger.is_signed_out(agent(101)));
    scene.ledger.end(agent(101), Change::Ended, EndCause::SignedOut);
    scene.poll(101, "own", held, &[]);
    assert!(scene.ledger.is_signed_out(agent(101)), "that poll had begun before");
    scene.poll(101, "own", scene.ledger.moment(), &[]);
    assert!(!scene.ledger.is_signed_out(agent(101)));
    scene.ledger.end(agent(101), Change::Ended, EndCause::SignedOut);
    scene.ledger.sign_in(agent(101), &SignIn { began: scene.ledger.moment(), pushes: false, session: None });
    assert!(!scene.ledger.is_signed_out(agent(101)));
}

#[test]
fn only_the_own_session_ends_previews_by_an_answer_without_session() {
    let scene = scene();
    scene.poll(101, "own", scene.ledger.moment(), &[preview(101, 7, 1000)]);
    for other_refusal in ["000-003", "100-007", "1"] {
        let answer = scene.answered(101, "own", scene.ledger.moment(), other_refusal, &[]);
        assert_eq!((answer.agents.len(), scene.control_ids(101)), (0, vec![7]), "{other_refusal}");
    }
    let foreign = scene.answered(101, "foreign", scene.ledger.moment(), "100-006", &[]);
    assert_eq!((foreign.agents.len(), scene.control_ids(101)), (0, vec![7]));
    let own = scene.answered(101, "own", scene.ledger.moment(), "100-008", &[]);
    assert_eq!((own.agents.to_vec(), scene.control_ids(101)), (vec![agent(101)], vec![]));
    assert!(scene.ledger.is_signed_out(agent(101)));
}

#[test]
fn a_cancellation_ends_one_preview() {
    let scene = scene();
    scene.poll(101, "own", scene.ledger.moment(), &[preview(101, 7, 1), preview(101, 8, 1)]);
    scene.ledger.end(agent(101), Change::Cancelled(ControlId(7)), EndCause::Cancelled);
    assert_eq!(scene.control_ids(101), [8]);
}

#[test]
fn previews_are_recorded_from_successful_answers_only_and_ends_from_all() {
    for (retcode, expected) in
        [("0", vec![7]), ("0\\u0000", vec![7]), (" \\u00000 ", vec![7]), ("000-003", vec![]), ("1", vec![])]
    {
        let scene = scene();
        scene.answered(101, "own", scene.ledger.moment(), retcode, &[preview(101, 7, 1000)]);
        assert_eq!(scene.control_ids(101), expected, "{retcode}");
    }
    let scene = scene();
    scene.poll(101, "own", scene.ledger.moment(), &[preview(101, 7, 1000)]);
    scene.answered(101, "own", scene.ledger.moment(), "000-003", &[release(101, 2000)]);
    assert_eq!(scene.control_ids(101), [] as [i64; 0]);
}

#[test]
fn a_release_that_names_a_control_id_ends_that_preview_and_its_late_announcement_only() {
    let scene = scene();
    let named =
        r#"{"eventType":"AgentEvent_Release_Preview","workNo":"101","eventGenTime":2000,"content":{"controlid":"7"}}"#;
    scene.poll(101, "own", scene.ledger.moment(), &[preview(101, 7, 1000), preview(101, 8, 1000)]);
    scene.poll(101, "own", scene.ledger.moment(), &[named.to_owned()]);
    assert_eq!(scene.control_ids(101), [8]);
    scene.poll(101, "own", scene.ledger.moment(), &[preview(101, 7, 1500), preview(101, 9, 1500)]);
    assert_eq!(scene.control_ids(101), [8, 9]);
}

#[test]
fn the_guid_of_a_push_is_the_agents_own() {
    for (of_address, events, learnt) in [
        (Some(101), vec![preview(101, 7, 1)], true),
        (Some(101), vec![], true),
        (None, vec![preview(101, 7, 1), release(101, 2)], true),
        (None, vec![preview(101, 7, 1), preview(102, 7, 1)], false),
        (None, vec![], false),
    ] {
        let scene = scene();
        scene.pushed(of_address, Some("own"), scene.ledger.moment(), &events);
        let expected = if learnt { Ownership::Own } else { Ownership::Unknown };
        assert_eq!(scene.ledger.session_of(b"own", agent(101)), expected, "{of_address:?} {events:?}");
        assert_ne!(scene.ledger.session_of(b"invented", agent(101)), Ownership::Own);
    }
}

#[test]
fn polls_and_pushes_of_the_session_before_teach_nothing_about_the_present_one() {
    let scene = scene();
    let held = scene.ledger.moment();
    let sign_in = SignIn { began: scene.ledger.moment(), pushes: false, session: Some(b"new") };
    scene.ledger.sign_in(agent(101), &sign_in);
    scene.poll(101, "old", held, &[]);
    scene.pushed(Some(101), Some("old"), held, &[]);
    assert_eq!(scene.ledger.session_of(b"old", agent(101)), Ownership::NotOwn);
    assert_eq!(scene.ledger.session_of(b"new", agent(101)), Ownership::Own);
    // A poll that the platform has accepted since: a renewal that this gateway did not see.
    scene.poll(101, "renewed", scene.ledger.moment(), &[]);
    assert_eq!(scene.ledger.session_of(b"renewed", agent(101)), Ownership::Own);
}

#[test]
fn an_empty_poll_with_the_guid_of_another_agent_teaches_nothing() {
    let scene = scene();
    scene.poll(102, "theirs", scene.ledger.moment(), &[preview(102, 7, 1)]);
    scene.poll(101, "own", scene.ledger.moment(), &[preview(101, 7, 1)]);
    scene.poll(101, "theirs", scene.ledger.moment(), &[]);
    assert_eq!(scene.ledger.session_of(b"theirs", agent(101)), Ownership::Other(agent(102)));
    // What names another agent was not shown to this one.
    scene.poll(101, "theirs", scene.ledger.moment(), &[preview(102, 8, 1)]);
    assert_eq!(scene.ledger.session_of(b"theirs", agent(101)), Ownership::Other(agent(102)));
}

/// One program polls for all its agents with one GUID.
#[test]
fn polls_with_one_guid_for_many_agents_make_no_agent_a_stranger() {
    let scene = scene();
    for number in 101..110 {
        scene.poll(number, "shared", scene.ledger.moment(), &[]);
        assert_eq!(scene.ledger.session_of(b"shared", agent(number)), Ownership::Unknown);
    }
    for number in 101..110 {
        scene.poll(number, "shared", scene.ledger.moment(), &[preview(number, 7, 1)]);
    }
    for number in 101..110 {
        assert_eq!(scene.ledger.session_of(b"shared", agent(number)), Ownership::Own);
    }
}

#[test]
fn what_held_polls_bring_after_an_end_of_unknown_outcome_is_dropped() {
    let scene = scene();
    let held = scene.ledger.moment();
    scene.ledger.end(agent(101), Change::Ended, EndCause::UnknownOutcome);
    scene.poll(101, "own", held, &[preview(101, 7, 1)]);
    assert_eq!(scene.control_ids(101), [] as [i64; 0]);
    let held = scene.ledger.moment();
    let sign_in = SignIn { began: scene.ledger.moment(), pushes: false, session: None };
    scene.ledger.end_by_unclear_sign_in(agent(101), &sign_in);
    scene.poll(101, "own", held, &[preview(101, 7, 1)]);
    assert_eq!(scene.control_ids(101), [] as [i64; 0]);
    scene.poll(101, "own", scene.ledger.moment(), &[preview(101, 8, 1)]);
    assert_eq!(scene.control_ids(101), [8]);
}

#[test]
fn what_held_polls_bring_after_an_answer_without_session_is_dropped() {
    let scene = scene();
    scene.poll(101, "own", scene.ledger.moment(), &[preview(101, 6, 1)]);
    let held = scene.ledger.moment();
    scene.ledger.end_if_own(agent(101), b"own", EndCause::NoSession);
    scene.poll(101, "own", held, &[preview(101, 7, 1)]);
    assert_eq!(scene.control_ids(101), [] as [i64; 0]);
    scene.poll(101, "own", scene.ledger.moment(), &[preview(101, 8, 1)]);
    assert_eq!(scene.control_ids(101), [8]);
}

#[test]
fn a_push_address_dies_with_the_announced_end_of_its_session() {
    let scene = scene();
    let sign_in = || {
        let issued = scene.ledger.issue_time();
        let began = scene.ledger.moment();
        scene.ledger.sign_in(agent(101), &SignIn { began, pushes: true, session: None });
        scene.ledger.begin_push_session(agent(101), issued);
        issued
    };
    let issued = sign_in();
    assert!(!scene.ledger.is_push_session_over(agent(101), issued));
    assert!(scene.ledger.is_push_session_over(agent(101), Timestamp(0)), "an address of a session before");
    scene.push(101, scene.ledger.moment(), &[preview(101, 7, 1)]);
    let shutdown = r#"{"eventType":"AgentOther_ShutdownService","workNo":"101","content":null}"#.to_owned();
    scene.push(101, scene.ledger.moment(), &[shutdown]);
    assert!(scene.ledger.is_push_session_over(agent(101), issued));
    // The clock has not moved: the next session is told from the last by its order.
    let issued = sign_in();
    assert!(!scene.ledger.is_push_session_over(agent(101), issued));
}

#[test]
fn an_unclear_cancellation_ends_no_session_and_an_unclear_sign_out_does() {
    for (change, left) in [(Change::Cancelled(ControlId(7)), vec![8]), (Change::Ended, vec![])] {
        let scene = scene();
        let held = scene.ledger.moment();
        scene.poll(101, "own", held, &[preview(101, 7, 1)]);
        scene.ledger.end(agent(101), change.clone(), EndCause::UnknownOutcome);
        scene.poll(101, "own", held, &[preview(101, 8, 1)]);
        assert_eq!(scene.control_ids(101), left, "{change:?}");
    }
}

#[test]
fn a_sign_in_without_push_ends_the_push_addresses_of_the_session_before() {
    let scene = scene();
    let issued = scene.ledger.issue_time();
    let sign_in = |pushes| {
        let began = scene.ledger.moment_of_sign_in();
        scene.ledger.sign_in(agent(101), &SignIn { began, pushes, session: None });
    };
    sign_in(true);
    assert!(!scene.ledger.is_push_session_over(agent(101), issued));
    sign_in(false);
    assert!(scene.ledger.is_push_session_over(agent(101), issued));
}

#[test]
fn previews_that_nobody_needs_any_more_are_forgotten_and_counted() {
    let scene = scene();
    let config = Previews { ttl: Duration::ZERO, ..config() };
    let ledger = Ledger::new(&config, scene.clock.clone(), Arc::clone(&scene.metrics));
    let scene = Scene { ledger, ..scene };
    scene.poll(101, "own", scene.ledger.moment(), &[preview(101, 7, 1)]);
    scene.ledger.maintain();
    assert!(scene.has_metric("previewgate_previews_evicted_total{cause=\"expired\"} 1"));
    assert_eq!(scene.ledger.local().count(), 0);
}

#[test]
fn what_ended_lately_is_remembered_with_its_cause() {
    let scene = scene();
    let many: Vec<_> = (0..17).map(|id| preview(101, id, 1)).collect();
    scene.poll(101, "own", scene.ledger.moment(), &many);
    scene.ledger.end(agent(101), Change::Cancelled(ControlId(3)), EndCause::Cancelled);
    scene.ledger.end(agent(102), Change::Ended, EndCause::SignedOut);
    let ends = |number| -> Vec<_> {
        scene
            .ledger
            .recent_ends(agent(number))
            .iter()
            .map(|end| (end.control_id.map(|id| id.0), end.cause.as_str()))
            .collect()
    };
    assert_eq!(ends(101), [(Some(3), "cancelled"), (None, "made_room")]);
    assert_eq!(ends(102), [(None, "signed_out")]);
    assert_eq!(ends(103), []);
}

#[tokio::test]
async fn a_callout_is_told_what_the_agent_was_shown_and_whose_the_guid_is() {
    let scene = scene();
    assert_eq!(scene.ledger.previews(agent(101)).await, Ok(None));
    scene.poll(101, "own", scene.ledger.moment(), &[preview(101, 7, 1)]);
    assert_eq!(scene.ledger.previews(agent(101)).await.unwrap().unwrap().len(), 1);
    let found = scene.ledger.look_up(agent(101), b"own").await;
    assert_eq!((found.source, found.ownership), (PreviewSource::Memory, Ownership::Own));
    assert_eq!(scene.ledger.look_up(agent(101), b"other").await.ownership, Ownership::NotOwn);
}

/// Without a journal and a shared store there is nothing to wait for, and nothing outlives the process.
#[tokio::test]
async fn with_a_journal_ends_and_sessions_outlive_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let snapshot = directory.path().join("previews.snapshot");
    let scene = scene();
    scene.ledger.use_session_key(b"secret");
    assert_eq!(scene.ledger.sessions().key().id(), GuidKey::new(b"secret").id());
    scene.ledger.learn_session(agent(101), b"own");
    assert!(!scene.ledger.renew_session(agent(101), b"own", b"new"), "there is nobody to tell");
    assert_eq!(scene.ledger.rotate_journal(0).unwrap(), 0);
    scene.ledger.start_journal(Journal::start(&snapshot, "0123456789abcdef", Arc::clone(&scene.metrics)).unwrap());
    assert_eq!(scene.ledger.rotate_journal(0).unwrap(), 1);
    assert!(scene.ledger.renew_session(agent(101), b"new", b"newer"));
    assert!(!scene.ledger.renew_session(agent(101), b"invented", b"another"));
    scene.poll(101, "newer", scene.ledger.moment(), &[preview(101, 7, 1)]);
    scene.ledger.end(agent(101), Change::Ended, EndCause::Released);
    scene.ledger.share(&[agent(101)]).await.unwrap();
    let written =
        std::fs::read_dir(directory.path()).unwrap().map(|file| std::fs::read_to_string(file.unwrap().path()));
    let written = written.collect::<Result<String, _>>().unwrap();
    let lines: Vec<_> = written.lines().filter(|line| line.starts_with("101 ")).collect();
    assert!(lines.iter().any(|line| line.starts_with("101 +")), "{written}");
    assert!(lines.iter().any(|line| line.starts_with("101 * ")), "{written}");
    assert_eq!(scene.ledger.rotate_journal(0).unwrap(), 2, "the next snapshot needs nothing of the first file");
    assert!(!scene.ledger.is_shared() && !scene.ledger.is_joining());
    assert_eq!(scene.ledger.state(), StoreState::Ok);
    assert!(scene.ledger.store_condition().is_none() && scene.ledger.shared_previews(agent(101)).is_none());
}

#[test]
fn each_agent_has_a_lock_and_the_memory_is_bounded() {
    let scene = scene();
    for number in [AgentId::MIN, 255, 256, 257, AgentId::MAX] {
        assert!(scene.ledger.lock(agent(number)).is_some(), "{number}");
        assert!(scene.ledger.lock(agent(number)).is_some(), "it was released");
    }
    let all = scene.ledger.lock_all();
    assert!(scene.ledger.locks.iter().all(|lock| lock.try_lock().is_err()));
    drop(all);
    for number in 101..401 {
        scene.poll(number, "own", scene.ledger.moment(), &[preview(number, 7, 1)]);
    }
    scene.ledger.maintain();
    assert_eq!(scene.ledger.local().agents().len(), 100);
}
