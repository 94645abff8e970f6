//! Several gateways: what one of them ended, another one must not let be called.

use std::sync::Arc;
use std::time::Duration;

use previewgate::audit::ConfigTrigger;
use previewgate::audit::verify::{Grade, Result as Proof, Verification};
use previewgate::config::{self, Files};
use previewgate::preview::{
    Bounds, Callout, Change, Clock, ControlId, CountedCall, DialedNumber, ManualClock, Reason, Timestamp, Verdict,
};

use crate::gateway::{Gateway, START, Site, announcement, id};

const PAUSE: Duration = Duration::from_secs(10);

/// Gateway `b` shows a preview of agent 101, gateway `a` records something, and `b` lets a number be called.
fn forwarded_after(record: impl FnOnce(&mut Gateway)) -> Verification {
    let site = Site::new();
    let (mut a, mut b) = (site.gateway("a"), site.gateway("b"));
    b.show(101, 7, &["88881001"]);
    site.clock.advance(PAUSE);
    record(&mut a);
    site.clock.advance(PAUSE);
    b.call(101, 7, "88881001", "1");
    a.stop();
    b.stop();
    assert_eq!(site.verify(&["b"]).result(), Proof::Proved, "only the other gateway knows of the end");
    site.verify(&["a", "b"])
}

#[test]
fn every_kind_of_end_that_another_gateway_recorded_is_compared() {
    let (one, none) = (Some(ControlId(7)), None);
    for (control_id, cause) in [(one, "cancelled"), (one, "released"), (none, "signed_out"), (none, "no_session")] {
        let verification = forwarded_after(|a| a.audit.ended(id(101), control_id, &[], cause));
        let broken: Vec<_> = verification.findings.of(Grade::Broken).collect();
        assert_eq!((verification.result(), broken.len()), (Proof::Broken, 1), "{cause}: {broken:?}");
        let message = format!("was forwarded after its preview was over ({cause}, ");
        assert!(broken[0].message.contains(&message), "{broken:?}");
        assert!(broken[0].file.contains('.') && broken[0].seq.is_some(), "{broken:?}");
    }
}

#[test]
fn an_end_at_another_gateway_is_only_noted_for_an_unverified_callout() {
    let site = Site::new();
    let (mut a, mut b) = (site.gateway("a"), site.gateway("b"));
    b.configure(ConfigTrigger::Signal, "monitor");
    b.show(101, 7, &["88881001"]);
    site.clock.advance(PAUSE);
    a.show(102, 7, &["88881001"]);
    a.audit.ended(id(101), Some(ControlId(7)), &[], "cancelled");
    site.clock.advance(PAUSE);
    let callout = Callout { called: DialedNumber::new("88881001"), control_id: ControlId(7) };
    let previews = b.previews(101);
    let decision = b.record(101, &callout, &previews, Verdict::Unverified, Reason::ForeignSession);
    b.answer(101, decision, "1");
    a.stop();
    b.stop();
    let verification = site.verify(&["a", "b"]);
    assert_eq!(verification.result(), Proof::Proved, "{:?}", verification.findings.all());
    let note = verification.findings.of(Grade::Note).next().unwrap();
    assert!(note.message.contains("was forwarded after its preview was over (cancelled, "), "{note}");
}

#[test]
fn an_end_at_a_gateway_with_a_preview_of_its_own_is_compared() {
    let verification = forwarded_after(|a| {
        // It knows a preview of its own, under the same control ID or another one, and ends all.
        a.show(101, 8, &["88881001"]);
        a.release(101, 8);
        a.audit.ended(id(101), None, &[], "signed_in");
    });
    assert_eq!(verification.result(), Proof::Broken, "{:?}", verification.findings.all());
    let verification = forwarded_after(|a| {
        a.show(101, 7, &["88881002"]);
        a.release(101, 7);
    });
    assert_eq!(verification.result(), Proof::Broken, "{:?}", verification.findings.all());
}

