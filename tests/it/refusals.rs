//! Refused requests: nothing of them reaches the upstream, and the connection stays usable.

use std::time::Duration;

use previewgate::config::Mode;
use serde_json::json;

use crate::callouts::{lenient, verdict};
use crate::support::{API, Agent, Lab, Request};

fn callout(agent: &Agent) -> Request {
    agent.callout_request(&json!({"called": "100", "callcontrolid": 7}))
}

async fn shown(lab: &Lab) -> Agent {
    let agent = lab.agent(101).await;
    agent.shown(7, "100").await;
    agent
}

/// The body of a refused request is read and dropped, so that the next request on the connection is understood.
#[tokio::test]
async fn the_connection_survives_a_refusal() {
    let lab = lenient().start().await;
    let agent = shown(&lab).await;
    let mut wire = lab.connect().await;
    let smuggled = String::from_utf8(Request::put(format!("{API}/voicecall/101/previewCallout")).bytes()).unwrap();
    for (path, expected) in [
        ("voicecall/101/previewCallout;x", "ambiguous_path"),
        ("voicecall/0101/previewCallout", "invalid_agent_id"),
        ("voicecall/101/previewCallout", "malformed_body"),
    ] {
        let request = Request::put(format!("{API}/{path}")).guid(&agent.guid);
        let request = request.header("Content-Type", "application/json").body(smuggled.clone());
        assert_eq!(verdict(&wire.send(&request).await), expected);
        assert_eq!(verdict(&wire.send(&callout(&agent)).await), "ok", "after {expected}");
    }
    assert_eq!(lab.simulator.callouts().len(), 3);
}

