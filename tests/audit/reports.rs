//! The report of a day, the comparison with the platform's call records, and the replay under another configuration.

use std::time::Duration;

use assert_cmd::Command;
use previewgate::audit::ConfigTrigger;
use previewgate::preview::{AgentPreviews, Callout, ControlId, DialedNumber, Reason, Verdict};

use crate::commands::{audit, text};
use crate::gateway::{Site, three_days};

/// The second day: what began shortly before midnight goes on.
const DAY: &str = "2026-12-01";

fn report(site: &Site, more: &[&str]) -> String {
    let (code, printed) = audit(&[&["report", &text(&site.path("a")), "--day", DAY], more].concat());
    assert_eq!(code, 0, "{printed}");
    printed
}

#[test]
fn a_report_counts_the_day_and_only_the_day() {
    let site = Site::new();
    three_days(&site, "a");
    let json: serde_json::Value = serde_json::from_str(&report(&site, &["--format", "json"])).unwrap();
    assert_eq!(json["verdicts"], serde_json::json!({"forwarded": 1, "rejected": 2, "unverified": 1}), "{json:#}");
    assert_eq!(json["refusals"], serde_json::json!({"number_not_in_preview": 1, "unknown_preview": 1}), "{json:#}");
    assert_eq!(json["unverified"], serde_json::json!({"unknown_preview (mode monitor)": 1}));
    let calls = json["callouts"].as_array().unwrap();
    assert!(calls.iter().all(|call| call["at"].as_str().unwrap().starts_with(DAY)));
    let call = calls.iter().find(|call| call["call_id"] == "call-0-1").unwrap();
    assert_eq!(
        (&call["outcome"], &call["phase"], &call["shown_ms"]),
        (&"answered".into(), &"talking".into(), &290_000.into())
    );
    let of_agent: serde_json::Value =
        serde_json::from_str(&report(&site, &["--format", "json", "--agent", "102"])).unwrap();
    assert_eq!(of_agent["verdicts"], serde_json::json!({"unverified": 1}));

    let csv = report(&site, &["--format", "csv"]);
    let mut rows = csv::Reader::from_reader(csv.as_bytes());
    assert_eq!(rows.headers().unwrap().get(11), Some("call_id"));
    assert_eq!(rows.records().map(Result::unwrap).count(), 4);

    let words = report(&site, &[]);
    assert!(words.contains("       1  unknown_preview (mode monitor)\n"), "{words}");
    assert_eq!(audit(&["report", &text(&site.path("a")), "--day", "yesterday"]).0, 2);
    assert_eq!(audit(&["report", &text(&site.path("a")), "--day", "2026-2-1"]).0, 2);
}

#[test]
fn times_of_monitor_mode_and_open_decisions_are_reported() {
    let site = Site::new();
    let mut gateway = site.gateway("a");
    site.clock.advance(Duration::from_secs(600));
    gateway.show(101, 7, &["88881001"]);
    gateway.configure(ConfigTrigger::Signal, "monitor");
    site.clock.advance(Duration::from_secs(60));
    gateway.configure(ConfigTrigger::Signal, "enforce");
    gateway.decide(101, 7, "88881001");
    gateway.stop();
    let json: serde_json::Value = serde_json::from_str(&report(&site, &["--format", "json"])).unwrap();
    assert_eq!(json["monitor"][0]["from"], "2026-12-01T00:05:00.000Z", "{json:#}");
    assert_eq!(json["monitor"][0]["to"], "2026-12-01T00:06:00.000Z");
    assert_eq!(json["callouts"][0]["outcome"], "open");
    assert!(report(&site, &[]).contains("without outcome: a telephone may have rung"));
    assert!(report(&site, &["--format", "html"]).contains("only watched (monitor mode)"));
}

