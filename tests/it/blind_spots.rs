//! What goes wrong before there is a request is counted, by reason.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{API, Lab, Request, Setup, Wire};

async fn counted(lab: &Lab, family: &str, reason: &str) {
    lab.metric_becomes(&format!("previewgate_{family}_total{{reason=\"{reason}\"}}"), 1.0).await;
}

#[tokio::test]
async fn tls_handshakes_that_fail_are_counted_by_reason() {
    let lab = Setup::mutual().start().await;
    let failures = "tls_handshake_failures";

    let mut plain = Wire::plain(lab.address).await.unwrap();
    plain.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    counted(&lab, failures, "not_tls").await;

    let anonymous = Wire::encrypted(lab.address, lab.site.pki.anonymous()).await;
    counted(&lab, failures, "no_certificate").await;
    drop(anonymous);

    // Another site's authority.
    let elsewhere = Setup::mutual().start().await;
    assert!(Wire::encrypted(lab.address, elsewhere.site.pki.anonymous()).await.is_err());
    counted(&lab, failures, "distrusted").await;

    let mut other_protocol = (*lab.site.pki.identified()).clone();
    other_protocol.alpn_protocols = vec![b"h2".to_vec()];
    assert!(Wire::encrypted(lab.address, Arc::new(other_protocol)).await.is_err());
    counted(&lab, failures, "no_http").await;

    drop(Wire::plain(lab.address).await.unwrap());
    counted(&lab, failures, "closed").await;
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_counted() {
    let brief = Duration::from_millis(50);
    let lab = Setup::encrypted().config(move |config| config.limits.handshake_timeout = brief).start().await;
    let silent = Wire::plain(lab.address).await.unwrap();
    counted(&lab, "tls_handshake_failures", "timeout").await;
    drop(silent);
}

#[tokio::test]
async fn heads_that_are_refused_are_counted_by_reason() {
    let lab = Setup::plain().start().await;
    for (head, reason) in [
        ("GET / HTTP/1.1\r\n\r\n", "bad_host"),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", "bad_content_length"),
        ("GET / HTTP/9\r\nHost: a\r\n\r\n", "bad_request_line"),
    ] {
        let mut wire = lab.connect().await;
        wire.write(head.as_bytes()).await;
        wire.answer().await.own();
        counted(&lab, "heads_refused", reason).await;
    }
    assert_eq!(lab.metric("previewgate_head_faults_total"), 3.0);
    lab.send(&Request::get(format!("{API}/x"))).await.passed();
}

#[tokio::test]
async fn a_start_tells_how_many_previews_it_has_restored() {
    let settings = "previews.snapshot = \"previews.snapshot\"";
    let lab = Setup::plain().settings(settings).start().await;
    assert_eq!(lab.metric("previewgate_previews_restored"), 0.0);
    let agent = lab.agent(101).await;
    agent.shown(7, "5550101").await;
    agent.shown(8, "5550102").await;
    let lab = lab.restart_with(settings).await;
    assert_eq!(lab.metric("previewgate_previews_restored"), 2.0);
}
