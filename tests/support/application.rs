//! An application that is pushed to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use previewgate::simulator::SelfSigned;

use super::{API, Access, Peer, Port, Request, Seen, Upstream};

/// One push, as the application saw it.
#[derive(Clone, Debug)]
pub(crate) struct Pushed {
    pub(crate) request: Seen,
    /// What became of each callout that the application made before it answered: `ok` or the gateway's reason.
    pub(crate) callouts: Vec<String>,
}

/// An application that calls the first number of every preview that is pushed to it, from inside its push handler.
pub(crate) struct Application {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Pushed>>>,
    _server: Upstream,
}

impl Application {
    /// What the application answers to a push, to the byte.
    pub(crate) const ANSWER: &str = "{ \"message\":\"thank you\",\t\"retcode\":\"0\" }";

    /// Serves with TLS and calls through `gateway`.
    pub(crate) fn start(identity: &SelfSigned, gateway: Access) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let pushes = Arc::clone(&seen);
        let server = Upstream::secure(Port::reserve().listen(), identity, move |peer| {
            serve(peer, gateway.clone(), Arc::clone(&pushes))
        });
        Self { address: server.address, seen, _server: server }
    }

    /// Where it wants its pushes.
    pub(crate) fn url(&self) -> String {
        format!("https://{}/cti/push?tenant=7", self.address)
    }

    /// The pushes so far.
    pub(crate) fn seen(&self) -> Vec<Pushed> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    mut peer: Peer<S>,
    gateway: Access,
    pushes: Arc<Mutex<Vec<Pushed>>>,
) {
    while let Some(request) = peer.request().await {
        let callouts = call_back(&request, &gateway).await;
        pushes.lock().unwrap().push(Pushed { request, callouts });
        let answer = Application::ANSWER;
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Application: mine\r\nContent-Length: ";
        if peer.write(format!("{head}{}\r\n\r\n{answer}", answer.len())).await.is_none() {
            return;
        }
    }
}

/// Calls the first number of each preview in this push.
async fn call_back(push: &Seen, gateway: &Access) -> Vec<String> {
    let body = push.json();
    let single = std::slice::from_ref(&body["event"]);
    let mut callouts = Vec::new();
    for event in body["eventList"].as_array().map_or(single, Vec::as_slice) {
        let content = &event["content"];
        if let (Some(control_id), Some(numbers)) = (content["controlid"].as_i64(), content["dialeddigits"].as_str()) {
            let agent = body["workNo"].as_str().or(event["workNo"].as_str()).unwrap_or("0");
            let number = numbers.split(',').next().unwrap_or_default();
            let callout = serde_json::json!({"called": number, "callcontrolid": control_id});
            let request = Request::put(format!("{API}/voicecall/{agent}/previewCallout")).guid(push.header("guid"));
            callouts.push(gateway.send(&request.json(&callout)).await.verdict());
        }
    }
    callouts
}
