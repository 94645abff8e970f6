//! `previewgate explain` as a CTI developer uses it: the real program over example files, one for each refusal.

use std::path::{Path, PathBuf};

use assert_cmd::Command;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/explain").join(name)
}

fn command(request: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_previewgate"));
    command.arg("explain").arg("--events").arg(data("events.jsonl")).arg("--request").arg(request).args(options);
    command
}

/// The program's output for a request that it can explain.
fn explained(request: &Path, options: &[&str]) -> String {
    let output = command(request, options).assert().code(0).stderr("").get_output().stdout.clone();
    String::from_utf8(output).unwrap()
}

/// The same for a callout of agent 101 (control ID 7, number 88889039) after these events.
fn after(events: &[&str]) -> String {
    let (file, request) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(file.path(), events.join("\n")).unwrap();
    std::fs::write(request.path(), r#"{"called":"88889039","callcontrolid":7,"agent":101}"#).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_previewgate"));
    command.arg("explain").arg("--events").arg(file.path()).arg("--request").arg(request.path());
    String::from_utf8(command.assert().code(0).get_output().stdout.clone()).unwrap()
}

fn of(name: &str, options: &[&str]) -> String {
    explained(&data(name), options)
}

/// A request that is in no example file.
fn of_text(text: &str, options: &[&str]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    explained(file.path(), options)
}

fn assert_says(explanation: &str, words: &[&str]) {
    for words in words {
        assert!(explanation.contains(words), "{words:?} is not in\n{explanation}");
    }
}

#[test]
fn a_valid_callout_is_forwarded() {
    let explanation = of("ok.http", &[]);
    assert_says(
        &explanation,
        &[
            "line 3: AgentEvent_Preview_CallOut: agent 101 is shown control ID 11776 with ******39",
            "line 6: AgentEvent_Release_Preview: all previews of agent 102 are over",
            "operation: previewCallout of agent 101",
            "callcontrolid 11776: matches the preview of line 3",
            "called ******39: is one of its 1 number(s)",
            "forwarded, reason ok",
        ],
    );
}

#[test]
fn each_refusal_is_explained_with_what_the_client_gets() {
    for (reason, retcode, words) in [
        (
            "number_not_in_preview",
            "200-001",
            "called ******01: is none of its 1 number(s)\n  it stands in the preview with control ID 11777 (line 4)",
        ),
        ("control_id_mismatch", "000-002", "callcontrolid 4711: none of them has it"),
        ("unknown_preview", "000-002", "none any more: they were over at line 6 (AgentEvent_Release_Preview)"),
        ("missing_guid", "000-002", "the Guid header is missing"),
        ("invalid_content_type", "000-002", "application/json in UTF-8"),
        ("method_not_allowed", "000-002", "no operation: the interface does not support this method"),
        ("ambiguous_path", "000-002", "no operation: the path can be read in more than one way"),
        ("invalid_agent_id", "000-002", "no operation: the agent ID in the path is not a plain decimal number"),
        ("malformed_body", "000-002", "called is a string, callcontrolid an integer"),
        ("missing_field", "000-002", "the mandatory parameter called is missing"),
    ] {
        let explanation = of(&format!("{reason}.http"), &[]);
        let header = format!("X-Previewgate-Reason: {reason}");
        let verdict = format!("rejected, reason {reason}");
        let envelope = format!("\"retcode\":\"{retcode}\"}}");
        assert_says(&explanation, &[words, &verdict, "status 200 OK", &header, &envelope]);
    }
}

#[test]
fn a_preview_expires_by_the_given_time() {
    let late = (1_700_000_000_000_u64 + 31 * 60 * 1000).to_string();
    let explanation = of("ok.http", &["--now", &late]);
    let words = ["shown 31m ago, longer than previews.ttl 30m", "reason preview_expired", "line 7: other event"];
    assert_says(&explanation, &words);
    assert_says(&of("ok.http", &["--now", "1700000010000"]), &["shown 10s ago (line 3)", "forwarded, reason ok"]);
    assert_says(&of("ok.http", &[]), &["all events are taken to have just arrived"]);
}

#[test]
fn a_body_alone_is_enough() {
    for explanation in [of("body.json", &["--agent", "101"]), of("body-with-agent.json", &[])] {
        assert_says(
            &explanation,
            &["the file holds a body alone", "called ******02, callcontrolid 11777", "reason ok"],
        );
    }
    assert_says(
        &of("body.json", &["--agent", "103"]),
        &["none: no event shows agent 103 a preview", "unknown_preview"],
    );
    assert_says(&of("body.json", &["--agent", "100"]), &["reason invalid_agent_id"]);
    assert_says(&of_text("nonsense", &["--agent", "101"]), &["reason malformed_body"]);
}

#[test]
fn the_configured_policy_counts() {
    let small = data("small.toml").display().to_string();
    let long = format!("{{\"called\":\"66667002\",\"callcontrolid\":11777,\"x\":\"{}\"}}", "x".repeat(300));
    assert_says(&of_text(&long, &["--agent", "101", "--config", &small]), &["limits.callout_body", "reason too_large"]);
    let monitor = data("monitor.toml").display().to_string();
    let explanation = of("number_not_in_preview.http", &["--config", &monitor]);
    assert_says(&explanation, &["mode monitor", "unverified, reason number_not_in_preview"]);
    let explanation = of("ambiguous_path.http", &["--config", &monitor]);
    assert_says(&explanation, &["unverified, reason ambiguous_path"]);
}

#[test]
fn numbers_are_masked_unless_asked_for() {
    for name in ["ok.http", "number_not_in_preview.http", "malformed_body.http", "unknown_preview.http"] {
        let masked = of(name, &[]);
        for number in ["88889039", "66667001", "55551234"] {
            assert!(!masked.contains(number), "{masked}");
        }
    }
    assert_says(&of("ok.http", &["--show-numbers"]), &["called 88889039", "66667001, 66667002"]);
}

#[test]
fn requests_that_are_not_callouts_or_not_http() {
    assert_says(&of("bad_host.http", &[]), &["bad_host", "status 400", "\"retcode\":\"000-002\"", "Connection: close"]);
    let text = |text: &str| of_text(text, &[]);
    let poll = "GET /agentgateway/resource/agentevent/101 HTTP/1.1\nHost: x\n\n";
    assert_says(&text(poll), &["operation: getAgentEvent of agent 101", "passes: only previewCallout is judged"]);
    assert_says(&text("GET /elsewhere HTTP/1.1\nHost: x\n\n"), &["status 404", "no X-Previewgate-Reason"]);
    assert_says(&text("PUT /agentgateway/"), &["head_timeout", "status 408"]);
    let head = "PUT /agentgateway/resource/voicecall/101/previewCallout HTTP/1.1\r\nHost: x\r\nGuid: g\r\n\
                Content-Type: application/json\r\n";
    let body = "{\"called\":\"88889039\",\"callcontrolid\":11776}";
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    let (start, rest) = body.split_at(5);
    let good = format!("{head}{chunked}5\r\n{start}\r\n26\r\n{rest}\r\n0\r\n\r\n");
    assert_says(&text(&good), &["forwarded, reason ok"]);
    assert_says(&text(&good.replace("26\r\n", "26;x\r\n")), &["chunked coding", "the connection is closed"]);
    let short = format!("{head}Content-Length: 99\r\n\r\n{body}");
    assert_says(&text(&short), &["waits until limits.callout_body_timeout", "status 408", "reason malformed_body"]);
    let long = format!("{head}Content-Length: {}\r\n\r\n{body}\r\n", body.len());
    assert_says(&text(&long), &["2 bytes at the end of the file", "forwarded, reason ok"]);
    let upgrade = format!("{head}Upgrade: websocket\r\n\r\n");
    assert_says(&text(&upgrade), &["status 403"]);
}

#[test]
fn input_that_cannot_be_explained_is_an_error() {
    let code = |command: &mut Command, code: i32, words: &str| {
        let output = command.assert().code(code).stdout("").get_output().stderr.clone();
        assert_says(&String::from_utf8(output).unwrap(), &[words]);
    };
    code(&mut command(&data("absent.http"), &[]), 1, "absent.http");
    code(&mut command(&data("body.json"), &[]), 2, "--agent");
    code(&mut command(&data("ok.http"), &["--now", "yesterday"]), 2, "--now");
    code(&mut command(&data("ok.http"), &["--config", "/nowhere/gateway.toml"]), 78, "cannot be read");
}

const SHOWN: &str = r#"{"agent":101,"guid":"own","body":{"retcode":"0","event":{"eventType":"AgentEvent_Preview_CallOut","workNo":"101","content":{"controlid":7,"dialeddigits":"88889039"},"eventGenTime":1000}}}"#;

#[test]
fn only_the_agents_own_guid_ends_previews_by_a_missing_session() {
    let foreign = after(&[SHOWN, r#"{"agent":101,"guid":"foreign","body":{"retcode":"100-006"}}"#]);
    assert_says(&foreign, &["line 2: retcode 100-006: not the agent's own GUID", "forwarded, reason ok"]);
    let own = after(&[SHOWN, r#"{"agent":101,"guid":"own","body":{"retcode":"100-006"}}"#]);
    assert_says(&own, &["line 2: retcode 100-006: the agent has no session", "rejected, reason signed_out"]);
    let unnamed = after(&[&SHOWN.replace(r#""guid":"own","#, ""), r#"{"agent":101,"body":{"retcode":"100-006"}}"#]);
    assert_says(&unnamed, &["rejected, reason signed_out"]);
}

#[test]
fn a_release_that_overtakes_its_preview_ends_it() {
    let released = r#"{"agent":101,"guid":"own","body":{"retcode":"0","event":{"eventType":"AgentEvent_Release_Preview","workNo":"101","eventGenTime":2000}}}"#;
    let explanation = after(&[released, SHOWN]);
    assert_says(
        &explanation,
        &["line 2: AgentEvent_Preview_CallOut: not recorded", "rejected, reason unknown_preview"],
    );
    assert_says(&after(&[&released.replace("2000", "500"), SHOWN]), &["forwarded, reason ok"]);
}

#[test]
fn earlier_callouts_count_if_their_number_is_limited() {
    let shown = r#"{"agent":101,"body":{"retcode":"0","event":{"eventType":"AgentEvent_Preview_CallOut","workNo":"101","content":{"controlid":7,"dialeddigits":"88889039,1"}}}}"#;
    let callout = |number: &str| format!(r#"{{"agent":101,"callout":{{"called":"{number}","callcontrolid":7}}}}"#);
    let (config, events) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
    let limited = "[upstream]\nendpoints = [\"https://localhost\"]\n[previews]\ncalls_per_number = 2\n";
    std::fs::write(config.path(), limited).unwrap();
    let called = r#"{"called":"88889039","callcontrolid":7,"agent":101}"#;
    let asked = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(asked.path(), called).unwrap();
    for (calls, config, words) in [
        (&["88889039", "1"][..], true, &["called 1 time(s) before, previews.calls_per_number is 2", "reason ok"][..]),
        (&["88889039", "88889039"], true, &["agent 101 called ******39 of control ID 7: counts", "reason number_used"]),
        (&["88889039", "88889039"], false, &["previews.calls_per_number is 0", "reason ok"]),
    ]
    .map(|(calls, limited, words)| (calls, limited.then(|| config.path()), words))
    {
        let lines: Vec<_> =
            std::iter::once(shown.to_owned()).chain(calls.iter().map(|number| callout(number))).collect();
        std::fs::write(events.path(), lines.join("\n")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_previewgate"));
        command.arg("explain").arg("--events").arg(events.path()).arg("--request").arg(asked.path());
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        let explanation = String::from_utf8(command.assert().code(0).get_output().stdout.clone()).unwrap();
        assert_says(&explanation, words);
    }
}
