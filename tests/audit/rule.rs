//! The verifier runs the rule again, and finds what does not follow from it.

use std::time::Duration;

use previewgate::audit::ConfigTrigger;
use previewgate::audit::verify::{Finding, Grade, Result as Proof, Verification};
use previewgate::preview::{Callout, ControlId, DialedNumber, Reason, Verdict};

use crate::gateway::{Gateway, Site, announcement, three_days};

fn callout(control_id: i64, number: &str) -> Callout {
    Callout { called: DialedNumber::new(number), control_id: ControlId(control_id) }
}

#[track_caller]
fn assert_broken(verification: &Verification, message: &str) {
    assert_eq!(verification.result(), Proof::Broken);
    let broken: Vec<&Finding> = verification.findings.of(Grade::Broken).collect();
    assert!(broken.iter().any(|finding| finding.message.contains(message)), "{message}: {broken:#?}");
}

/// A gateway that records this; the verification of its directory.
fn after(record: impl FnOnce(&Site, &mut Gateway)) -> Verification {
    let site = Site::new();
    let mut gateway = site.gateway("a");
    gateway.show(101, 7, &["88881001", "88881002"]);
    site.clock.advance(Duration::from_secs(10));
    record(&site, &mut gateway);
    gateway.stop();
    site.verify(&["a"])
}

#[test]
fn a_gateway_that_obeys_its_rule_is_proved() {
    let verification = after(|site, gateway| {
        assert_eq!(gateway.call(101, 7, "88881001", "1").0, Verdict::Forwarded);
        assert_eq!(gateway.call(101, 7, "88881003", "2").0, Verdict::Rejected);
        assert_eq!(gateway.call(101, 8, "88881001", "3").0, Verdict::Rejected);
        assert_eq!(gateway.call(102, 7, "88881001", "4").0, Verdict::Rejected);
        site.clock.advance(Duration::from_secs(1800));
        assert_eq!(gateway.call(101, 7, "88881001", "5").0, Verdict::Rejected, "expired");
    });
    assert_eq!((verification.result(), verification.findings.all()), (Proof::Proved, &[][..]));
    assert_eq!((verification.decisions.derived, verification.decisions.unknown), (5, 0));
}

#[test]
fn each_verdict_that_does_not_follow_is_named() {
    for (control_id, number, verdict, reason, message) in [
        // Never shown: not this number, not this control ID, not to this agent.
        (7, "88889999", Verdict::Forwarded, Reason::Ok, "the rule gives number_not_in_preview"),
        (8, "88881001", Verdict::Forwarded, Reason::Ok, "the rule gives control_id_mismatch"),
        (7, "88881001", Verdict::Rejected, Reason::NumberNotInPreview, "the rule gives ok"),
        (7, "88881001", Verdict::Rejected, Reason::UnknownPreview, "the rule gives ok"),
        (7, "88889999", Verdict::Rejected, Reason::PreviewExpired, "the rule gives number_not_in_preview"),
        // Words that do not go together.
        (7, "88889999", Verdict::Forwarded, Reason::NumberNotInPreview, "no possible verdict"),
        (7, "88881001", Verdict::Rejected, Reason::Ok, "no possible verdict"),
        (7, "88889999", Verdict::Unverified, Reason::NumberNotInPreview, "no possible verdict"),
    ] {
        let verification = after(|_, gateway| {
            let previews = gateway.previews(101);
            let decision = gateway.record(101, &callout(control_id, number), &previews, verdict, reason);
            if verdict != Verdict::Rejected {
                gateway.answer(101, decision, "1");
            }
        });
        assert_broken(&verification, message);
    }
}

#[test]
fn a_preview_of_another_agent_permits_no_call() {
    let verification = after(|_, gateway| {
        let previews = gateway.previews(101);
        let decision = gateway.record(102, &callout(7, "88881001"), &previews, Verdict::Forwarded, Reason::Ok);
        gateway.answer(102, decision, "1");
    });
    assert_broken(&verification, "refers to what another agent was shown");
}

#[test]
fn an_expired_preview_permits_no_call() {
    let verification = after(|site, gateway| {
        let previews = gateway.previews(101);
        site.clock.advance(Duration::from_secs(1800));
        let decision = gateway.record(101, &callout(7, "88881001"), &previews, Verdict::Forwarded, Reason::Ok);
        gateway.answer(101, decision, "1");
    });
    assert_broken(&verification, "the rule gives preview_expired");
}

#[test]
fn a_mode_that_was_not_in_force_is_found() {
    let verification = after(|site, gateway| {
        gateway.configure(ConfigTrigger::Signal, "monitor");
        assert_eq!(gateway.call(101, 7, "88889999", "1").0, Verdict::Unverified);
        gateway.audit.config(ConfigTrigger::Signal, &crate::gateway::configuration("enforce"));
        site.clock.advance(Duration::from_secs(300));
        assert_eq!(gateway.call(101, 7, "88889999", "2").0, Verdict::Unverified);
    });
    assert_broken(&verification, "mode monitor, which was not in force");
}

#[test]
fn a_callout_after_the_end_of_its_preview_is_found() {
    let verification = after(|site, gateway| {
        let previews = gateway.previews(101);
        gateway.release(101, 7);
        site.clock.advance(Duration::from_millis(1));
        let decision = gateway.record(101, &callout(7, "88881001"), &previews, Verdict::Forwarded, Reason::Ok);
        gateway.answer(101, decision, "1");
    });
    assert_broken(&verification, "after its preview was over (released");
}

