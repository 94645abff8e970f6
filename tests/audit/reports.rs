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

/// The report as CSV, without the sentence about the log, which is on the standard error.
fn table(site: &Site) -> String {
    let csv = report(site, &["--format", "csv"]);
    let (table, sentence) = csv.split_once("audit log: ").unwrap();
    assert!(sentence.starts_with("verified"), "{csv}");
    table.to_owned()
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
        (&call["outcome"], &call["phase"], &call["disposition"], &call["talked_ms"], &call["shown_ms"]),
        (&"answered".into(), &"released".into(), &"talked".into(), &71_000.into(), &290_000.into())
    );
    let of_agent: serde_json::Value =
        serde_json::from_str(&report(&site, &["--format", "json", "--agent", "102"])).unwrap();
    assert_eq!(of_agent["verdicts"], serde_json::json!({"unverified": 1}));

    let csv = table(&site);
    let mut rows = csv::Reader::from_reader(csv.as_bytes());
    assert_eq!(rows.headers().unwrap().get(11), Some("call_id"));
    assert_eq!(rows.records().map(Result::unwrap).count(), 4);

    let words = report(&site, &[]);
    assert!(words.contains("       1  unknown_preview (mode monitor)\n"), "{words}");
    assert!(words.contains("       2  talked\n"), "{words}");
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

