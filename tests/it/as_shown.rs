//! Clients that behave, with habits that look odd: each calls back what it was shown, as it was shown, and passes.

use serde_json::json;

use crate::support::{API, Agent, Lab, Request, Setup, id};

async fn lenient() -> Lab {
    Setup::plain().lenient().start().await
}

/// Shows the agent a preview 7 with this text as `dialeddigits`, written as JSON writes it.
async fn shown(lab: &Lab, agent: &Agent, digits: &str) {
    let body = format!(
        r#"{{"message":"","retcode":"0","event":{{"eventType":"AgentEvent_Preview_CallOut_Ex","workNo":"101","content":{{"controlid":7,"dialeddigits":"{digits}"}}}}}}"#
    );
    lab.simulator.inject_raw(id(101), body, &[("Content-Type", "application/json")]);
    agent.poll().await.passed();
}

fn callout(agent: &Agent, content_type: &str, body: impl Into<Vec<u8>>) -> Request {
    let request = Request::put(format!("{API}/voicecall/{}/previewcallout", agent.number)).guid(&agent.guid);
    request.header("Content-Type", content_type).body(body)
}

/// The client copies `dialeddigits` from the event into `called`, as text: padding, blanks and all.
#[tokio::test]
async fn a_number_is_called_back_as_it_was_shown() {
    let lab = lenient().await;
    let agent = lab.agent(101).await;
    for digits in [
        "13800138000",
        "138 0013 8000",
        "138 0013 8000\\u0000",
        "13800138000\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000",
        "+86 (571) 8888-9039",
        "*31#138 0013",
        "\\u0031\\u00338",
        "9,1",
    ] {
        shown(&lab, &agent, digits).await;
        // A list is called number by number.
        let called = digits.split(',').next().unwrap();
        for id in ["7", "\"7\"", "\"7\\u0000\\u0000\""] {
            let body = format!(r#"{{"called":"{called}","callcontrolid":{id}}}"#);
            let answer = lab.send(&callout(&agent, "application/json; charset=UTF-8", body)).await;
            assert_eq!(answer.verdict(), "ok", "{digits}");
        }
        // The upstream reads one number in what arrives: the one that was shown.
        let arrived = lab.simulator.callouts().pop().unwrap();
        let arrived: serde_json::Value = serde_json::from_slice(&arrived.body).unwrap();
        let meant: String = serde_json::from_str(&format!("\"{called}\"")).unwrap();
        assert_eq!(arrived["called"], meant.trim_end_matches('\0'), "{digits}");
        agent.released().await;
    }
}

#[tokio::test]
async fn a_byte_order_mark_and_odd_quotes_around_the_charset_pass() {
    let lab = lenient().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "100").await;
    let body = json!({"called": "100", "callcontrolid": 7}).to_string();
    for content_type in [
        "application/json; charset='utf-8'",
        "application/json;charset='UTF-8'",
        "application/json; charset=\"utf-8\"",
        "application/json; charset=utf8",
        "Application/JSON ; Charset = UTF-8",
        "application/json",
    ] {
        for bom in ["", "\u{feff}"] {
            let answer = lab.send(&callout(&agent, content_type, format!("{bom}{body}"))).await;
            assert_eq!(answer.verdict(), "ok", "{content_type} {bom:?}");
            assert_eq!(lab.simulator.callouts().pop().unwrap().body, body.as_bytes(), "one reading: no mark");
        }
    }
    // In chunks, with `Expect`, as .NET sends it.
    let chunk = format!("\u{feff}{body}");
    let chunked = format!("{:x}\r\n{chunk}\r\n0\r\n\r\n", chunk.len());
    let request = callout(&agent, "application/json; charset=utf-8", chunked).header("Transfer-Encoding", "chunked");
    assert_eq!(lab.send(&request).await.verdict(), "ok");
}

/// The platform writes GBK, Big5 or Shift_JIS without saying so, and the second byte of the last character of a text is
/// that of a backslash.
#[tokio::test]
async fn previews_in_unlabelled_text_that_ends_in_a_backslash_byte_are_learnt() {
    let lab = lenient().await;
    let agent = lab.agent(101).await;
    let texts: [&[u8]; 6] = [
        b"\xd5\x5c",
        b"\xb3\x5c\xa5\x5c",
        b"\x95\x5c",
        b"x\xd5\x5c \xb3\x5c",
        b"\x81\x30\x81\x30\xd5\x5c",
        b"\x5c\x5c\xd5\x5c",
    ];
    for text in texts {
        for content_type in ["application/json", "application/json;charset=UTF-8", "text/html"] {
            let before = br#"{"retcode":"0","event":{"eventType":"AgentEvent_Preview_CallOut","workNo":"101","content":{"callData":""#;
            let after = br#"","controlid":7,"dialeddigits":"100"}}}"#;
            let body = [&before[..], text, after].concat();
            lab.simulator.inject_raw(id(101), body.clone(), &[("Content-Type", content_type)]);
            assert_eq!(agent.poll().await.passed().body, body);
            assert_eq!(agent.call(7, "100").await.verdict(), "ok", "{text:x?} {content_type}");
            agent.released().await;
        }
    }
}

#[tokio::test]
async fn a_release_that_names_a_preview_ends_that_one_only() {
    let lab = lenient().await;
    let agent = lab.agent(101).await;
    for (name, value) in
        [("controlid", json!(7)), ("controlid", json!("7")), ("controllid", json!("7\0")), ("controlId", json!(7))]
    {
        agent.shown(7, "100").await;
        agent.shown(8, "200").await;
        let event = json!({"eventType": "AgentEvent_Release_Preview", "workNo": "101", "content": {name: value}});
        lab.simulator.inject(id(101), event);
        agent.poll().await.passed();
        let verdicts = (agent.call(7, "100").await.verdict(), agent.call(8, "200").await.verdict());
        assert_eq!(verdicts, ("control_id_mismatch".to_owned(), "ok".to_owned()), "{name}");
        agent.released().await;
        assert_eq!(agent.call(8, "200").await.verdict(), "unknown_preview");
    }
}

/// Every number of a large list, and every agent of a large answer.
#[tokio::test]
async fn large_lists_are_learnt_whole() {
    let lab = lenient().await;
    let agent = lab.agent(101).await;
    let numbers: Vec<String> = (0..128).map(|n| format!("0571{n:08}")).collect();
    shown(&lab, &agent, &numbers.join(",")).await;
    let mut client = lab.client();
    for number in &numbers {
        assert_eq!(client.send(&agent.callout(7, number)).await.verdict(), "ok", "{number}");
    }
    assert_eq!(agent.call(7, "057100000128").await.verdict(), "number_not_in_preview");
}
