//! No number, GUID, password or token is in the directory in clear.

use std::fs;

use serde_json::json;

use crate::support::{API, AUDIT, Lab, Request, Setup};

/// Every text that must not be found, each planted where a record could take it from.
const NUMBERS: [&str; 4] = ["05717654321", "05717654322", "05717654323", "05717654324"];
const PASSWORD: &str = "hunter2-password";
const TOKEN: &str = "hunter2-token";
const CALL_DATA: &str = "hunter2-customer";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_secrets_are_not_in_the_directory() {
    let lab = Setup::plain().lenient().audited().start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, &NUMBERS[..2].join(",")).await;
    assert_eq!(agent.call(7, NUMBERS[0]).await.verdict(), "ok");
    assert_eq!(agent.call(7, NUMBERS[2]).await.verdict(), "number_not_in_preview");
    assert_eq!(agent.call(9, NUMBERS[3]).await.verdict(), "control_id_mismatch");
    // Fields of other requests, and of callouts that are not well formed.
    let body = json!({"called": NUMBERS[0], "callcontrolid": 7, "password": PASSWORD});
    lab.send(&agent.callout_request(&body).header("Cookie", TOKEN).header("Authorization", TOKEN)).await;
    let in_path =
        Request::put(format!("{API}/voicecall/{}/previewCallout?token={TOKEN}", NUMBERS[1])).guid(&agent.guid);
    lab.send(&in_path.json(&body)).await;
    lab.send(&agent.callout_request(&json!({"called": {"x": NUMBERS[1]}, "callcontrolid": CALL_DATA}))).await;
    let sign_in = Request::put(format!("{API}/onlineagent/101/forcelogin"));
    lab.send(&sign_in.json(&json!({"phonenum": NUMBERS[0], "password": PASSWORD}))).await;
    fs::write(lab.site.path("hash.key"), "hunter2-hash-key-of-the-log").unwrap();
    let Lab { gateway, site } = lab;
    gateway.close().await;
    // Once more, with secrets in files that the configuration names.
    let gateway = site.start(&format!("{AUDIT}\nlog.hash_key = \"hash.key\""));
    gateway.close().await;

    let key = fs::read_to_string(site.path("audit.key")).unwrap();
    let number_keys: Vec<String> = fs::read_dir(site.path("audit-numbers"))
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap().trim().to_owned())
        .collect();
    let mut secrets = vec![PASSWORD, TOKEN, CALL_DATA, "hunter2", &agent.guid, key.lines().nth(1).unwrap()];
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
}
