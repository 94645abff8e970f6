//! Sign-ins that ask for push.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use previewgate::simulator::SelfSigned;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};

use super::site::{PushSite, path_of, sign_ins};
use super::{NUMBER, preview};
use crate::support::{API, Access, Peer, Port, Request, Upstream};

#[tokio::test]
async fn without_push_a_sign_in_that_asks_for_it_passes_and_is_logged_once() {
    let site = PushSite::new().await;
    let gateway = site.start_with("");
    for body in [site.call_back_sign_in(), site.push_url_sign_in(), "{\"pushUrl\":1,\"pushUrl\":2}".to_owned()] {
        assert_eq!(site.sign_in(body.clone()).await.retcode(), "0");
        assert_eq!(site.handle.journal().pop().unwrap().body, body);
    }
    // These do not ask for push, or cannot be understood.
    for body in ["{\"callBackUri\":\"https://a\"}".to_owned(), format!("{{\"a\":\"{}\"}}", "x".repeat(100_000))] {
        assert_eq!(site.sign_in(body.clone()).await.retcode(), "0");
        assert_eq!(site.handle.journal().pop().unwrap().body, body);
    }
    assert_eq!((gateway.metric(&sign_ins("passed")), gateway.metric(&sign_ins("unread"))), (3.0, 1.0));
    let push = site.send(Request::post("/previewgate/push/push/101/x.y")).await.own();
    assert_eq!(push.status, 404);
    let log = gateway.close().await.text();
    assert_eq!(log.matches("sign-in asks for push").count(), 1, "{log}");
}

#[tokio::test]
async fn a_sign_in_without_a_length_gets_one_when_it_is_rewritten() {
    let site = PushSite::new().await;
    let gateway = site.start();
    let sign_in = site.push_url_sign_in();
    let (first, rest) = sign_in.split_at(30);
    let chunks = format!("{:x}\r\n{first}\r\n{:x}\r\n{rest}\r\n0\r\n\r\n", first.len(), rest.len());
    let request = Request::put(format!("{API}/onlineagent/101/loginex")).header("Transfer-Encoding", "chunked");
    assert_eq!(site.send(request.body(chunks)).await.passed().retcode(), "0");
    let arrived = site.handle.journal().pop().unwrap();
    assert_eq!(arrived.body, sign_in.replace(&site.application.url(), &site.push_url()));
    assert_eq!(arrived.header("content-length").unwrap(), arrived.body.len().to_string());
    assert_eq!(arrived.header("transfer-encoding"), None);
    gateway.close().await;
}

/// A CC-Gateway that pushes one preview into every new session before it answers the sign-in.
fn hasty_platform(identity: &SelfSigned, gateway: Access) -> Upstream {
    let sessions = Arc::new(AtomicI64::new(0));
    Upstream::secure(Port::reserve().listen(), identity, move |peer| {
        answer_hastily(peer, gateway.clone(), Arc::clone(&sessions))
    })
}

async fn answer_hastily<S: AsyncRead + AsyncWrite + Unpin>(
    mut peer: Peer<S>,
    gateway: Access,
    sessions: Arc<AtomicI64>,
) {
    while let Some(request) = peer.request().await {
        if let Some(url) = request.json()["pushUrl"].as_str() {
            let event = preview(sessions.fetch_add(1, Ordering::Relaxed) + 1);
            let push = json!({"message": "", "retcode": "0", "event": event}).to_string();
            let push = Request::post(path_of(url, gateway.address)).guid("g").body(push);
            assert_eq!(gateway.send(&push).await.passed().status, 200);
        }
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 28\r\n\r\n{\"message\":\"\",\"retcode\":\"0\"}";
        if peer.write(answer).await.is_none() {
            return;
        }
    }
}

#[tokio::test]
async fn the_first_push_may_be_faster_than_the_answer_to_its_sign_in() {
    let site = PushSite::new().await;
    let platform = hasty_platform(&site.pki.upstream, site.access());
    let address: SocketAddr = platform.address;
    let gateway = site.start_with(&format!("upstream.endpoints = [\"https://{address}\"]\n{}", PushSite::loopback()));
    let call_out = async |control_id: i64| {
        let body = json!({"called": NUMBER, "callcontrolid": control_id});
        let callout = Request::put(format!("{API}/voicecall/101/previewCallout")).guid("g").json(&body);
        gateway.send(&callout).await.verdict()
    };
    assert_eq!(site.sign_in(site.push_url_sign_in()).await.retcode(), "0");
    assert_eq!(call_out(1).await, "ok");
    assert_eq!(site.sign_in(site.push_url_sign_in()).await.retcode(), "0");
    assert_eq!((call_out(1).await.as_str(), call_out(2).await.as_str()), ("control_id_mismatch", "ok"));
    gateway.close().await;
}