#[tokio::test]
async fn an_oversized_callout_is_refused() {
    let lab = lenient().start().await;
    let agent = shown(&lab).await;
    let body = json!({"called": "100", "callcontrolid": 7, "x": "x".repeat(65 * 1024)}).to_string();
    let mut wire = lab.connect().await;
    let declared = wire.send(&callout(&agent).body(body.clone())).await.own();
    assert_eq!((declared.status, declared.reason.as_str()), (200, "too_large"));
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let request = callout(&agent).header("Transfer-Encoding", "chunked").body(chunked);
    assert_eq!(verdict(&lab.send(&request).await), "too_large");
    // Each chunk is work: a body of thousands of them is refused, whatever its length.
    let in_bytes = format!("{}2\r\n{{}}\r\n0\r\n\r\n", "1\r\n \r\n".repeat(4000));
    let request = callout(&agent).header("Transfer-Encoding", "chunked").body(in_bytes);
    assert_eq!(verdict(&lab.send(&request).await), "too_large");
    let just = json!({"called": "100", "callcontrolid": 7, "x": "x".repeat(60 * 1024)}).to_string();
    assert_eq!(verdict(&lab.send(&callout(&agent).body(just)).await), "ok");
    assert_eq!(lab.simulator.callouts().len(), 1);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_refused() {
    let lab = lenient().config(|config| config.limits.callout_body_timeout = Duration::from_millis(100)).start().await;
    let agent = shown(&lab).await;
    for path in ["previewCallout", "cancelPreviewCallout"] {
        let request = Request::put(format!("{API}/voicecall/101/{path}")).guid(&agent.guid).id(path);
        let request = request.header("Content-Type", "application/json").header("Content-Length", "40");
        let mut wire = lab.connect().await;
        wire.write(&[request.bytes().as_slice(), br#"{"called":"#].concat()).await;
        let own = wire.answer().await.own();
        assert_eq!((own.status, own.retcode.as_str(), own.close), (408, "000-002", true), "{path}");
        wire.closed().await;
    }
    let line = lab.log.decision("previewCallout").await;
    assert_eq!((&line["decision"], &line["status"]), (&json!("rejected"), &json!(408)));
    assert!(lab.simulator.callouts().is_empty());
}

/// A refused request that waits for `100 Continue` does not get it.
#[tokio::test]
async fn a_refused_request_gets_no_100_continue() {
    let lab = lenient().start().await;
    let agent = shown(&lab).await;
    let request = Request::put(format!("{API}/voicecall/101/previewCallout;x")).guid(&agent.guid);
    let mut wire = lab.connect().await;
    wire.write(&request.header("Expect", "100-continue").header("Content-Length", "39").bytes()).await;
    // The very first answer is the refusal.
    let head = wire.head().await;
    assert_eq!((head.status, head.header("x-previewgate-reason")), (200, "ambiguous_path"));
    let next = Request::put(format!("{API}/voicecall/101/previewCallout")).guid(&agent.guid);
    let next = next.header("Content-Type", "application/json").body(r#"{"called":"100","callcontrolid":7}"#);
    // Whether this is read as the body or not at all, it is never read as a request.
    let _ = wire.try_write(&next.bytes()).await;
    wire.finish().await;
    lab.metric_becomes("previewgate_connections_open{side=\"downstream\"}", 0.0).await;
    assert!(lab.simulator.callouts().is_empty());
}

/// No request that the upstream could take for the guarded resource arrives there unjudged, in any disguise.
#[tokio::test]
async fn disguised_paths_are_refused() {
    let lab = lenient().start().await;
    let agent = shown(&lab).await;
    for (path, expected) in [
        ("resource/voicecall/101/previewCallout/", "ambiguous_path"),
        ("resource/voicecall/101/previewCallout.json", "ambiguous_path"),
        ("resource/voicecall/101/previewCallout;a=b", "ambiguous_path"),
        ("resource/voicecall/101/previewCallou%74", "ambiguous_path"),
        ("resource/voicecall/101/previewCallou%2574", "ambiguous_path"),
        ("resource/voicecall/%31%30%31/previewCallout", "ambiguous_path"),
        ("resource/voicecall/101//previewCallout", "ambiguous_path"),
        ("resource/voicecall/101/./previewCallout", "ambiguous_path"),
        ("resource/voicecall/101/x/../previewCallout", "ambiguous_path"),
        ("resource/voicecall/101%2FpreviewCallout", "ambiguous_path"),
        ("resource/voicecall/101%5CpreviewCallout", "ambiguous_path"),
        ("resource/voicecall;a=b/101/previewCallout", "ambiguous_path"),
        ("resource/voicecall/101/previewCallout%00", "ambiguous_path"),
        ("resource/voicecall/101/previewCallout%20", "ambiguous_path"),
        ("resource/voicecall/101/%EF%BD%90reviewCallout", "ambiguous_path"),
        ("resource/voicecall/101/prev%C4%B1ewCallout", "ambiguous_path"),
        ("resource/voicecall/101/%C1%B0reviewCallout", "ambiguous_path"),
        ("resource/voicecall/101/%u0070reviewCallout", "ambiguous_path"),
        ("voicecall/101/previewCallout", "ambiguous_path"),
        ("resource/v1/voicecall/101/previewCallout", "ambiguous_path"),
        ("resource/voicecall/101/x/%2e%2e/previewCallout", "ambiguous_path"),
        ("resource/x/%2e%2e/voicecall/101/previewCallout", "ambiguous_path"),
        (";x/resource/voicecall/101/previewCallout", "ambiguous_path"),
        ("./resource/voicecall/101/previewCallout", "ambiguous_path"),
        ("resource/voicecall/100/previewCallout", "invalid_agent_id"),
        ("resource/voicecall/0101/previewCallout", "invalid_agent_id"),
        ("resource/voicecall/1000000/previewCallout", "invalid_agent_id"),
        ("resource/voicecall/abc/previewCallout", "invalid_agent_id"),
        ("resource/voicecall/0101/cancelPreviewCallout", "invalid_agent_id"),
        ("resource/onlineagent/101;x=1", "ambiguous_path"),
        ("resource/onlineagent/101/%6Cogout", "ambiguous_path"),
    ] {
        let before = lab.simulator.requests();
        let request = Request::put(format!("/agentgateway/{path}")).guid(&agent.guid);
        let own = lab.send(&request.json(&json!({"called": "100", "callcontrolid": 7}))).await.own();
        assert_eq!((own.status, own.retcode.as_str(), own.reason.as_str()), (200, "000-002", expected), "{path}");
        assert_eq!(lab.simulator.requests(), before, "{path}");
    }
    for path in
        ["/agentgateway\\resource/voicecall/101/previewCallout", "/agentgateway/resource/voicecall/101\\previewCallout"]
    {
        let answer = lab.send(&Request::put(path).guid(&agent.guid)).await;
        assert!(answer.is_own(), "{path}");
    }
    for path in [
        "//agentgateway/resource/voicecall/101/previewCallout",
        "/AgentGateway/resource/voicecall/101/previewCallout",
        "/x/../agentgateway/resource/voicecall/101/previewCallout",
        "/%61gentgateway/resource/voicecall/101/previewCallout",
        "/agentgateway;x/resource/voicecall/101/previewCallout",
        "/agentgateway/../manager/html",
    ] {
        assert_eq!(lab.send(&Request::put(path).guid(&agent.guid)).await.own().status, 404, "{path}");
    }
    assert!(lab.simulator.callouts().is_empty());
    assert_eq!(verdict(&lab.send(&callout(&agent)).await), "ok", "the previews are still there");
}

/// An absolute target names the same resource. The upstream does not get its authority.
#[tokio::test]
async fn absolute_targets_are_judged_too() {
    let lab = lenient().start().await;
    let agent = shown(&lab).await;
    for (number, expected) in [("100", "ok"), ("101", "number_not_in_preview")] {
        let request = Request::put(format!("http://elsewhere.example{API}/voicecall/101/previewCallout"));
        let request = request.guid(&agent.guid).json(&json!({"called": number, "callcontrolid": 7}));
        assert_eq!(verdict(&lab.send(&request).await), expected);
    }
    assert_eq!(lab.simulator.callouts()[0].target, format!("{API}/voicecall/101/previewCallout"));
}

#[tokio::test]
async fn other_methods_are_refused_in_any_disguise() {
    let lab = lenient().start().await;
    let agent = shown(&lab).await;
    let body = json!({"called": "100", "callcontrolid": 7});
    let path = format!("{API}/voicecall/101/previewCallout");
    for method in ["GET", "POST", "DELETE", "PATCH", "put", "Put", "OPTIONS", "BREW"] {
        let answer = lab.send(&Request::new(method, &path).guid(&agent.guid).id(method).json(&body)).await;
        assert_eq!(verdict(&answer), "method_not_allowed", "{method}");
        let line = lab.log.decision(method).await;
        assert_eq!((&line["decision"], &line["reason"]), (&json!("rejected"), &json!("method_not_allowed")));
    }
    for header in ["X-HTTP-Method-Override", "x-http-method", "X-Method-Override"] {
        for request in [callout(&agent), Request::post(format!("{API}/voicecall/101/answer")).guid(&agent.guid)] {
            let answer = lab.send(&request.header(header, "PUT")).await;
            assert_eq!(verdict(&answer), "method_not_allowed", "{header}");
        }
    }
    assert!(lab.simulator.callouts().is_empty());
    assert_eq!(
        lab.send(&Request::new("get", format!("{API}/agentevent/101")).guid(&agent.guid)).await.own().reason,
        "method_not_allowed"
    );
}

/// A preflight changes nothing, so it may pass.
#[tokio::test]
async fn a_preflight_of_a_browser_passes() {
    let lab = lenient().start().await;
    let request = Request::new("OPTIONS", format!("{API}/voicecall/101/previewCallout"));
    let request = request.header("Origin", "https://cti.example").header("Access-Control-Request-Method", "PUT");
    let answer = lab.send(&request.clone().id("pre-flight")).await.passed();
    assert_eq!(answer.header("access-control-allow-origin"), "https://cti.example");
    let overridden = request.header("X-HTTP-Method-Override", "PUT").id("overridden");
    assert_eq!(verdict(&lab.send(&overridden).await), "method_not_allowed");
    assert_eq!(lab.log.decision("overridden").await["reason"], "method_not_allowed");
    lab.log.access("pre-flight").await;
    lab.flush_log();
    assert!(!lab.log.lines().iter().any(|line| line["request_id"] == "pre-flight" && line["decision"].is_string()));
}

/// A WebSocket could carry callouts that the gateway cannot validate. Monitor mode refuses it too.
#[tokio::test]
async fn a_websocket_is_refused_in_both_modes() {
    for mode in [Mode::Enforce, Mode::Monitor] {
        let lab = lenient().config(move |config| config.validation.mode = mode).start().await;
        let agent = lab.agent(101).await;
        let before = lab.simulator.requests();
        for path in ["ws", "voicecall/101/previewCallout"] {
            let request = Request::get(format!("{API}/{path}")).guid(&agent.guid).id(&format!("{}", path.len()));
            let request = request.header("Connection", "Upgrade").header("Upgrade", "WebSocket");
            let request =
                request.header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==").header("Sec-WebSocket-Version", "13");
            let own = lab.send(&request).await.own();
            assert_eq!((own.status, own.close), (403, true), "{path}");
        }
        assert_eq!(lab.simulator.requests(), before);
        let line = lab.log.decision(&format!("{}", "voicecall/101/previewCallout".len())).await;
        assert_eq!((&line["decision"], &line["reason"]), (&json!("rejected"), &json!("method_not_allowed")));
    }
}

/// Java clients offer `h2c` with every request. The gateway removes the offer and serves the request.
#[tokio::test]
async fn an_offer_of_h2c_is_declined() {
    let lab = lenient().start().await;
    let agent = shown(&lab).await;
    let request = callout(&agent).header("Connection", "Upgrade, HTTP2-Settings").header("Upgrade", "h2c");
    let answer = lab.send(&request.header("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA")).await.passed();
    assert_eq!((answer.status, answer.retcode().as_str()), (200, "0"));
    let arrived = lab.simulator.callouts();
    for name in ["upgrade", "connection", "http2-settings"] {
        assert_eq!(arrived[0].header(name), None, "{name}");
    }
}

/// A repeated field that decides about identity or meaning has two readings.
#[tokio::test]
async fn repeated_fields_are_refused() {
    let lab = lenient().start().await;
    let agent = shown(&lab).await;
    for (name, value) in [("Guid", "other"), ("content-type", "text/plain"), ("Content-Length", "1"), ("Host", "b")] {
        let request = callout(&agent);
        let request = match name {
            "Content-Length" => request.header("Content-Length", "34"),
            "Host" => request.header("Host", "a"),
            _ => request,
        };
        let own = lab.send(&request.header(name, value)).await.own();
        assert_eq!((own.status, own.retcode.as_str(), own.close), (400, "000-002", true), "{name}");
    }
    assert!(lab.simulator.callouts().is_empty());
}
