//! Reports on logs that tests write.

use std::io::Write;

use clap::Parser;
use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-11-29T12:00:00Z";

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: ReportOptions,
}

fn decision(ts: &str, agent: u32, decision: &str, reason: &str) -> Value {
    json!({
        "ts": ts, "level": "INFO", "message": "previewCallout", "method": "previewCallout", "agent_id": agent,
        "decision": decision, "reason": reason, "mode": "monitor", "preview_age_ms": 2_400_000.5, "request_id": "x",
    })
}

/// A day with 2,000 callouts of two agents.
fn log() -> Vec<Value> {
    let mut lines = vec![decision("2026-11-20T09:00:00.000Z", 1001, "unverified", "unknown_preview")];
    for number in 0..1990 {
        lines.push(decision("2026-11-29T09:30:00.000Z", 1001 + number % 2, "forwarded", "ok"));
    }
    lines.push(decision("2026-11-29T10:00:00.000Z", 1001, "unverified", "control_id_mismatch"));
    for _ in 0..8 {
        lines.push(decision("2026-11-29T10:59:59.999Z", 1002, "unverified", "preview_expired"));
    }
    lines.push(decision("2026-11-29T11:00:00.000Z", 1002, "rejected", "upstream_failure"));
    lines.push(json!({"ts": "2026-11-29T11:00:00.000Z", "message": "a line of another kind"}));
    lines
}

fn written(lines: &[Value]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    lines.iter().for_each(|line| writeln!(file, "{line}").unwrap());
    file
}

fn reported(arguments: &str, files: &[&tempfile::NamedTempFile]) -> Result<String, ReportError> {
    let words = ["report"].into_iter().chain(arguments.split_whitespace()).map(str::to_owned);
    let files = files.iter().map(|file| file.path().to_str().unwrap().to_owned());
    let options = Line::try_parse_from(words.chain(files)).unwrap().options;
    render(&options, humantime::parse_rfc3339(NOW).unwrap())
}

#[test]
fn the_report_counts_what_would_have_been_refused_and_recommends_what_to_enforce() {
    let file = written(&log());
    let report: Value = serde_json::from_str(&reported("--since 7d --format json", &[&file]).unwrap()).unwrap();
    assert_eq!(
        (&report["callouts"], &report["would_be_refused"], &report["refused"]),
        (&json!(2000), &json!(9), &json!(1))
    );
    assert_eq!((&report["from"], &report["to"]), (&json!("2026-11-29T09:30:00Z"), &json!("2026-11-29T11:00:00Z")));
    let reasons: Vec<_> = report["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .map(|reason| {
            (reason["reason"].as_str().unwrap(), reason["would_be_refused"].as_u64().unwrap(), &reason["enforce"])
        })
        .collect();
    let (yes, no, none) = (json!(true), json!(false), Value::Null);
    assert_eq!(
        reasons,
        [("preview_expired", 8, &no), ("control_id_mismatch", 1, &yes), ("upstream_failure", 0, &none)]
    );
    assert_eq!(report["reasons"][0]["agents"], json!({"1002": 8}));
    assert_eq!(report["hours"][1], json!({"hour": "2026-11-29T10:00:00Z", "callouts": 9, "would_be_refused": 9}));
    assert!(report["never_objected"].as_array().unwrap().contains(&json!("unknown_preview")));
    // Without --since, the older line counts too.
    let all: Value = serde_json::from_str(&reported("--format json", &[&file]).unwrap()).unwrap();
    assert_eq!(all["callouts"], 2001);
}

