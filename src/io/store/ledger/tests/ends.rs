//! What the audit log learns of the ends of previews.

use super::*;
use crate::preview::ShownRef;
use crate::store::EndScope;

/// Every end, as the audit log learns of it.
#[derive(Default)]
struct Observed(Mutex<Vec<(Option<i64>, usize, &'static str)>>);

impl EndObserver for Observed {
    fn ended(&self, _: AgentId, control_id: Option<ControlId>, shown: &[ShownRef], cause: &'static str) {
        self.0.lock().unwrap().push((control_id.map(|id| id.0), shown.len(), cause));
    }

    fn ended_elsewhere(&self, _: AgentId, scope: EndScope, _: &'static str) {
        panic!("no other gateway shares these previews: {scope:?}");
    }
}

impl Observed {
    fn take(&self) -> Vec<(Option<i64>, usize, &'static str)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// Records an answer with these events.
fn record(ledger: &Ledger, events: &[String]) {
    let body = format!(r#"{{"retcode":"0","event":[{}]}}"#, events.join(","));
    ledger.record(referring(&body), &poll_of_all(ledger));
}

/// Each announcement refers to a record of its own.
fn referring(body: &str) -> Events {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let mut found = parse_events(body.as_bytes()).unwrap();
    for event in &mut found.events {
        if let Some(Change::Shown(shown)) = &mut event.change {
            let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            shown.shown.push(format!("0000000000000001-{number:x}@2026-11:00000001").parse().unwrap());
        }
    }
    found
}

#[test]
fn the_observer_learns_of_each_end_once_with_its_cause() {
    let Scene { ledger, clock, metrics: _metrics } = scene();
    let observed = Arc::new(Observed::default());
    ledger.observe_ends(observed.clone());
    let record = |events: &[String]| {
        record(&ledger, events);
        observed.take()
    };
    assert_eq!(record(&[preview(101, 1, 10), preview(101, 2, 10)]), []);
    ledger.end(agent(101), Change::Cancelled(ControlId(1)), EndCause::Cancelled);
    assert_eq!(observed.take(), [(Some(1), 1, "cancelled")]);
    // An agent without this preview: nothing ends.
    ledger.end(agent(102), Change::Cancelled(ControlId(1)), EndCause::Cancelled);
    assert_eq!(record(&[]), []);
    assert_eq!(record(&[preview(101, 3, 20), release(101, 21)]), [(Some(2), 1, "released"), (Some(3), 1, "released")]);
    assert_eq!(record(&[preview(101, 4, 20)]), [(Some(4), 1, "outdated")]);
    let many: Vec<_> = (10..30).map(|id| preview(101, id, 100)).collect();
    let evicted = record(&many);
    assert_eq!((evicted.len(), evicted[0]), (4, (Some(10), 1, "per_agent")));
    clock.advance(Duration::from_secs(1));
    ledger.sign_in(agent(101), &SignIn { began: ledger.moment(), pushes: false, session: None });
    assert!(record(&[]).iter().all(|end| end.2 == "signed_in"));
}

/// Events of one answer count in their order: a preview that had to make room for a later one has no second end.
#[test]
fn no_preview_has_two_ends_however_the_events_of_an_answer_follow_each_other() {
    let named = |id: i64| {
        format!(
            r#"{{"eventType":"AgentEvent_Release_Preview","workNo":"101","eventGenTime":50,"content":{{"controlid":"{id}"}}}}"#
        )
    };
    let sixteen = || (1..=16).map(|id| preview(101, id, 10)).collect::<Vec<_>>();
    for (events, expected) in [
        (vec![named(1), preview(101, 17, 60)], vec![(Some(1), 1, "released")]),
        (vec![preview(101, 17, 60), named(1)], vec![(Some(1), 1, "per_agent")]),
        (vec![named(1), named(1)], vec![(Some(1), 1, "released")]),
        (vec![named(1), preview(101, 17, 60), named(17)], vec![(Some(1), 1, "released"), (Some(17), 1, "released")]),
        (vec![preview(101, 1, 60), named(1)], vec![(Some(1), 2, "released")]),
        (vec![preview(101, 17, 60), named(17)], vec![(Some(1), 1, "per_agent"), (Some(17), 1, "released")]),
    ] {
        let Scene { ledger, clock: _clock, metrics: _metrics } = scene();
        let observed = Arc::new(Observed::default());
        ledger.observe_ends(observed.clone());
        let record = |events: &[String]| {
            record(&ledger, events);
            observed.take()
        };
        assert_eq!(record(&sixteen()), []);
        assert_eq!(record(&events), expected, "{events:?}");
    }
}

/// How many previews the agent has of those that are over, when the audit log learns of it.
struct AtTheEnd(Arc<Ledger>, Mutex<Vec<usize>>);

impl EndObserver for AtTheEnd {
    fn ended(&self, agent: AgentId, _: Option<ControlId>, shown: &[ShownRef], _: &'static str) {
        let previews = self.0.local().previews(agent).unwrap_or_default();
        let is_over = |reference: &ShownRef| shown.iter().any(|over| over.record == reference.record);
        let ended = previews.iter().filter(|preview| preview.shown.iter().any(is_over));
        self.1.lock().unwrap().push(ended.count());
    }

    fn ended_elsewhere(&self, _: AgentId, scope: EndScope, _: &'static str) {
        panic!("no other gateway shares these previews: {scope:?}");
    }
}

/// A callout that is judged after the record of an end is not judged by the preview: otherwise the log would accuse the
/// gateway.
#[test]
fn an_end_is_observed_when_the_preview_is_gone() {
    let Scene { ledger, clock, metrics: _metrics } = scene();
    let ledger = Arc::new(ledger);
    let observer = Arc::new(AtTheEnd(Arc::clone(&ledger), Mutex::default()));
    ledger.observe_ends(observer.clone());
    let record = |events: &[String]| record(&ledger, events);
    let sign_in = || SignIn { began: ledger.moment(), pushes: false, session: None };
    let ends: [(&str, &dyn Fn()); 7] = [
        ("cancelled", &|| ledger.end(agent(101), Change::Cancelled(ControlId(7)), EndCause::Cancelled)),
        ("signed out", &|| ledger.end(agent(101), Change::Ended, EndCause::SignedOut)),
        ("no session", &|| ledger.end(agent(101), Change::Ended, EndCause::NoSession)),
        ("released", &|| record(&[release(101, u64::MAX / 2)])),
        ("released and shown again", &|| record(&[release(101, u64::MAX / 2), preview(101, 7, u64::MAX / 2 + 1)])),
        ("signed in", &|| ledger.sign_in(agent(101), &sign_in())),
        ("an unclear sign-in", &|| ledger.end_by_unclear_sign_in(agent(101), &sign_in())),
    ];
    for (name, end) in ends {
        clock.advance(Duration::from_secs(1));
        record(&[preview(101, 7, u64::MAX / 2 + 2)]);
        clock.advance(Duration::from_secs(1));
        end();
        assert_eq!(std::mem::take(&mut *observer.1.lock().unwrap()), [0], "{name}");
    }
}
