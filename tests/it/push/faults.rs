//! Applications that do not answer, and a platform that does not wait.

use previewgate::preview::ControlId;
use serde_json::json;

use super::site::{PushSite, pushes};
use super::{NUMBER, preview};
use crate::support::{Answer, Peer, Port, Request, id, within};

#[tokio::test]
async fn an_application_that_cannot_be_reached_is_reported_to_the_platform() {
    let site = PushSite::new().await;
    let gateway = site.start();
    let dead = Port::reserve();
    site.sign_in(json!({"pushUrl": format!("https://{}/", dead.address)}).to_string()).await;
    site.handle.preview(id(101), ControlId(5), NUMBER);
    within("a push", site.handle.wait_for_pushes(1)).await;
    let (status, body) = site.handle.pushes()[0].answer.clone().unwrap();
    let answer = Answer { body: body.to_vec(), ..Answer::default() };
    assert_eq!((status, answer.retcode().as_str()), (502, "100-007"));
    assert!(!answer.text().contains(&dead.address.to_string()));
    gateway.metric_becomes(&pushes("failed"), 1.0).await;
    // The platform gave the agent this contact, whether the application received the event or not.
    assert_eq!(site.call_out(5).await, "ok");
    gateway.close().await;
}

#[tokio::test]
async fn an_application_that_does_not_answer_gets_its_time_and_one_request() {
    let site = PushSite::new().await;
    let silent = Port::reserve().listen();
    let gateway = site.start_with(&PushSite::push("\"127.0.0.1\"").replace("\"5s\"", "\"200ms\""));
    site.sign_in(json!({"pushUrl": format!("http://{}/", silent.local_addr().unwrap())}).to_string()).await;
    let answer = site.post("{}").await;
    assert_eq!((answer.status, answer.retcode().as_str()), (504, "100-007"));
    let (first, _) = within("the push", silent.accept()).await.unwrap();
    // The push has been answered: a second attempt would be in the backlog already, or in the same connection.
    gateway.close().await;
    let mut first = Peer::new(first, 0);
    assert!(first.request().await.is_some());
    assert!(first.head().await.is_none(), "a push that may have been sent was sent again");
    let again = silent.into_std().unwrap().accept();
    assert!(again.is_err(), "a push that may have been sent was sent again");
}

#[tokio::test]
async fn a_recorded_push_is_delivered_even_if_the_platform_does_not_wait() {
    let site = PushSite::new().await;
    let slow = Port::reserve().listen();
    let gateway = site.start_with(&PushSite::push("\"127.0.0.1\""));
    site.sign_in(json!({"pushUrl": format!("http://{}/", slow.local_addr().unwrap())}).to_string()).await;
    site.handle.shown(id(101), ControlId(6), &[NUMBER]);
    let push = json!({"retcode": "0", "event": preview(6)}).to_string();
    let mut platform = gateway.connect().await;
    platform.write(&Request::post(site.push_path()).body(push).bytes()).await;
    let (socket, _) = within("the push", slow.accept()).await.unwrap();
    let mut application = Peer::new(socket, 0);
    within("the push", application.request()).await.unwrap();
    drop(platform);
    gateway.metric_becomes("previewgate_connections_open{side=\"downstream\"}", 0.0).await;
    application.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
    gateway.metric_becomes(&pushes("relayed"), 1.0).await;
    // The events that follow a call are pushed too. They should fail at once instead of waiting for an answer.
    drop((slow, application));
    assert_eq!(site.call_out(6).await, "ok");
    gateway.close().await;
}
