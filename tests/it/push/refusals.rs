//! Pushes that are not relayed: to addresses that the gateway has not issued, and for targets that are not allowed.

use serde_json::json;

use super::preview;
use super::site::{PushSite, path_of, pushes, sign_ins};
use crate::support::Request;

#[tokio::test]
async fn a_tampered_address_is_refused() {
    let site = PushSite::new().await;
    let gateway = site.start();
    site.sign_in(site.call_back_sign_in()).await;
    let good = site.push_url();
    let (before, mac) = good.rsplit_once('.').unwrap();
    let flipped = if mac.starts_with('A') { mac.replacen('A', "B", 1) } else { format!("A{}", mac.split_at(1).1) };
    let tampered = [
        format!("{before}.{flipped}"),
        format!("{before}."),
        before.to_owned(),
        good.replace("/push/101/", "/push/102/"),
        good.replace("/push/push/", "/push/push_url/"),
        format!("https://{}/previewgate/push/push/101/aHR0cHM6Ly8xMjcuMC4wLjEv.AAAA", site.gateway_address()),
    ];
    let body = json!({"workNo": "101", "eventList": [preview(9)]}).to_string();
    for url in &tampered {
        let answer = site.send(Request::post(path_of(url, site.gateway_address())).body(body.clone())).await;
        assert_eq!((answer.status, answer.retcode().as_str()), (403, "000-002"), "{url}");
    }
    assert_eq!(gateway.metric(&pushes("refused_signature")), tampered.len() as f64);
    // A path that is not a push address, or a request that is not a push, gets 404 and does not reach the upstream.
    let requests = site.handle.requests();
    let path = site.push_path();
    for (method, path) in [("GET", path.as_str()), ("POST", "/previewgate/push/push/x/y"), ("POST", "/previewgate/")] {
        assert_eq!(site.send(Request::new(method, path)).await.own().status, 404);
    }
    assert_eq!((site.handle.requests(), site.application.seen().len()), (requests, 0));
    assert_eq!(site.call_out(9).await, "unknown_preview");
    gateway.close().await;
}

#[tokio::test]
async fn a_sign_in_for_a_target_that_is_not_allowed_is_refused() {
    let site = PushSite::new().await;
    let gateway = site.start();
    let sign_in = |url: &str| json!({"pushUrl": url}).to_string();
    let port = site.application.address.port();
    let refused = [
        sign_in(&format!("http://127.0.0.1:{port}/")),
        sign_in("https://10.0.0.1/"),
        sign_in("https://evil.example/"),
        sign_in("https://127.0.0.1@evil.example/"),
        sign_in("https://127.1/"),
        sign_in(&format!("https://{}/agentgateway/resource/onlineagent/101/logout", site.upstream_address())),
        sign_in("file:///etc/passwd"),
        sign_in(&format!("https://127.0.0.1/{}", "x".repeat(2000))),
        "{\"pushUrl\":\"https://127.0.0.1/\",\"pushUrl\":\"https://127.0.0.1/\"}".to_owned(),
        "{\"pushUrl\":[\"https://127.0.0.1/\"]}".to_owned(),
    ];
    for body in &refused {
        let answer = site.sign_in(body.clone()).await;
        assert_eq!((answer.status, answer.retcode().as_str()), (200, "100-001"), "{body}");
        assert!(answer.json()["message"].as_str().unwrap().contains("pushUrl"), "{answer:?}");
        assert!(answer.json().get("result").is_none());
    }
    assert_eq!((site.handle.requests(), gateway.metric(&sign_ins("refused"))), (0, refused.len() as f64));
    gateway.close().await;

    // Monitor mode refuses nothing.
    let gateway = site.start_with(&format!("validation.mode = \"monitor\"\n{}", PushSite::loopback()));
    assert_eq!(site.sign_in(sign_in("https://10.0.0.1/")).await.retcode(), "0");
    assert_eq!((site.push_url().as_str(), gateway.metric(&sign_ins("passed"))), ("https://10.0.0.1/", 1.0));
    gateway.close().await;
}

#[tokio::test]
async fn a_target_must_still_be_allowed_when_it_is_pushed_to() {
    let site = PushSite::new().await;
    let gateway = site.start();
    site.sign_in(site.call_back_sign_in()).await;
    gateway.close().await;
    let gateway = site.start_with(&PushSite::push("\"https://10.0.0.0/8\""));
    let answer = site.post("{}").await;
    assert_eq!((answer.status, gateway.metric(&pushes("refused_target"))), (403, 1.0));
    assert!(site.application.seen().is_empty());
    gateway.close().await;
}

#[tokio::test]
async fn a_name_that_resolves_to_this_machine_needs_its_address_allowed_too() {
    let site = PushSite::new().await;
    let url = format!("https://localhost:{}/", site.application.address.port());
    let sign_in = json!({"pushUrl": url}).to_string();
    let gateway = site.start_with(&PushSite::push("\"localhost\""));
    assert_eq!(site.sign_in(sign_in).await.retcode(), "0");
    let answer = site.post("{}").await;
    assert_eq!((answer.status, gateway.metric(&pushes("refused_target"))), (403, 1.0));
    gateway.close().await;

    let gateway = site.start_with(&PushSite::push("\"localhost\", \"https://127.0.0.1\""));
    let answer = site.post("{}").await;
    assert_eq!((answer.status, site.application.seen().len()), (200, 1));
    gateway.close().await;
}

/// An allowed network may contain CC-Gateway too. A push to its interface would be an unjudged request. With method and
/// number in the query, a forgiving framework could take it for a callout.
#[tokio::test]
async fn the_upstream_is_never_a_push_target_under_any_name() {
    let site = PushSite::new().await;
    let callout = "agentgateway/resource/voicecall/101/previewCallout?_method=PUT&called=1&callcontrolid=1";
    let gateway = site.start_with(&PushSite::push("\"localhost\", \"https://127.0.0.0/8\""));
    for (host, pushed) in [("localhost", 1.0), ("127.8.8.8", 2.0)] {
        let url = format!("https://{host}:{}/{callout}", site.upstream_address().port());
        assert_eq!(site.sign_in(json!({"pushUrl": url}).to_string()).await.retcode(), "0");
        let requests = site.handle.requests();
        let answer = site.post("{}").await;
        assert_eq!((answer.status, gateway.metric(&pushes("refused_target"))), (403, pushed), "{host}");
        assert_eq!(site.handle.requests(), requests, "{host}");
    }
    gateway.close().await;
}
