//! `previews.calls_per_number` in the audit log: the verifier counts the calls again, and finds each that is left out.

use std::path::Path;
use std::time::Duration;

use previewgate::audit::ConfigTrigger;
use previewgate::audit::verify::{Grade, Result as Proof, Verification};
use previewgate::config::{self, Config, Files};
use previewgate::preview::{
    AgentPreviews, Bounds, Callout, Change, Clock, ControlId, CountedCall, DialedNumber, Reason, RecordId, Verdict,
};

use crate::commands::{audit, text};
use crate::gateway::{Gateway, Site};

const NUMBER: &str = "88881001";

fn limited(calls: u32) -> Config {
    let text = format!("[upstream]\nendpoints = [\"https://h\"]\n[previews]\ncalls_per_number = {calls}\n");
    config::parse(&text, Path::new("/"), Files::Skip).unwrap()
}

/// What a gateway with a limit of two calls records. Agent 101 was shown the number under control ID 7.
struct Scene<'s> {
    site: &'s Site,
    gateway: &'s mut Gateway,
}

impl Scene<'_> {
    /// Records a decision on a callout of `number` that counts these earlier calls.
    fn judged(&mut self, number: &str, counts: &[(RecordId, &str)], reason: Reason) -> RecordId {
        let mut previews = self.gateway.previews(101);
        for (id, number) in counts {
            called(&mut previews, *id, number, self);
        }
        let callout = Callout { called: DialedNumber::new(number), control_id: ControlId(7) };
        let verdict = if reason == Reason::Ok { Verdict::Forwarded } else { Verdict::Rejected };
        let decision = self.gateway.record(101, &callout, &previews, verdict, reason);
        if verdict == Verdict::Forwarded {
            self.gateway.answer(101, decision, &decision.to_string());
        }
        self.site.clock.advance(Duration::from_secs(5));
        decision
    }

    fn ok(&mut self, counts: &[RecordId]) -> RecordId {
        let counts: Vec<_> = counts.iter().map(|id| (*id, NUMBER)).collect();
        self.judged(NUMBER, &counts, Reason::Ok)
    }

    fn used(&mut self, counts: &[RecordId]) {
        let counts: Vec<_> = counts.iter().map(|id| (*id, NUMBER)).collect();
        self.judged(NUMBER, &counts, Reason::NumberUsed);
    }
}

fn called(previews: &mut AgentPreviews, id: RecordId, number: &str, scene: &Scene<'_>) {
    let (at, number) = (scene.site.clock.now(), DialedNumber::new(number));
    let call = CountedCall { number, id, at };
    previews.apply(Change::Called(ControlId(7), call), at, Bounds { per_agent: 16 });
}

