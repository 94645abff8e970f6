//! Applications that do not answer, and a platform that does not wait.

use std::net::Ipv4Addr;
use std::time::Duration;

use http::{Method, StatusCode};
use previewgate::preview::ControlId;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::client::{call_until_dropped, request_to};
use crate::site::{Site, free_address, pushes};
use crate::{NUMBER, agent, preview};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_cannot_be_reached_is_the_platforms_to_know() {
    let site = Site::new().await;
    let gateway = site.start(&site.loopback());
    let nobody = free_address();
    site.sign_in(json!({"pushUrl": format!("https://{nobody}/")}).to_string()).await;
    site.simulated().preview(agent(), ControlId(5), NUMBER);
    site.simulated().wait_for_pushes(1).await;
    let (status, body) = site.simulated().pushes()[0].answer.clone().unwrap();
    let envelope: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &envelope["retcode"]), (502, &json!("100-007")));
    assert!(!String::from_utf8_lossy(&body).contains(&nobody.to_string()));
    gateway.counts(&pushes("failed"), "1").await;
    // The platform gave the agent this contact, whether the application heard of it or not.
    assert_eq!(site.call_out(5).await, "0");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_does_not_answer_is_waited_for_so_long_and_asked_once() {
    let site = Site::new().await;
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let push = Site::push(site.gateway, "\"127.0.0.1\"").replace("\"5s\"", "\"200ms\"");
    let gateway = site.start(&push);
    site.sign_in(json!({"pushUrl": format!("http://{}/", silent.local_addr().unwrap())}).to_string()).await;
    let answer = site.post(&site.push_url(), &[], "{}").await;
    assert_eq!((answer.status, answer.retcode().as_str()), (StatusCode::GATEWAY_TIMEOUT, "100-007"));
    silent.accept().await.unwrap();
    let again = tokio::time::timeout(Duration::from_millis(300), silent.accept()).await;
    assert!(again.is_err(), "a push that may have been sent was sent again");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_push_is_delivered_even_if_the_platform_does_not_wait() {
    let site = Site::new().await;
    let slow = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let gateway = site.start(&Site::push(site.gateway, "\"127.0.0.1\""));
    site.sign_in(json!({"pushUrl": format!("http://{}/", slow.local_addr().unwrap())}).to_string()).await;
    let (url, identity) = (site.push_url(), site.identity.clone());
    site.simulated().shown(agent(), ControlId(6), &[NUMBER]);
    let push = json!({"retcode": "0", "event": preview(6)}).to_string();
    let path = url.parse::<http::Uri>().unwrap().path().to_owned();
    let post = call_until_dropped(&identity, site.gateway, request_to(Method::POST, &path, &[], push.into())).await;
    let (mut socket, _) = slow.accept().await.unwrap();
    let mut head = [0; 64];
    socket.read_exact(&mut head).await.unwrap();
    drop(post);
    gateway.counts("previewgate_connections_open{side=\"downstream\"}", "0").await;
    socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
    gateway.counts(&pushes("relayed"), "1").await;
    // What becomes of the call is pushed too: it should fail at once instead of waiting for an answer.
    drop((slow, socket));
    assert_eq!(site.call_out(6).await, "0");
    gateway.stop().await;
}