#[test]
fn the_page_stands_alone_and_shows_no_markup_of_others() {
    let site = Site::new();
    let mut gateway = site.gateway("a");
    site.clock.advance(Duration::from_secs(600));
    gateway.show(101, 7, &["88881001"]);
    gateway.call(101, 7, "88881001", "<script>alert(1)</script>");
    gateway.stop();
    let page = report(&site, &["--format", "html"]);
    assert!(page.starts_with("<!doctype html>\n") && page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{page}");
    for outside in ["<script", "<link", "<img", "http://", "https://", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

fn reconcile(site: &Site, cdr: &str, more: &[&str]) -> (i32, String) {
    let file = site.path("cdr.csv");
    std::fs::write(&file, cdr).unwrap();
    let (directory, file) = (text(&site.path("a")), text(&file));
    let columns = "call_id=CallID,agent=Agent,called=Callee";
    audit(&[&["reconcile", &directory, "--cdr", &file, "--columns", columns], more].concat())
}

#[test]
fn calls_that_went_round_the_gateway_are_found() {
    let site = Site::new();
    three_days(&site, "a");
    let numbers = text(&site.path("numbers"));
    let mut cdr = "\u{feff}Agent,Callee,CallID\n".to_owned();
    for day in 0..3 {
        for round in 0..2 {
            cdr += &format!("101,88881002,call-{day}-{round}\n");
        }
        cdr += &format!("102,88881001,monitored-{day}\n");
    }
    let (code, printed) = reconcile(&site, &cdr, &["--number-keys", &numbers]);
    assert_eq!((code, &*printed), (0, "9 call records compared with 9 callouts: 0 differences\n"));
    for (from, to, expected) in [
        ("call-1-0", "elsewhere", "call elsewhere: no decision covers it"),
        ("call-1-0", "elsewhere", "call call-1-0 has no call record"),
        ("101,88881002,call-0-0", "105,88881002,call-0-0", "its agent is 105, and agent 101 asked for it"),
        ("101,88881002,call-0-0", "101,99991002,call-0-0", "it went to ******02, and the decision was about ******02"),
    ] {
        let (code, printed) = reconcile(&site, &cdr.replace(from, to), &["--number-keys", &numbers]);
        assert!(code == 1 && printed.contains(expected), "{from} {to}: {printed}");
    }
    // Without the keys only the mask is compared.
    let similar = cdr.replace("101,88881002,call-0-0", "101,99991002,call-0-0");
    assert_eq!(reconcile(&site, &similar, &[]).0, 0);
    assert_eq!(reconcile(&site, &cdr.replace("CallID", "Call"), &[]).0, 2);
    // Of one day only.
    let of_day: String = cdr
        .lines()
        .filter(|line| !line.contains("-2-") && !line.contains("ed-2"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(reconcile(&site, &of_day, &[]).0, 1);
    assert_eq!(reconcile(&site, &of_day, &["--day", "2026-12-01"]).0, 0);
}

fn replay(site: &Site, settings: &str) -> String {
    let file = site.path("other.toml");
    std::fs::write(&file, format!("[upstream]\nendpoints = [\"https://h\"]\n{settings}\n")).unwrap();
    let mut command = Command::cargo_bin("previewgate").unwrap();
    let directory = site.path("a");
    let run = command.arg("replay").arg("--audit").arg(directory).arg("--config").arg(file).assert().success();
    String::from_utf8(run.get_output().stdout.clone()).unwrap()
}

#[test]
fn a_replay_under_another_configuration_finds_what_would_change() {
    let site = Site::new();
    three_days(&site, "a");
    let monitored = "3  unverified unknown_preview, would be rejected unknown_preview";
    let same = replay(&site, "");
    assert!(same.contains("18 callouts, 3 would be decided otherwise") && same.contains(monitored), "{same}");
    let short = replay(&site, "[previews]\nttl = \"4m\"");
    assert!(short.contains("6  forwarded ok, would be rejected preview_expired"), "{short}");
    assert!(short.contains("agent 101  ******02: forwarded ok, would be rejected preview_expired"), "{short}");
    let open = replay(&site, "[validation]\non_unknown_preview = \"forward\"");
    assert!(open.contains("3  rejected unknown_preview, would be unverified unknown_preview"), "{open}");
    assert!(!open.contains("number_not_in_preview"), "{open}");
    let monitor = replay(&site, "[validation]\nmode = \"monitor\"");
    assert!(monitor.contains("6  rejected number_not_in_preview, would be unverified"), "{monitor}");
}

#[test]
fn a_replay_goes_by_the_mode_of_each_reason_and_by_on_store_failure() {
    let site = Site::new();
    let gateway = site.gateway("a");
    let callout = Callout { called: DialedNumber::new("88881001"), control_id: ControlId(7) };
    for reason in [Reason::MalformedBody, Reason::TooLarge, Reason::AmbiguousPath, Reason::StoreUnavailable] {
        gateway.record(101, &callout, &AgentPreviews::default(), Verdict::Rejected, reason);
    }
    gateway.stop();
    let redis = "[previews.store]\nkind = \"redis\"\nurl = \"redis://h\"\non_store_failure";
    let own_memory = "1  cannot be told";
    for (settings, changed, expected) in [
        ("".to_owned(), 0, own_memory),
        (format!("{redis} = \"local\""), 0, own_memory),
        (format!("{redis} = \"reject\""), 0, ""),
        (format!("{redis} = \"forward\""), 1, "rejected store_unavailable, would be unverified store_unavailable"),
        ("[validation.reasons]\ntoo_large = \"monitor\"".to_owned(), 1, "rejected too_large, would be unverified"),
        (
            "[validation]\nmode = \"monitor\"\n[validation.reasons]\nmalformed_body = \"enforce\"".to_owned(),
            2,
            "rejected ambiguous_path, would be unverified ambiguous_path",
        ),
    ] {
        let printed = replay(&site, &settings);
        let total = format!("4 callouts, {changed} would be decided otherwise\n");
        assert!(printed.contains(&total) && printed.contains(expected), "{settings}\n{printed}");
    }
}