#[test]
fn ends_of_something_else_prove_nothing_wrong() {
    type Record = fn(&mut Gateway);
    let records: [Record; 6] = [
        |a| a.audit.ended(id(101), Some(ControlId(8)), &[], "cancelled"),
        |a| a.audit.ended(id(102), None, &[], "signed_out"),
        // One gateway forgets what another one still knows.
        |a| a.audit.ended(id(101), Some(ControlId(7)), &[], "capacity"),
        |a| a.audit.ended(id(101), Some(ControlId(7)), &[], "expired"),
        // An announcement that came too late ends no other.
        |a| a.audit.ended(id(101), Some(ControlId(7)), &[], "outdated"),
        // A sign-in for push: what was shown since it began stays.
        |a| a.audit.ended_before(id(101), START, "signed_in"),
    ];
    for (number, record) in records.into_iter().enumerate() {
        let verification = forwarded_after(|a| {
            record(a);
            a.show(103, 1, &["1"]);
        });
        assert_eq!(verification.result(), Proof::Proved, "{number}: {:?}", verification.findings.all());
    }
    let after_it_was_shown = START.after(PAUSE);
    let verification = forwarded_after(|a| a.audit.ended_before(id(101), after_it_was_shown, "signed_in"));
    assert_eq!(verification.result(), Proof::Broken, "{:?}", verification.findings.all());
}

#[test]
fn a_missing_announcement_is_named_with_the_place_where_it_may_be() {
    let site = Site::new();
    let (mut a, mut b) = (site.gateway("a"), site.gateway("b"));
    let shown = a.show(101, 7, &["88881001"]);
    let mut announced = announcement(7, &["88881001"]);
    announced.shown = vec![shown];
    b.learn(101, announced);
    site.clock.advance(PAUSE);
    b.call(101, 7, "88881001", "1");
    a.stop();
    b.stop();
    let alone = site.verify(&["b"]);
    let finding = alone.findings.of(Grade::Incomplete).next().unwrap();
    let expected = format!("its preview {} is not in the given directories: another gateway recorded it", shown.record);
    assert!(finding.message.contains(&expected), "{finding}");
}

/// Gateway `b` has a clock that is ahead of that of `a` by `skew_ms`, or behind it.
struct Clocks {
    site: Site,
    of_b: Arc<ManualClock>,
    a: Gateway,
    b: Gateway,
}

impl Clocks {
    fn apart(skew_ms: i64) -> Self {
        let site = Site::new();
        let of_b = Arc::new(ManualClock::new(Timestamp(START.0.checked_add_signed(skew_ms).unwrap())));
        let (a, b) = (site.gateway("a"), site.gateway_by("b", &of_b));
        Self { site, of_b, a, b }
    }

    fn pass(&self, time: Duration) {
        self.site.clock.advance(time);
        self.of_b.advance(time);
    }

    /// Gateway `a` shows a preview, and `b` learns of it.
    fn shown(&mut self) {
        let mut announced = announcement(7, &["88881001"]);
        announced.shown = vec![self.a.show(101, 7, &["88881001"])];
        self.b.learn(101, announced);
    }

    fn verified(self) -> Verification {
        self.a.stop();
        self.b.stop();
        self.site.verify(&["a", "b"])
    }
}

#[track_caller]
fn assert_only_the_clocks_differ(verification: &Verification, seconds: u64) {
    assert_eq!(verification.findings.count(Grade::Broken), 0, "{:?}", verification.findings.all());
    let words = format!("the clocks of these two gateways differ by about {seconds} s");
    let found = verification.findings.of(Grade::Incomplete).filter(|finding| finding.message.contains(&words));
    assert_eq!(found.count(), 1, "{:?}", verification.findings.all());
    assert_eq!(verification.result(), Proof::Incomplete);
}

#[test]
fn a_clock_that_is_behind_makes_no_honest_log_look_broken() {
    for (skew_ms, seconds) in [(-5_000, Some(5)), (-100_000, Some(100)), (-3_000_000, Some(3_000)), (-2_000, None)] {
        let mut clocks = Clocks::apart(skew_ms);
        clocks.shown();
        clocks.pass(Duration::from_secs(1));
        assert_eq!(clocks.b.call(101, 7, "88881001", "1").0, Verdict::Forwarded);
        let verification = clocks.verified();
        assert_eq!((verification.decisions.derived, verification.decisions.unknown), (1, 0), "{skew_ms}");
        match seconds {
            Some(seconds) => assert_only_the_clocks_differ(&verification, seconds),
            None => assert_eq!((verification.result(), verification.findings.all()), (Proof::Proved, &[][..])),
        }
    }
}

