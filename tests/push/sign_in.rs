//! Sign-ins that ask for push.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use previewgate::simulator::SelfSigned;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::client::{call, call_out, request_to};
use crate::site::Site;
use crate::{NUMBER, agent, preview};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_push_a_sign_in_that_asks_for_it_passes_and_is_told_once() {
    let site = Site::new().await;
    let gateway = site.start("");
    for body in [site.call_back_sign_in(), site.push_url_sign_in(), "{\"pushUrl\":1,\"pushUrl\":2}".to_owned()] {
        assert_eq!(site.sign_in(body.clone()).await.retcode(), "0");
        assert_eq!(site.simulated().journal().pop().unwrap().body, body);
    }
    // These do not ask for push, or cannot be understood.
    for body in ["{\"callBackUri\":\"https://a\"}".to_owned(), format!("{{\"a\":\"{}\"}}", "x".repeat(100_000))] {
        assert_eq!(site.sign_in(body.clone()).await.retcode(), "0");
        assert_eq!(site.simulated().journal().pop().unwrap().body, body);
    }
    assert_eq!((gateway.sign_ins("passed").as_str(), gateway.sign_ins("unread").as_str()), ("3", "1"));
    let push = site.call(Method::POST, "/previewgate/push/push/101/x.y", &[], "").await;
    assert_eq!(push.status, StatusCode::NOT_FOUND);
    let log = gateway.stop().await;
    assert_eq!(log.matches("sign-in asks for push").count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_in_without_a_length_gets_one_when_it_is_rewritten() {
    let site = Site::new().await;
    let gateway = site.start(&site.loopback());
    let sign_in = site.push_url_sign_in();
    let (first, rest) = sign_in.split_at(30);
    let frame = |text: &str| Ok::<_, Infallible>(http_body::Frame::data(Bytes::copy_from_slice(text.as_bytes())));
    let chunks = http_body_util::StreamBody::new(futures_util::stream::iter([frame(first), frame(rest)]));
    let request = Request::put("/agentgateway/resource/onlineagent/101/loginex").header("host", "gate.example");
    let answer = call(&site.identity, site.gateway, request.body(chunks).unwrap()).await;
    assert_eq!(answer.retcode(), "0");
    let arrived = site.simulated().journal().pop().unwrap();
    assert_eq!(arrived.body, sign_in.replace(&site.application.url(), &site.push_url()));
    assert_eq!(arrived.header("content-length").unwrap(), arrived.body.len().to_string());
    assert_eq!(arrived.header("transfer-encoding"), None);
    gateway.stop().await;
}

/// A CC-Gateway that pushes one preview into every new session before it answers the sign-in.
async fn hasty_platform(identity: &SelfSigned) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (identity, sessions) = (identity.clone(), Arc::new(AtomicI64::new(0)));
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(identity.server_config().unwrap());
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, identity, sessions) = (acceptor.clone(), identity.clone(), Arc::clone(&sessions));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(socket).await else { return };
                let answer = |request| answer_hastily(request, identity.clone(), Arc::clone(&sessions));
                let builder = hyper::server::conn::http1::Builder::new();
                let _ = builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
            });
        }
    });
    address
}

async fn answer_hastily(
    request: Request<Incoming>,
    identity: SelfSigned,
    sessions: Arc<AtomicI64>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    if let Some(url) = body["pushUrl"].as_str() {
        let event = preview(sessions.fetch_add(1, Ordering::Relaxed) + 1);
        let push = json!({"message": "", "retcode": "0", "event": event}).to_string();
        let url: http::Uri = url.parse().unwrap();
        let gateway = url.authority().unwrap().as_str().parse().unwrap();
        let push = request_to(Method::POST, url.path(), &[("guid", "g")], push.into());
        assert_eq!(call(&identity, gateway, push).await.status, StatusCode::OK);
    }
    Ok(Response::new(Full::from("{\"message\":\"\",\"retcode\":\"0\"}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_push_may_be_faster_than_the_answer_to_its_sign_in() {
    let site = Site::new().await;
    let platform = hasty_platform(&site.identity).await;
    let gateway = site.start_with(site.gateway, platform, &site.loopback());
    let call_out = |control_id| call_out(&site.identity, site.gateway, agent(), "g", control_id, NUMBER);
    assert_eq!(site.sign_in(site.push_url_sign_in()).await.retcode(), "0");
    assert_eq!(call_out(1).await, "0");
    // The gateway tells what came before a sign-in from what came after by its clock, which has milliseconds.
    let clock = &gateway.running.services.clock;
    let signed_in = clock.now();
    while clock.now() == signed_in {
        tokio::task::yield_now().await;
    }
    assert_eq!(site.sign_in(site.push_url_sign_in()).await.retcode(), "0");
    assert_eq!((call_out(1).await.as_str(), call_out(2).await.as_str()), ("control_id_mismatch", "0"));
    gateway.stop().await;
}