fn after(record: impl FnOnce(&mut Scene<'_>)) -> Verification {
    recorded(record).verify(&["a"])
}

/// What was recorded, in the directory `a`.
fn recorded(record: impl FnOnce(&mut Scene<'_>)) -> Site {
    let site = Site::new();
    let mut gateway = site.gateway("a");
    gateway.audit.config(ConfigTrigger::Signal, &limited(2));
    gateway.calls_per_number = 2;
    gateway.show(101, 7, &[NUMBER, "88881002"]);
    site.clock.advance(Duration::from_secs(10));
    record(&mut Scene { site: &site, gateway: &mut gateway });
    gateway.stop();
    site
}

#[track_caller]
fn assert_broken(verification: &Verification, message: &str) {
    assert_eq!(verification.result(), Proof::Broken, "{message}");
    let broken: Vec<_> = verification.findings.of(Grade::Broken).collect();
    assert!(broken.iter().any(|finding| finding.message.contains(message)), "{message}: {broken:#?}");
}

#[test]
fn verdicts_that_follow_from_the_calls_before_are_proved() {
    let verification = after(|scene| {
        let first = scene.ok(&[]);
        let other = scene.judged("88881002", &[], Reason::Ok);
        let second = scene.ok(&[first]);
        scene.used(&[first, second]);
        // A repeated announcement does not begin a new count.
        let again = scene.gateway.show(101, 7, &[NUMBER]);
        scene.used(&[first, second]);
        scene.judged("88881002", &[(other, "88881002")], Reason::Ok);
        // A new preview does.
        scene.gateway.release(101, 7);
        scene.site.clock.advance(Duration::from_secs(5));
        assert_ne!(scene.gateway.show(101, 7, &[NUMBER]), again);
        let first = scene.ok(&[]);
        scene.ok(&[first]);
    });
    assert_eq!((verification.result(), verification.findings.all()), (Proof::Proved, &[][..]));
    assert_eq!(verification.decisions.derived, 8);
}

#[test]
fn verdicts_that_contradict_the_limit_are_found() {
    let too_many = after(|scene| {
        let first = scene.ok(&[]);
        let second = scene.ok(&[first]);
        scene.ok(&[first, second]);
    });
    assert_broken(&too_many, "has the reason ok, and the rule gives number_used");
    let too_few = after(|scene| {
        let first = scene.ok(&[]);
        scene.used(&[first]);
    });
    assert_broken(&too_few, "has the reason number_used, and the rule gives ok");
}

#[test]
fn a_call_that_is_left_out_is_found() {
    let forgotten = after(|scene| {
        let first = scene.ok(&[]);
        scene.ok(&[first]);
        scene.ok(&[first]);
    });
    assert_broken(&forgotten, "does not count the call");
    // With an outcome that says so, a call was given back.
    let given_back = after(|scene| {
        let first = scene.ok(&[]);
        let callout = Callout { called: DialedNumber::new(NUMBER), control_id: ControlId(7) };
        let mut previews = scene.gateway.previews(101);
        called(&mut previews, first, NUMBER, scene);
        let unsent = scene.gateway.record(101, &callout, &previews, Verdict::Forwarded, Reason::Ok);
        let outcome = previewgate::audit::OutcomeFacts { result: "not_sent", ..Default::default() };
        scene.gateway.audit.outcome(unsent, &outcome);
        scene.site.clock.advance(Duration::from_secs(5));
        scene.ok(&[first]);
    });
    assert_eq!((given_back.result(), given_back.findings.all()), (Proof::Proved, &[][..]));
    // Two callouts at once: the one that is recorded first was counted last.
    let at_once = after(|scene| {
        let RecordId { run, number } = scene.judged("88881002", &[], Reason::Ok);
        let second = RecordId { run, number: number + 2 };
        let callout = Callout { called: DialedNumber::new(NUMBER), control_id: ControlId(7) };
        for counts in [&[second][..], &[]] {
            let mut previews = scene.gateway.previews(101);
            counts.iter().for_each(|id| called(&mut previews, *id, NUMBER, scene));
            let decision = scene.gateway.record(101, &callout, &previews, Verdict::Forwarded, Reason::Ok);
            scene.gateway.answer(101, decision, &decision.to_string());
        }
    });
    assert_eq!((at_once.result(), at_once.findings.all()), (Proof::Proved, &[][..]));
}

#[test]
fn a_call_of_another_number_is_found_and_an_unknown_call_is_noted() {
    let other_number = after(|scene| {
        let first = scene.ok(&[]);
        let other = scene.judged("88881002", &[], Reason::Ok);
        scene.judged(NUMBER, &[(first, NUMBER), (other, NUMBER)], Reason::NumberUsed);
    });
    assert_broken(&other_number, "is one of another number");
    let verification = after(|scene| {
        let first = scene.ok(&[]);
        let unknown = RecordId { run: 99, number: 1 };
        scene.used(&[first, unknown]);
    });
    let notes: Vec<_> = verification.findings.of(Grade::Note).collect();
    assert!(notes.iter().any(|note| note.message.contains("is not in what was read")), "{notes:#?}");
}

#[test]
fn a_limit_that_was_not_in_force_is_found() {
    let verification = after(|scene| {
        scene.ok(&[]);
        scene.gateway.calls_per_number = 3;
        scene.judged("88881002", &[], Reason::Ok);
    });
    assert_broken(&verification, "was judged with previews.calls_per_number = 3, which was not in force");
}

/// The refusal of a number that was called too often proves itself: with the earlier calls that count, and the limit.
#[test]
fn the_certificate_of_a_number_that_was_used_proves_the_refusal_alone() {
    let mut refused = None;
    let site = recorded(|scene| {
        let first = scene.ok(&[]);
        scene.judged("88881002", &[], Reason::Ok);
        let second = scene.ok(&[first]);
        refused = Some(scene.judged(NUMBER, &[(first, NUMBER), (second, NUMBER)], Reason::NumberUsed));
    });
    let id = refused.unwrap().to_string();
    let (code, printed) = audit(&["show", &text(&site.path("a")), "--id", &id]);
    assert_eq!((code, printed.matches("an earlier call that counts: agent 101 asks for a call").count()), (0, 2));
    assert_eq!(printed.matches("an earlier call that counts: the platform answers").count(), 2, "{printed}");

    let (code, certificate) = audit(&["certify", &text(&site.path("a")), "--id", &id]);
    assert_eq!(code, 0, "{certificate}");
    let verified = |certificate: &serde_json::Value| {
        std::fs::write(site.path("call.json"), certificate.to_string()).unwrap();
        let (file, key) = (text(&site.path("call.json")), text(&site.path("audit.key.pub")));
        audit(&["verify", "--certificate", &file, "--public-key", &key])
    };
    let whole: serde_json::Value = serde_json::from_str(&certificate).unwrap();
    let (code, printed) = verified(&whole);
    assert!(code == 0 && printed.contains("the gateway refuses the call: number_used"), "{printed}");
    assert!(printed.contains("gives the same verdict\nresult: proved"), "{printed}");
    assert!(!printed.contains("a call to ******02"), "a call of another number is no part of it: {printed}");

    // Without one of the earlier calls it does not prove the refusal any more, and says so.
    let records = whole["records"].as_array().unwrap();
    let is_earlier = |record: &serde_json::Value| {
        let line = record["line"].as_str().unwrap();
        line.contains("\"kind\":\"decision\"") && !line.contains(&format!("\"id\":\"{id}\""))
    };
    assert_eq!(records.iter().filter(|record| is_earlier(record)).count(), 2);
    for left_out in (0..records.len()).filter(|position| is_earlier(&records[*position])) {
        let mut without = whole.clone();
        without["records"].as_array_mut().unwrap().remove(left_out);
        let (code, printed) = verified(&without);
        assert!(code == 3 && printed.contains("\nresult: incomplete: "), "{printed}");
        assert!(printed.contains("the rule cannot be applied again: it counts the call "), "{printed}");
    }
}

/// `replay`: what another limit would have changed. Each callout that was sent counts, and one that was not does not.
#[test]
fn a_replay_counts_the_calls_that_were_made() {
    let site = Site::new();
    let mut gateway = site.gateway("a");
    gateway.show(101, 7, &[NUMBER, "88881002"]);
    let mut scene = Scene { site: &site, gateway: &mut gateway };
    let first = scene.judged(NUMBER, &[], Reason::Ok);
    scene.judged("88881002", &[], Reason::Ok);
    let callout = Callout { called: DialedNumber::new(NUMBER), control_id: ControlId(7) };
    let previews = scene.gateway.previews(101);
    let unsent = scene.gateway.record(101, &callout, &previews, Verdict::Forwarded, Reason::Ok);
    let outcome = previewgate::audit::OutcomeFacts { result: "not_sent", ..Default::default() };
    scene.gateway.audit.outcome(unsent, &outcome);
    scene.judged(NUMBER, &[], Reason::Ok);
    scene.judged(NUMBER, &[], Reason::Ok);
    assert_ne!(first, unsent);
    gateway.stop();
    for (limit, expected) in [(0, 0), (1, 3), (2, 1), (3, 0)] {
        let file = site.path("other.toml");
        let settings =
            format!("[upstream]\nendpoints = [\"https://h\"]\n[previews]\nttl = \"1d\"\ncalls_per_number = {limit}\n");
        std::fs::write(&file, settings).unwrap();
        let mut command = assert_cmd::Command::cargo_bin("previewgate").unwrap();
        let run = command.arg("replay").arg("--audit").arg(site.path("a")).arg("--config").arg(file).assert().success();
        let printed = String::from_utf8(run.get_output().stdout.clone()).unwrap();
        assert!(printed.contains(&format!("5 callouts, {expected} would be decided otherwise")), "{limit}: {printed}");
        assert!(expected == 0 || printed.contains("would be rejected number_used"), "{limit}: {printed}");
    }
}