#[test]
fn the_text_names_the_cause_and_a_configuration_that_loads() {
    let file = written(&log());
    let text = reported("--since 7d", &[&file]).unwrap();
    for words in [
        "2000 callouts from 2026-11-29 09:30 to 2026-11-29 11:00 UTC",
        "9  would have been refused (0.45 %)",
        "Most are of few agents (1002): ask them first.",
        "The oldest preview was 40m old.",
        "2026-11-29 10:00         9 of 9",
        "preview_expired = \"monitor\"",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let (_, table) = text.split_once("first.\n\n[validation]").unwrap();
    let config = format!("[upstream]\nendpoints = [\"https://h\"]\n[validation]{table}");
    let parsed = crate::config::parse(&config, std::path::Path::new("/"), crate::config::Files::Skip).unwrap();
    let mode = |reason| parsed.validation.mode_for(reason);
    assert_eq!(mode(crate::preview::Reason::PreviewExpired), crate::config::Mode::Monitor);
    assert_eq!(mode(crate::preview::Reason::ControlIdMismatch), crate::config::Mode::Enforce);
}

/// A directory with one segment: the decisions of [`log`], as the audit log records them, and refusals that were only
/// counted.
fn audited(lines: &[Value]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mut text = String::new();
    let zeros = "0".repeat(64);
    for (seq, line) in (1..).zip(lines.iter().filter(|line| line["decision"].is_string())) {
        let record = json!({
            "seq": seq, "prev": zeros, "at": line["ts"], "kind": "decision", "id": format!("{seq:016x}-1"),
            "agent": line["agent_id"], "verdict": line["decision"], "reason": line["reason"], "mode": "monitor",
            "control_id": 7, "previews": [{"control_id": 7, "age_ms": 2_400_000, "shown": []}],
            "ttl_ms": 1_800_000, "request_id": "x",
        });
        text += &format!("{record}\n");
    }
    let counted = json!({"seq": 9999, "prev": zeros, "at": "2026-11-29T11:05:00.000Z", "kind": "refusals",
        "since": "2026-11-29T11:00:00.000Z", "reasons": {"missing_guid": 40}});
    std::fs::write(directory.path().join("2026-11-20.1a2b3c4d.001.jsonl"), format!("{text}{counted}\n")).unwrap();
    directory
}

#[test]
fn an_audit_directory_gives_the_same_report_as_the_log() {
    let (file, directory) = (written(&log()), audited(&log()));
    let of = |path: &std::path::Path, arguments: &str| {
        let words = ["report"].into_iter().chain(arguments.split_whitespace()).map(str::to_owned);
        let options = Line::try_parse_from(words.chain([path.to_str().unwrap().to_owned()])).unwrap().options;
        render(&options, humantime::parse_rfc3339(NOW).unwrap()).unwrap()
    };
    let of_log: Value = serde_json::from_str(&of(file.path(), "--since 7d --format json")).unwrap();
    let of_audit: Value = serde_json::from_str(&of(directory.path(), "--since 7d --format json")).unwrap();
    for same in ["forwarded", "would_be_refused", "from", "to", "agents", "never_objected"] {
        assert_eq!(of_audit[same], of_log[same], "{same}");
    }
    assert_eq!((&of_audit["refused"], &of_audit["callouts"]), (&json!(41), &json!(2040)), "with those only counted");
    assert_eq!(of_audit["reasons"][0]["oldest_preview_ms"], 2_400_000);
    assert_eq!(of_audit["hours"][1], of_log["hours"][1]);
    assert_eq!((&of_log["source"], &of_audit["source"]), (&json!("log"), &json!("audit log, not verified")));
    assert!(of(directory.path(), "").contains("which was not verified here"));
}

#[test]
fn a_decision_that_is_in_two_sources_is_not_counted_twice() {
    let (file, directory) = (written(&log()), audited(&log()));
    let paths = [file.path(), directory.path()].map(|path| path.to_str().unwrap().to_owned());
    let options = Line::try_parse_from(["report".to_owned()].into_iter().chain(paths)).unwrap().options;
    let error = report(&options, &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("not both"), "{error}");
}

#[test]
fn without_objections_everything_is_to_be_enforced() {
    let lines: Vec<_> = log().into_iter().filter(|line| line["decision"] == "forwarded").collect();
    let text = reported("", &[&written(&lines)]).unwrap();
    assert!(text.contains("Recommendation: set validation.mode = \"enforce\" and reload."), "{text}");
}

#[test]
fn files_without_decisions_are_an_error_that_names_the_cause() {
    let text = written(&[json!("2026-11-29T10:00:00Z INFO previewCallout rejected")]);
    let error = reported("", &[&text]).unwrap_err().to_string();
    assert!(error.contains("log.format = \"json\""), "{error}");
    let old = written(&log()[..1]);
    assert!(reported("--since 7d", &[&old]).unwrap_err().to_string().contains("not older than --since"));
    let missing = Line::try_parse_from(["report", "/nowhere/x"]).unwrap().options;
    assert!(report(&missing, &mut Vec::new()).unwrap_err().to_string().starts_with("/nowhere/x: "));
}
