//! Several gateways: what one of them ended, another one must not let be called.

use std::time::Duration;

use previewgate::audit::ConfigTrigger;
use previewgate::audit::verify::{Grade, Result as Proof, Verification};
use previewgate::preview::{Callout, ControlId, DialedNumber, Reason, Verdict};

use crate::gateway::{Gateway, Site, id};

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
fn a_callout_that_was_let_through_although_is_only_noted() {
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
fn an_end_of_another_preview_of_which_a_gateway_knows_one_is_compared() {
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
        |a| a.audit.ended_before(id(101), crate::gateway::START, "signed_in"),
    ];
    for (number, record) in records.into_iter().enumerate() {
        let verification = forwarded_after(|a| {
            record(a);
            a.show(103, 1, &["1"]);
        });
        assert_eq!(verification.result(), Proof::Proved, "{number}: {:?}", verification.findings.all());
    }
    let after_it_was_shown = crate::gateway::START.after(PAUSE);
    let verification = forwarded_after(|a| a.audit.ended_before(id(101), after_it_was_shown, "signed_in"));
    assert_eq!(verification.result(), Proof::Broken, "{:?}", verification.findings.all());
}

#[test]
fn a_missing_announcement_is_named_with_the_place_where_it_may_be() {
    let site = Site::new();
    let (mut a, mut b) = (site.gateway("a"), site.gateway("b"));
    let shown = a.show(101, 7, &["88881001"]);
    let mut announced = crate::gateway::announcement(7, &["88881001"]);
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
