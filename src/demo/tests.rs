//! The demo as users run it, and its report when the gateway does not behave as the script expects.

use http::Request;
use serde_json::json;

use super::*;

fn plan(mode: Mode) -> Plan {
    Plan { mode, ports: Ports::Any, poll_wait: Duration::from_millis(50), log_format: LogFormat::Text }
}

async fn performed(mode: Mode) -> (Result<(), DemoError>, String) {
    let mut out = Vec::new();
    let outcome = perform(plan(mode), Afterwards::Exit, &mut out, Style::Plain).await;
    (outcome, String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn every_step_ends_as_expected() {
    let (outcome, printed) = performed(Mode::Enforce).await;
    assert!(outcome.is_ok(), "{outcome:?}\n{printed}");
    assert!(printed.contains("24 steps, all as expected."), "{printed}");
    let rows = printed.lines().filter(|line| line.ends_with("  ok") && !line.contains("what was sent"));
    assert_eq!(rows.count(), SCRIPT.len(), "{printed}");
    assert!(SCRIPT.iter().all(|step| step.what.chars().count() <= 35));
    assert!(
        printed.contains("One refusal in words: step 6\n  CC-Gateway showed agent 1001 the number *****01"),
        "{printed}"
    );
    let words = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    for proof in [
        "result: proved: nothing was changed",
        "agent 1001 is shown a preview: control ID 7001",
        "the gateway forwards the call, which follows from a preview",
        "has the reason ok, and the rule gives number_not_in_preview",
        "result: broken",
    ] {
        assert!(words.contains(proof), "{proof}\n{printed}");
    }
    // Readable on the terminal, and no whole number in the log.
    assert!(printed.lines().all(|line| line.chars().count() <= 120), "{printed}");
    let (_, log) = printed.split_once("Decision log").unwrap();
    let callouts = SCRIPT.iter().filter(|step| step.expected.decision.is_some()).count();
    assert_eq!(log.matches("decision=").count(), callouts, "{log}");
    // Ports may begin like the numbers, but are shorter.
    let is_number = |digits: &str| digits.len() > 5 && digits.starts_with("5550");
    assert!(!log.split(|c: char| !c.is_ascii_digit()).any(is_number), "{log}");
}

#[tokio::test]
async fn a_gateway_in_monitor_mode_fails_the_script() {
    let (outcome, printed) = performed(Mode::Monitor).await;
    let refused = |step: &script::Step| step.expected.upstream == script::Upstream::Untouched;
    let expected: Vec<_> = (1..).zip(&SCRIPT).filter(|(_, step)| refused(step)).map(|(number, _)| number).collect();
    assert!(matches!(outcome, Err(DemoError::Deviated(count)) if count == expected.len()), "{outcome:?}\n{printed}");
    let numbers: Vec<_> = expected.iter().map(ToString::to_string).collect();
    assert!(printed.contains(&format!("NOT as expected: {}.", numbers.join(", "))), "{printed}");
    for deviation in [
        "decision log: expected rejected (unknown_preview), was unverified (unknown_preview)",
        "upstream: expected -, was reached",
        "X-Previewgate-Reason: expected number_not_in_preview, was absent",
        "retcode: expected 200-001, was 0",
        "retcode: expected 100-001, was 0",
    ] {
        assert!(printed.contains(deviation), "{deviation}\n{printed}");
    }
}

/// Checks JSON lines against a published schema; returns how many there are.
fn assert_follow_schema(schema: &str, lines: &str) -> usize {
    let schema = serde_json::from_str(schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for line in lines.lines() {
        let value = serde_json::from_str(line).unwrap();
        let errors: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{line}: {errors:?}");
    }
    lines.lines().count()
}

#[tokio::test]
async fn every_line_of_the_log_and_of_the_audit_log_follows_its_schema() {
    let stage = Stage::set(Plan { log_format: LogFormat::Json, ..plan(Mode::Enforce) }).await.unwrap();
    play_script(&stage, &mut Vec::new(), Style::Plain).await.unwrap();
    let audit = stage.scratch.path().join(proof::DIRECTORY);
    let segments = std::fs::read_dir(audit).unwrap().map(|entry| entry.unwrap().path());
    let segments = segments.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    let records: String = segments.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let whole = records.rsplit_once('\n').map_or("", |(whole, _)| whole);
    assert!(assert_follow_schema(include_str!("../io/audit/schema.json"), whole) > 25, "{records}");
    stage.logging.writer.flush(Duration::from_secs(10));
    let callouts = SCRIPT.iter().filter(|step| step.expected.decision.is_some()).count();
    assert!(assert_follow_schema(telemetry::LOG_SCHEMA, &stage.log.text()) > callouts);
    stage.strike().await.unwrap();
}

#[tokio::test]
async fn a_missing_upstream_is_reported() {
    let stage = Stage::set(plan(Mode::Enforce)).await.unwrap();
    let mut player = Player::new(&stage);
    let [sign_in, ..] = &SCRIPT;
    let broken = serde_json::from_str(r#"{"fault": "break", "at": "before_request", "how": "reset"}"#);
    stage.simulator.handle().misbehave(broken.unwrap());
    let outcome = player.play(1, sign_in).await;
    let deviations = outcome.deviations(&sign_in.expected).join("\n");
    assert!(deviations.contains("status: expected 200, was 50"), "{deviations}");
    stage.strike().await.unwrap();
}

#[tokio::test]
async fn a_push_that_bypasses_the_gateway_is_reported() {
    let stage = Stage::set(plan(Mode::Enforce)).await.unwrap();
    let push = SCRIPT.iter().find(|step| matches!(step.act, script::Act::GetPush)).unwrap();
    // Its application signs in at the platform directly.
    let body = json!({"callBackUri": stage.application.url(), "serviceToken": application::TOKEN}).to_string();
    let sign_in = Request::put(format!("/agentgateway/resource/onlineagent/{}", script::PUSHED));
    let past = client::Client::new(stage.simulator.address(), stage.trust.clone());
    past.send(sign_in.body(body.into()).unwrap()).await.unwrap();

    let deviations = Player::new(&stage).play(1, push).await.deviations(&push.expected);
    assert_eq!(deviations, ["upstream: expected pushed, was pushed past"]);
    stage.strike().await.unwrap();
}

#[tokio::test]
async fn the_directory_is_removed() {
    let stage = Stage::set(plan(Mode::Enforce)).await.unwrap();
    let (files, ca) = (stage.scratch.path().to_owned(), stage.ca.clone());
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&files).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700, "there are keys in it");
    assert!(ca.exists());
    let addresses = [stage.gateway.address, stage.application.address, stage.simulator.address()];
    stage.strike().await.unwrap();
    assert!(!files.exists());
    for address in addresses {
        assert!(std::net::TcpStream::connect(address).is_err(), "{address}");
    }
}

#[tokio::test]
async fn the_commands_name_the_running_servers() {
    let stage = Stage::set(plan(Mode::Enforce)).await.unwrap();
    let guid = stage.simulator.handle().sign_in_directly(script::AGENT.try_into().unwrap());
    let mut out = Vec::new();
    invitation::invite(&mut out, &stage, Style::Plain).unwrap();
    let text = String::from_utf8(out).unwrap();
    // The name of the temporary directory may be long.
    assert!(text.lines().all(|line| line.contains("--cacert") || line.len() <= 120), "{text}");
    for part in [
        format!("--cacert {}", stage.ca.display()),
        format!("https://localhost:{}/agentgateway/resource/agentevent/1001", stage.gateway.address.port()),
        format!("https://localhost:{}/simulator/agents/1001/preview", stage.simulator.address().port()),
        format!("https://localhost:{}/simulator/agents/1003/preview", stage.simulator.address().port()),
        format!("http://{}/metrics", stage.gateway.admin_address),
        format!("-H 'Guid: {guid}'"),
        format!("cd {} && previewgate audit verify audit --public-key audit.key.pub", stage.scratch.path().display()),
    ] {
        assert!(text.contains(&part), "{part}\n{text}");
    }
    stage.strike().await.unwrap();
}

#[test]
fn a_port_that_is_taken_is_not_used() {
    let listening = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let taken = listening.local_addr().unwrap().port();
    assert_eq!(Ports::WellKnown.address(taken).port(), 0);
    assert_eq!(Ports::Any.address(1).port(), 0);
    drop(listening);
    assert_eq!(Ports::WellKnown.address(taken).port(), taken);
}