/// The sentence about the log in each form of the report.
#[test]
fn every_report_says_whether_the_log_can_be_believed() {
    let site = Site::new();
    three_days(&site, "a");
    let (directory, key) = (text(&site.path("a")), text(&site.path("audit.key.pub")));
    let run = |command: &[&str], more: &[&str]| audit(&[command, &[&directory], more].concat());
    let report = ["report"];
    let day = |more: &[&'static str]| [&["--day", DAY], more].concat();
    let commands: [(&str, Vec<&str>); 6] = [
        ("report", day(&[])),
        ("report", day(&["--format", "csv"])),
        ("report", day(&["--format", "json"])),
        ("report", day(&["--format", "html"])),
        ("show", vec!["--call", "call-0-1"]),
        ("reconcile", vec!["--cdr", "/dev/null", "--columns", "call_id=CallID"]),
    ];
    assert_eq!(run(&report, &day(&[])).0, 0);
    let segment = std::fs::read_dir(site.path("a")).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl")).min().unwrap();
    let sound = std::fs::read_to_string(&segment).unwrap();
    for state in ["sound", "broken"] {
        if state == "broken" {
            std::fs::write(&segment, sound.replacen("\"agent\":101", "\"agent\":102", 1)).unwrap();
        }
        for (command, more) in &commands {
            if *command == "reconcile" {
                std::fs::write(site.path("cdr.csv"), "CallID\n").unwrap();
            }
            let cdr = text(&site.path("cdr.csv"));
            let more: Vec<&str> = more.iter().map(|word| if *word == "/dev/null" { &cdr } else { *word }).collect();
            let of = |option: &[&str]| run(&[command], &[&more[..], option].concat());
            let (code, printed) = of(&["--no-verify"]);
            let json = more.contains(&"json");
            assert!(
                printed.contains(if json { "\"not_verified\"" } else { "not verified (--no-verify)" }),
                "{printed}"
            );
            assert!(*command == "reconcile" || code == 0, "{printed}");
            for (option, signed) in [(vec![], false), (vec!["--public-key", &key], true)] {
                let (code, printed) = of(&option);
                let (word, unsigned) = match (state, json) {
                    ("sound", true) => ("\"result\": \"proved\"", "\"signatures\": false"),
                    ("sound", false) => ("verified: nothing was changed", "signatures were not checked"),
                    (_, true) => ("\"result\": \"broken\"", "\"signatures\": false"),
                    _ => ("BROKEN: do not rely on", "signatures were not checked"),
                };
                assert!(printed.contains(word), "{command} {state} {option:?}: {printed}");
                assert!(state == "broken" || printed.contains(unsigned) != signed, "{command} {option:?}: {printed}");
                assert!(state == "sound" || code == 1, "{command}: {printed}");
                assert!(*command == "reconcile" || state == "broken" || code == 0, "{command}: {printed}");
            }
        }
    }
    let nothing = site.path("nothing");
    std::fs::create_dir(&nothing).unwrap();
    let (code, printed) = audit(&["report", &text(&nothing), "--day", DAY]);
    assert!(code == 4 && printed.contains("no audit log is in these directories"), "{code} {printed}");
}

#[test]
fn a_report_tells_tenants_apart() {
    let site = Site::new();
    let mut gateway = site.gateway("a");
    gateway.tenants = true;
    site.clock.advance(Duration::from_secs(600));
    for (agent, number) in [(101, "88881001"), (101, "88889999"), (201, "88881001"), (202, "88881001")] {
        gateway.show(agent, 7, &["88881001"]);
        gateway.call(agent, 7, number, &format!("call-{agent}"));
    }
    gateway.stop();
    let json: serde_json::Value = serde_json::from_str(&report(&site, &["--format", "json"])).unwrap();
    let tenants = serde_json::json!({"north": {"forwarded": 1, "rejected": 1}, "south": {"forwarded": 2}});
    assert_eq!(json["tenants"], tenants, "{json:#}");
    let south = ["--format", "json", "--tenant", "south"];
    let json: serde_json::Value = serde_json::from_str(&report(&site, &south)).unwrap();
    assert_eq!((&json["tenant"], &json["verdicts"]), (&"south".into(), &serde_json::json!({"forwarded": 2})));
    let words = report(&site, &[]);
    assert!(words.contains("by tenant\n  north: 1 forwarded, 1 rejected\n  south: 2 forwarded\n"), "{words}");
    let csv = table(&site);
    let mut rows = csv::Reader::from_reader(csv.as_bytes());
    let position = rows.headers().unwrap().iter().position(|name| name == "tenant").unwrap();
    assert!(rows.records().all(|row| ["north", "south"].contains(&row.unwrap().get(position).unwrap())));
    let page = report(&site, &["--format", "html"]);
    assert!(page.contains("<h2>Tenants</h2>") && page.contains("<th class=\"\">tenant</th>"), "{page}");
    // A gateway without tenants has no empty column.
    let plain = Site::new();
    three_days(&plain, "a");
    assert!(!report(&plain, &["--format", "html"]).contains("tenant"));
}

/// The events of a call come through another gateway, whose log is read first or last.
#[test]
fn the_course_of_a_call_is_told_whichever_gateways_recorded_it() {
    let site = Site::new();
    let (mut one, other) = (site.gateway("a"), site.gateway("b"));
    site.clock.advance(Duration::from_secs(600));
    one.show(101, 7, &["88881001"]);
    let (_, decision) = one.decide(101, 7, "88881001");
    one.answer_silently(decision, "call-1");
    let events = [
        (0, "AgentOther_PhoneAlerting", "alerting"),
        (5, "AgentEvent_Talking", "talking"),
        (65, "AgentEvent_Customer_Release", "released"),
        (66, "AgentOther_PhoneRelease", "released"),
    ];
    for (after, event_type, phase) in events {
        other.report_call(101, "call-1", event_type, phase, Duration::from_secs(after));
    }
    one.stop();
    other.stop();
    for order in [["a", "b"], ["b", "a"]] {
        let directories = order.map(|name| text(&site.path(name)));
        let both = [&directories[0][..], &directories[1][..]];
        let (code, printed) = audit(&[&["report"], &both[..], &["--day", DAY, "--format", "json"]].concat());
        assert_eq!(code, 0, "{printed}");
        let json: serde_json::Value = serde_json::from_str(&printed).unwrap();
        let call = &json["callouts"][0];
        assert_eq!(
            (&call["disposition"], &call["rang_ms"], &call["talked_ms"], &call["phase"]),
            (&"talked".into(), &5_000.into(), &60_000.into(), &"released".into()),
            "{call:#}"
        );
        assert_eq!(json["dispositions"], serde_json::json!({"talked": 1}));
        let (_, printed) = audit(&[&["show"], &both[..], &["--call", "call-1"]].concat());
        assert!(printed.contains("course: talked for 1m, after 5s of ringing\n"), "{printed}");
        assert!(printed.contains("the call is over (AgentEvent_Customer_Release)"), "{printed}");
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
fn calls_that_bypassed_the_gateway_are_found() {
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
    assert_eq!(code, 0, "{printed}");
    assert!(
        printed.starts_with("9 call records compared with 9 callouts: 0 differences\naudit log: verified"),
        "{printed}"
    );
    for (from, to, expected) in [
        ("call-1-0", "elsewhere", "call elsewhere: no decision covers it"),
        ("call-1-0", "elsewhere", "call call-1-0 has no call record"),
        ("101,88881002,call-0-0", "105,88881002,call-0-0", "its agent is 105, and agent 101 asked for it"),
        ("101,88881002,call-0-0", "101,99991002,call-0-0", "it went to ******02, and the decision was about ******02"),
    ] {
        let (code, printed) = reconcile(&site, &cdr.replace(from, to), &["--number-keys", &numbers]);
        assert!(code == 1 && printed.contains(expected), "{from} {to}: {printed}");
    }
    // Without the keys only the mask is compared, and the output says so.
    let similar = cdr.replace("101,88881002,call-0-0", "101,99991002,call-0-0");
    let (code, printed) = reconcile(&site, &similar, &[]);
    assert!(
        code == 0 && printed.contains("\n9 numbers compared by length and last two digits only: --number-keys"),
        "{printed}"
    );
    std::fs::remove_file(site.path("numbers").join("2026-11.key")).unwrap();
    let (code, printed) = reconcile(&site, &similar, &["--number-keys", &numbers]);
    assert!(code == 0 && printed.contains("last two digits only: the keys of their months are gone"), "{printed}");
    assert_eq!(reconcile(&site, &cdr.replace("CallID", "Call"), &[]).0, 2);
    // Of one day only.
    let of_day: String = cdr
        .lines()
        .filter(|line| !line.contains("-2-") && !line.contains("ed-2"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(reconcile(&site, &of_day, &[]).0, 1);
    let (code, printed) = reconcile(&site, &of_day, &["--day", "2026-12-01"]);
    assert!(code == 0 && printed.starts_with("6 call records compared with 2 callouts: 0 differences\n"), "{printed}");
    assert_eq!(reconcile(&site, &of_day, &["--day", "1 December"]).0, 2);
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
