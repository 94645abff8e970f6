//! No number, GUID, password or token is in the directory in clear.

use std::fs;

use previewgate::audit::recipient::RecipientKey;
use serde_json::json;

use crate::support::{API, AUDIT, Agent, AuditRecords, Lab, Request, Setup, Site, id};

/// Every text that must not be found, each planted where a record could take it from.
const NUMBERS: [&str; 4] = ["05717654321", "05717654322", "05717654323", "05717654324"];
const PASSWORD: &str = "hunter2-password";
const TOKEN: &str = "hunter2-token";
const CALL_DATA: &str = "hunter2-customer";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_secrets_are_not_in_the_directory() {
    let lab = Setup::plain().lenient().settings(&everything()).site().await;
    let private = keep_auditor_key(&lab);
    let lab = Lab { gateway: lab.start(&everything()), site: lab };
    let agent = lab.agent(101).await;
    agent.shown(7, &NUMBERS[..2].join(",")).await;
    assert_eq!(agent.call(7, NUMBERS[0]).await.verdict(), "ok");
    assert_eq!(agent.call(7, NUMBERS[2]).await.verdict(), "number_not_in_preview");
    assert_eq!(agent.call(9, NUMBERS[3]).await.verdict(), "control_id_mismatch");
    with_call_data(&lab, &agent).await;
    // Fields of other requests, and of callouts that are not well formed.
    let body = json!({"called": NUMBERS[0], "callcontrolid": 7, "password": PASSWORD});
    lab.send(&agent.callout_request(&body).header("Cookie", TOKEN).header("Authorization", TOKEN)).await;
    let in_path =
        Request::put(format!("{API}/voicecall/{}/previewCallout?token={TOKEN}", NUMBERS[1])).guid(&agent.guid);
    lab.send(&in_path.json(&body)).await;
    lab.send(&agent.callout_request(&json!({"called": {"x": NUMBERS[1]}, "callcontrolid": CALL_DATA}))).await;
    let sign_in = Request::put(format!("{API}/onlineagent/101/forcelogin"));
    lab.send(&sign_in.json(&json!({"phonenum": NUMBERS[0], "password": PASSWORD}))).await;
    // Under other modes, and forwarded although the rule refuses.
    for mode in ["monitor", "enforce"] {
        lab.reload_with(&format!("{}\nvalidation.mode = \"{mode}\"", everything()));
        agent.call(7, NUMBERS[2]).await;
    }
    fs::write(lab.site.path("hash.key"), "hunter2-hash-key-of-the-log").unwrap();
    let Lab { gateway, site } = lab;
    gateway.close().await;
    // Once more, with secrets in files that the configuration names.
    let gateway = site.start(&format!("{}\nlog.hash_key = \"hash.key\"", everything()));
    gateway.close().await;

    let key = fs::read_to_string(site.path("audit.key")).unwrap();
    let number_keys: Vec<String> = fs::read_dir(site.path("audit-numbers"))
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap().trim().to_owned())
        .collect();
    let mut secrets = vec![PASSWORD, TOKEN, CALL_DATA, "hunter2", &agent.guid, key.lines().nth(1).unwrap(), &private];
    secrets.extend(NUMBERS);
    secrets.extend(number_keys.iter().map(String::as_str));
    let mut lines = 0;
    for entry in fs::read_dir(site.path("audit")).unwrap() {
        let path = entry.unwrap().path();
        let content = fs::read_to_string(&path).unwrap();
        lines += content.lines().count();
        for secret in &secrets {
            assert!(!content.contains(secret), "{secret} in {}", path.display());
        }
        // Not even most of a number.
        for number in NUMBERS {
            assert!(!content.contains(&number[2..9]), "{number} in {}", path.display());
        }
    }
    assert!(lines > 10);
    // Each feature was on: otherwise this test proves less than it says.
    let records = AuditRecords::read(&site.path("audit"));
    let has = |kind: &str, member: &str| records.of(kind).iter().any(|record| !record[member].is_null());
    assert!(has("shown", "sealed") && has("shown", "evidence") && has("shown", "session"));
    assert!(has("decision", "tenant") && has("decision", "session") && has("outcome", "call_id"));
    assert!(records.of("decision").iter().any(|decision| decision["called"]["sealed"].is_string()));
}

/// Everything that `[audit]` can keep, and everything beside it that a record takes something from.
fn everything() -> String {
    format!(
        "tenants = [{{ name = \"north\", agents = [\"101-199\"] }}]\n{AUDIT}\naudit.recipient = \"auditor.key.pub\"\n\
         audit.evidence = [\"callData:/consentId\", \"hash:callData:/customer\"]\naudit.durability = \"synced\"\n\
         previews.snapshot = \"previews.snapshot\"\nlog.level = \"debug\""
    )
}

/// Puts an auditor's public key beside the configuration; returns the text of its private half.
fn keep_auditor_key(site: &Site) -> String {
    let (public, private) = RecipientKey::generate().unwrap();
    site.write("auditor.key.pub", format!("{public}\n"));
    private.trim().strip_prefix("previewgate-auditor-private+").unwrap().to_owned()
}

/// A preview with `callData`, of which one member is kept, one is hashed, and the others are not.
async fn with_call_data(lab: &Lab, agent: &Agent) {
    let data = json!({"consentId": "c-4711", "customer": CALL_DATA, "number": NUMBERS[1], "token": TOKEN}).to_string();
    let content = json!({"controlid": 11, "dialeddigits": NUMBERS[0], "callData": data});
    let event = json!({"eventType": "AgentEvent_Preview_CallOut", "workNo": "101", "content": content});
    lab.simulator.inject(id(101), event);
    agent.poll().await.passed();
    assert_eq!(agent.call(11, NUMBERS[0]).await.verdict(), "ok");
}
