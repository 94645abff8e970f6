//! Connections to the applications: kept for the next push, and for no longer than that makes sense.

use std::sync::{Arc, Mutex};

use serde_json::json;

use super::site::PushSite;
use crate::support::{Upstream, within};

#[tokio::test]
async fn pushes_follow_each_other_on_one_connection() {
    let site = PushSite::new().await;
    let gateway = site.start();
    site.sign_in(site.call_back_sign_in()).await;
    for _ in 0..5 {
        assert_eq!(site.post("{}").await.status, 200);
    }
    let connections: Vec<_> = site.application.seen().iter().map(|push| push.request.connection).collect();
    assert_eq!(connections, [0; 5]);
    gateway.close().await;
}

/// An application whose answers have these fields. Returns it, and the connection of each push.
fn application(fields: &'static str) -> (Upstream, Arc<Mutex<Vec<usize>>>) {
    let pushes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&pushes);
    let server = Upstream::start(move |mut peer| {
        let seen = Arc::clone(&seen);
        async move {
            while let Some(push) = peer.request().await {
                seen.lock().unwrap().push(push.connection);
                let _ = peer.write(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\n{{}}")).await;
            }
        }
    });
    (server, pushes)
}

#[tokio::test]
async fn an_application_that_wants_no_second_push_on_a_connection_gets_none() {
    let site = PushSite::new().await;
    let (application, pushes) = application("Connection: close\r\n");
    let gateway = site.start_with(&PushSite::push("\"127.0.0.1\""));
    site.sign_in(json!({"pushUrl": format!("http://{}/", application.address)}).to_string()).await;
    for _ in 0..3 {
        assert_eq!(site.post("{}").await.status, 200);
    }
    assert_eq!(*pushes.lock().unwrap(), [0, 1, 2]);
    gateway.close().await;
}

#[tokio::test]
async fn a_kept_connection_is_closed_if_no_push_follows() {
    let site = PushSite::new().await;
    let (ended, mut end) = tokio::sync::mpsc::channel(1);
    let application = Upstream::start(move |mut peer| {
        let ended = ended.clone();
        async move {
            peer.request().await.unwrap();
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
            assert!(peer.head().await.is_none());
            let _ = ended.send(()).await;
        }
    });
    let gateway = site.start_with(&PushSite::push("\"127.0.0.1\""));
    site.sign_in(json!({"pushUrl": format!("http://{}/", application.address)}).to_string()).await;
    assert_eq!(site.post("{}").await.status, 200);
    within("the end of the idle connection", end.recv()).await.unwrap();
    gateway.close().await;
}