#[test]
fn a_callout_without_outcome_may_have_rung_and_is_named() {
    let verification = after(|_, gateway| {
        gateway.decide(101, 7, "88881001");
    });
    assert_eq!(verification.result(), Proof::Incomplete);
    let finding = verification.findings.of(Grade::Incomplete).next().unwrap();
    assert!(finding.message.starts_with("may have rung: agent 101 called ******01, control ID 7"), "{finding}");
    assert_eq!(finding.seq, Some(6), "{finding}");
}

/// Two gateways that share previews: what one showed, the other lets be called.
fn two_gateways(record: impl FnOnce(&Site, &mut Gateway, &mut Gateway)) -> Site {
    let site = Site::new();
    let (mut a, mut b) = (site.gateway("a"), site.gateway("b"));
    let shown = a.show(101, 7, &["88881001"]);
    let mut announced = announcement(7, &["88881001"]);
    announced.shown = vec![shown];
    b.learn(101, announced);
    site.clock.advance(Duration::from_secs(10));
    record(&site, &mut a, &mut b);
    a.stop();
    b.stop();
    site
}

#[test]
fn a_preview_of_another_gateway_is_found_in_its_directory_and_missed_without_it() {
    let site = two_gateways(|_, _, b| {
        assert_eq!(b.call(101, 7, "88881001", "1").0, Verdict::Forwarded);
    });
    let together = site.verify(&["a", "b"]);
    assert_eq!((together.result(), together.decisions.derived), (Proof::Proved, 1), "{:?}", together.findings.all());
    let alone = site.verify(&["b"]);
    assert_eq!(alone.result(), Proof::Incomplete);
    let finding = alone.findings.of(Grade::Incomplete).next().unwrap();
    assert!(finding.message.contains("is not in the given directories"), "{finding}");
}

#[test]
fn a_callout_after_an_end_that_another_gateway_recorded_is_found() {
    let forwarded_after = |pause: Duration| {
        let site = two_gateways(|site, a, b| {
            a.release(101, 7);
            site.clock.advance(pause);
            assert_eq!(b.call(101, 7, "88881001", "1").0, Verdict::Forwarded);
        });
        assert_eq!(site.verify(&["b"]).result(), Proof::Incomplete);
        site.verify(&["a", "b"])
    };
    assert_broken(&forwarded_after(Duration::from_secs(10)), "after its preview was over (released");
    let close = forwarded_after(Duration::from_millis(100));
    assert_eq!(close.result(), Proof::Incomplete, "two clocks may differ by that much");
    // Every preview of an agent ends at a gateway that knows none of them.
    let site = two_gateways(|site, a, b| {
        a.audit.ended(crate::gateway::id(101), None, &[], "signed_out");
        site.clock.advance(Duration::from_secs(10));
        b.show(101, 9, &["88881009"]);
        b.call(101, 9, "88881009", "1");
    });
    assert_eq!(site.verify(&["a", "b"]).result(), Proof::Proved, "shown again after the end");
}

#[test]
fn an_end_of_all_previews_of_an_agent_counts_for_those_of_other_gateways() {
    let site = Site::new();
    let (mut a, mut b) = (site.gateway("a"), site.gateway("b"));
    b.show(101, 7, &["88881001"]);
    site.clock.advance(Duration::from_secs(10));
    a.audit.ended(crate::gateway::id(101), None, &[], "signed_out");
    site.clock.advance(Duration::from_secs(10));
    b.call(101, 7, "88881001", "1");
    a.show(102, 1, &["88881001"]);
    a.stop();
    b.stop();
    assert_broken(&site.verify(&["a", "b"]), "after its preview was over (signed_out");
}

#[test]
fn a_number_that_is_called_in_the_next_month_is_compared_under_the_key_of_its_preview() {
    let site = Site::new();
    let mut gateway = site.gateway("a");
    gateway.show(101, 7, &["88881001"]);
    site.clock.advance(Duration::from_secs(400));
    gateway.show(101, 7, &["88881002"]);
    for (number, expected) in
        [("88881001", Verdict::Forwarded), ("88881002", Verdict::Forwarded), ("88881003", Verdict::Rejected)]
    {
        assert_eq!(gateway.call(101, 7, number, number).0, expected);
    }
    gateway.stop();
    let verification = site.verify(&["a"]);
    assert_eq!((verification.result(), verification.decisions.derived), (Proof::Proved, 3), "{verification:?}");
}

#[test]
fn with_the_keys_of_the_numbers_destroyed_everything_still_verifies() {
    let site = Site::new();
    three_days(&site, "a");
    std::fs::remove_dir_all(site.path("numbers")).unwrap();
    let verification = site.verify(&["a"]);
    assert_eq!((verification.result(), verification.decisions.derived), (Proof::Proved, 18));
}

#[test]
fn previews_that_were_shown_long_before_are_found_by_reading_again() {
    let verification = after(|site, gateway| {
        let previews = gateway.previews(101);
        site.clock.advance(Duration::from_secs(12 * 3600));
        // Everything that was shown is forgotten by now.
        gateway.show(102, 1, &["1"]);
        let expired = callout(7, "88881001");
        gateway.record(101, &expired, &previews, Verdict::Rejected, Reason::PreviewExpired);
    });
    assert_eq!((verification.result(), verification.decisions.derived), (Proof::Proved, 1), "{verification:?}");
}
