//! One call: its story in words, and its certificate.

use std::time::Duration;

use crate::commands::{audit, text};
use crate::gateway::{Gateway, Site, three_days};

#[test]
fn the_story_of_a_call_names_each_step() {
    let site = Site::new();
    three_days(&site, "a");
    let (code, printed) = audit(&["show", &text(&site.path("a")), "--call", "call-1-0"]);
    assert_eq!(code, 0, "{printed}");
    let steps = [
        "agent 101 is shown a preview: control ID 100, the numbers ******01, ******02",
        "the agent's application has the preview",
        "agent 101 asks for a call to ******02, control ID 100",
        "the gateway forwards the call, which follows from a preview",
        "mode enforce, previews from memory; the number was shown 4m 50s before, valid for 30m",
        "the platform answers, status 200, retcode 0, call call-1-0",
        "the telephone rings (AgentEvent_Customer_Alerting)",
        "the called person answers (AgentEvent_Talking)",
        "the call is over (AgentEvent_Customer_Release)",
        "the preview with control ID 100 is over: released",
        "course: talked for 1m 11s, after 4s of ringing",
        "the rule, applied again to these records, gives the same verdict",
    ];
    let mut rest = &printed[..];
    for step in steps {
        let at = rest.find(step).unwrap_or_else(|| panic!("{step:?} is not there, or not in order:\n{printed}"));
        rest = &rest[at + step.len()..];
    }
    assert!(!printed.contains("88881002"), "{printed}");
    // By the ID of the decision, and of the preview: the second has the call that was refused too.
    let word = |after: &str| printed.split(after).nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let decision = word("; decision ");
    let (code, by_id) = audit(&["show", &text(&site.path("a")), "--id", &decision]);
    assert_eq!((code, by_id), (0, printed.clone()));
    let log = std::fs::read_dir(site.path("a")).unwrap().map(|entry| std::fs::read_to_string(entry.unwrap().path()));
    let log: String = log.map(Result::unwrap).collect();
    let line = log.lines().find(|line| line.contains(&format!("\"id\":\"{decision}\""))).unwrap();
    let record: serde_json::Value = serde_json::from_str(line).unwrap();
    let shown = record["previews"][0]["shown"][0].as_str().unwrap();
    let (story, _) = printed.split_once("\naudit log: verified").unwrap();
    let (_, by_preview) = audit(&["show", &text(&site.path("a")), "--id", shown]);
    assert!(by_preview.contains(story) && by_preview.contains("refuses the call"), "{by_preview}");
    assert_eq!(audit(&["show", &text(&site.path("a")), "--call", "another"]).0, 1);
    assert_eq!(audit(&["show", &text(&site.path("a"))]).0, 2);
}

#[test]
fn a_callout_without_outcome_is_told_as_such() {
    let site = Site::new();
    let mut gateway = site.gateway("a");
    gateway.show(101, 7, &["88881001"]);
    let (_, decision) = gateway.decide(101, 7, "88881001");
    gateway.stop();
    let (code, printed) = audit(&["show", &text(&site.path("a")), "--id", &decision.to_string()]);
    assert!(code == 0 && printed.contains("no outcome is recorded: a telephone may have rung"), "{printed}");
}

fn certified(site: &Site) -> String {
    let (code, certificate) = audit(&["certify", &text(&site.path("a")), "--call", "call-2-1"]);
    assert_eq!(code, 0, "{certificate}");
    certificate
}

#[test]
fn a_certificate_proves_one_call_and_shows_no_other() {
    let site = Site::new();
    three_days(&site, "a");
    let certificate = certified(&site);
    assert!(!certificate.contains("call-2-0") && !certificate.contains("\"rejected\""), "{certificate}");
    let (file, key) = (site.path("call.json"), text(&site.path("audit.key.pub")));
    let verify = |certificate: &str| {
        std::fs::write(&file, certificate).unwrap();
        audit(&["verify", "--certificate", &text(&file), "--public-key", &key])
    };
    // The log is not needed any more.
    std::fs::remove_dir_all(site.path("a")).unwrap();
    let (code, printed) = verify(&certificate);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("call call-2-1") && printed.contains("gives the same verdict"), "{printed}");
    assert!(printed.ends_with("result: proved: each record is in a log that the given key signed\n"), "{printed}");

    // Every record counts: each digit that is changed is found.
    let value: serde_json::Value = serde_json::from_str(&certificate).unwrap();
    let records = value["records"].as_array().unwrap().len();
    assert_eq!(records, 8, "shown, delivered, decision, outcome, three events, ended");
    for position in 0..records {
        for member in ["line", "note", "segment", "index"] {
            let mut changed = value.clone();
            let member = &mut changed["records"][position][member];
            *member = match member.as_str() {
                Some(text) => text.replacen('1', "2", 1).into(),
                None => (member.as_u64().unwrap() + 1).into(),
            };
            assert_eq!(verify(&changed.to_string()).0, 1, "record {position}");
        }
    }
    let (other_key, _) = (site.path("other.key"), ());
    audit(&["keygen", "--signing-key", &text(&other_key)]);
    std::fs::write(&file, &certificate).unwrap();
    let other = text(&site.path("other.key.pub"));
    assert_eq!(audit(&["verify", "--certificate", &text(&file), "--public-key", &other]).0, 1);
}

#[test]
fn a_certificate_with_a_verdict_that_does_not_follow_is_refused() {
    let site = Site::new();
    let mut gateway: Gateway = site.gateway("a");
    gateway.show(101, 7, &["88881001"]);
    let callout = previewgate::preview::Callout {
        called: previewgate::preview::DialedNumber::new("88889999"),
        control_id: previewgate::preview::ControlId(7),
    };
    site.clock.advance(Duration::from_secs(1));
    let previews = gateway.previews(101);
    let verdict = previewgate::preview::Verdict::Forwarded;
    let decision = gateway.record(101, &callout, &previews, verdict, previewgate::preview::Reason::Ok);
    gateway.answer(101, decision, "call-2-1");
    gateway.stop();
    let file = site.path("call.json");
    std::fs::write(&file, certified(&site)).unwrap();
    let key = text(&site.path("audit.key.pub"));
    let (code, printed) = audit(&["verify", "--certificate", &text(&file), "--public-key", &key]);
    assert!(code == 1 && printed.contains("THE VERDICT DOES NOT FOLLOW"), "{printed}");
    let (code, printed) = audit(&["show", &text(&site.path("a")), "--call", "call-2-1"]);
    assert!(code == 1 && printed.contains("THE VERDICT DOES NOT FOLLOW"), "{printed}");
}
