//! `Connection` names fields of one connection only (RFC 9110 7.6.1). It cannot remove what was evaluated, or what the
//! upstream says.

use serde_json::json;

use crate::push::PushSite;
use crate::support::{API, Request, Scripted, Seen, Setup};

/// Spellings of `Connection` that name `{}`.
const SPELLINGS: [&str; 12] = [
    "{}",
    "close, {}",
    "{}, close",
    "keep-alive,{},x-other",
    ",, {} ,",
    "\t{}\t",
    "{} , {}",
    "{}, TE, Upgrade",
    "\"{}\"",
    "{};q=1",
    "x-other\t,\t{}",
    "close,{},close",
];

/// Fields of a request that must arrive.
const FIELDS: [(&str, &str); 6] = [
    ("Guid", "g.node"),
    ("Content-Type", "application/json"),
    ("Cookie", "a=b"),
    ("Service_Token", "t"),
    ("Content-Length", ""),
    ("Host", ""),
];

fn spelled(spelling: &str, name: &str, round: usize) -> String {
    let name = match round % 3 {
        0 => name.to_owned(),
        1 => name.to_lowercase(),
        _ => name.to_uppercase(),
    };
    spelling.replace("{}", &name)
}

fn assert_arrived(seen: &Seen, what: &str) {
    for (name, value) in FIELDS {
        assert!(seen.has(name), "{what}: {name} is missing in {}", seen.head);
        assert!(value.is_empty() || seen.header(name) == value, "{what}: {}", seen.head);
    }
}

fn requests() -> Vec<Request> {
    let body = json!({"called": "100", "callcontrolid": 7}).to_string();
    let request = |method: &str, path: &str| Request::new(method, format!("{API}/{path}")).body(body.clone());
    vec![
        request("PUT", "voicecall/101/previewCallout"),
        request("PUT", "voicecall/101/cancelPreviewCallout"),
        request("GET", "agentevent/101"),
        request("PUT", "onlineagent/101/forcelogin"),
        request("DELETE", "onlineagent/101/logout"),
        request("POST", "onlineagent/101/handshake"),
    ]
}

#[tokio::test]
async fn no_spelling_removes_what_was_evaluated() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\nConnection: close\r\n\r\n{\"retcode\":\"9\"}";
    let upstream = Scripted::start(&[answer]).await;
    let lab = Setup::plain().upstreams(&[upstream.address]).start().await;
    lab.learns(101, 7, "100");
    let mut round = 0;
    for spelling in SPELLINGS {
        for (name, _) in FIELDS {
            for request in requests() {
                let mut request = request.header("Connection", spelled(spelling, name, round)).header("X-Other", "1");
                if round % 2 == 1 {
                    // In a second field of the same name.
                    request = request.header("connection", "close");
                }
                for (name, value) in FIELDS.iter().filter(|(_, value)| !value.is_empty()) {
                    request = request.header(name, *value);
                }
                let before = upstream.seen().len();
                lab.connect().await.send_and_read_on(&request).await;
                let seen = upstream.seen();
                assert_eq!(seen.len(), before + 1, "{request:?}");
                assert_arrived(seen.last().unwrap(), spelling);
                assert!(
                    !seen.last().unwrap().has("connection")
                        || !seen.last().unwrap().header("connection").contains(name)
                );
                round += 1;
            }
        }
    }
}

#[tokio::test]
async fn a_field_that_belongs_to_the_connection_is_removed() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"retcode\":\"9\"}";
    let upstream = Scripted::start(&[answer]).await;
    let lab = Setup::plain().upstreams(&[upstream.address]).start().await;
    let request = Request::get(format!("{API}/agentevent/101")).header("Connection", "x-mine").header("X-Mine", "1");
    lab.send(&request).await.passed();
    assert!(!upstream.only().has("x-mine"));
}

#[tokio::test]
async fn the_connection_field_of_an_answer_removes_no_evaluated_field() {
    for name in ["Set-GUID", "Set-Cookie", "Content-Type"] {
        let answer = format!(
            "HTTP/1.1 200 OK\r\nConnection: {name}, X-Hop\r\nX-Hop: 1\r\nSet-GUID: JSESSIONID=a\r\nSet-Cookie: b=c\r\n\
             Content-Type: application/json\r\nContent-Length: 15\r\n\r\n{{\"retcode\":\"0\"}}"
        );
        let upstream = Scripted::start(&[answer.as_bytes()]).await;
        let lab = Setup::plain().upstreams(&[upstream.address]).start().await;
        let answer = lab.send(&Request::get(format!("{API}/agentevent/101"))).await.passed();
        assert!(!answer.header(name).is_empty() && answer.all("x-hop").is_empty(), "{answer:?}");
    }
}

/// The same holds for pushes.
#[tokio::test]
async fn a_push_keeps_its_credentials() {
    let site = PushSite::new().await;
    let gateway = site.start();
    assert_eq!(site.sign_in(site.call_back_sign_in()).await.passed().retcode(), "0");
    for (round, spelling) in SPELLINGS.iter().enumerate() {
        for name in ["Guid", "Service_Token", "Content-Type"] {
            let push = Request::post(site.push_path()).header("Connection", spelled(spelling, name, round));
            let push = push.guid("g").header("Service_Token", "t").header("Content-Type", "application/json");
            assert_eq!(site.send(push.body("{}")).await.status, 200);
            let seen = site.application.seen().pop().unwrap().request;
            let fields = (seen.header("guid"), seen.header("service_token"), seen.header("content-type"));
            assert_eq!(fields, ("g", "t", "application/json"), "{spelling}");
        }
    }
    gateway.close().await;
}