#[test]
fn an_end_after_a_call_that_seems_to_come_before_it_is_a_matter_of_the_clocks() {
    // The call is over so soon that the end has the earlier time.
    let honest = |tells: fn(&Gateway)| {
        let mut clocks = Clocks::apart(8_000);
        clocks.b.show(101, 7, &["88881001"]);
        clocks.pass(PAUSE);
        let (verdict, decision) = clocks.b.decide(101, 7, "88881001");
        assert_eq!(verdict, Verdict::Forwarded);
        clocks.b.answer_silently(decision, "call-1");
        clocks.pass(Duration::from_secs(1));
        tells(&clocks.a);
        clocks.pass(Duration::from_secs(1));
        clocks.a.audit.ended(id(101), Some(ControlId(7)), &[], "released");
        clocks.verified()
    };
    // What the platform reports on the call shows which clock is behind.
    let verification = honest(|a| {
        a.report_call(101, "call-1", "AgentEvent_Customer_Alerting", "alerting", Duration::from_secs(11));
    });
    assert_only_the_clocks_differ(&verification, 7);
    let message = "was forwarded after its preview was over (released, ";
    let incomplete: Vec<_> = verification.findings.of(Grade::Incomplete).collect();
    assert!(incomplete.iter().any(|finding| finding.message.contains(message)), "{incomplete:?}");
    // Without such a record the times are all that there is.
    assert_eq!(honest(|_| {}).result(), Proof::Broken);
}

#[test]
fn a_call_of_a_gateway_whose_clock_is_ahead_counts() {
    let mut clocks = Clocks::apart(-6_000);
    (clocks.a.calls_per_number, clocks.b.calls_per_number) = (1, 1);
    (clocks.a.judged_by, clocks.b.judged_by) = ("shared", "shared");
    let limited = "[upstream]\nendpoints = [\"https://h\"]\n[previews]\ncalls_per_number = 1\n";
    let limited = config::parse(limited, std::path::Path::new("/"), Files::Skip).unwrap();
    for gateway in [&clocks.a, &clocks.b] {
        gateway.audit.config(ConfigTrigger::Signal, &limited);
    }
    clocks.shown();
    clocks.pass(PAUSE);
    let (_, first) = clocks.a.call(101, 7, "88881001", "1");
    clocks.pass(Duration::from_secs(1));
    let mut previews = clocks.b.previews(101);
    let call = CountedCall { number: DialedNumber::new("88881001"), id: first, at: clocks.of_b.now() };
    previews.apply(Change::Called(ControlId(7), call), clocks.of_b.now(), Bounds { per_agent: 16 });
    let callout = Callout { called: DialedNumber::new("88881001"), control_id: ControlId(7) };
    clocks.b.record(101, &callout, &previews, Verdict::Rejected, Reason::NumberUsed);
    let verification = clocks.verified();
    assert_eq!(verification.decisions.derived, 2, "{:?}", verification.findings.all());
    assert_only_the_clocks_differ(&verification, 6);
}

/// Ages that the other gateway computed by its own clock, and a preview that had not expired by it.
#[test]
fn a_preview_is_as_old_as_the_gateway_that_judged_it_says_if_clocks_explain_it() {
    for (minutes, result) in [(20, Proof::Incomplete), (90, Proof::Broken)] {
        let mut clocks = Clocks::apart(minutes * 60_000);
        clocks.shown();
        clocks.pass(Duration::from_secs(11 * 60));
        // 11 minutes by its own clock, and more than half an hour by the times in the log.
        assert_eq!(clocks.b.call(101, 7, "88881001", "1").0, Verdict::Forwarded);
        let verification = clocks.verified();
        assert_eq!(verification.result(), result, "{:?}", verification.findings.all());
        if result == Proof::Incomplete {
            assert_only_the_clocks_differ(&verification, 20 * 60);
        }
    }
}

/// With a shared store, an end is recorded a moment before the store has it.
#[test]
fn an_end_that_the_shared_store_may_not_have_known_yet_proves_nothing() {
    let forwarded_after = |judged_by: &'static str, pause: Duration| {
        let site = Site::new();
        let mut gateway = site.gateway("a");
        gateway.judged_by = judged_by;
        gateway.show(101, 7, &["88881001"]);
        site.clock.advance(PAUSE);
        let previews = gateway.previews(101);
        gateway.release(101, 7);
        site.clock.advance(pause);
        let callout = Callout { called: DialedNumber::new("88881001"), control_id: ControlId(7) };
        let decision = gateway.record(101, &callout, &previews, Verdict::Forwarded, Reason::Ok);
        gateway.answer(101, decision, "1");
        gateway.stop();
        site.verify(&["a"]).result()
    };
    let (moment, long) = (Duration::from_millis(300), Duration::from_secs(3));
    assert_eq!(forwarded_after("shared", moment), Proof::Incomplete);
    assert_eq!(forwarded_after("shared", long), Proof::Broken);
    assert_eq!(forwarded_after("memory", moment), Proof::Broken);
}
