//! The application that is pushed to.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use previewgate::simulator::SelfSigned;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::client::call_out;
use crate::{NUMBER, agent};

/// What the application answers a push with, to the byte.
pub(crate) const ANSWER: &str = "{ \"message\":\"thank you\",\t\"retcode\":\"0\" }";

/// One push, as the application saw it.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The retcode of each callout that it made before it answered.
    pub(crate) callouts: Vec<String>,
}

/// An application that calls the first number of every preview it is shown, from inside its push handler.
pub(crate) struct Application {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
}

impl Application {
    pub(crate) async fn start(identity: &SelfSigned, gateway: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let acceptor = TlsAcceptor::from(identity.server_config().unwrap());
        let (identity, pushes) = (identity.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, identity, pushes) = (acceptor.clone(), identity.clone(), Arc::clone(&pushes));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(socket).await else { return };
                    let handler = |request| handle_push(request, identity.clone(), gateway, Arc::clone(&pushes));
                    let builder = hyper::server::conn::http1::Builder::new();
                    let _ = builder.serve_connection(TokioIo::new(stream), service_fn(handler)).await;
                });
            }
        });
        Self { address, seen }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}/cti/push?tenant=7", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

pub(crate) async fn handle_push(
    request: Request<Incoming>,
    identity: SelfSigned,
    gateway: SocketAddr,
    pushes: Arc<Mutex<Vec<Seen>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let push: Value = serde_json::from_slice(&body).unwrap_or_default();
    let guid = head.headers.get("guid").map(|guid| guid.to_str().unwrap().to_owned()).unwrap_or_default();
    let single = std::slice::from_ref(&push["event"]);
    let mut callouts = Vec::new();
    for event in push["eventList"].as_array().map_or(single, Vec::as_slice) {
        if let Some(control_id) = event["content"]["controlid"].as_i64() {
            callouts.push(call_out(&identity, gateway, agent(), &guid, control_id, NUMBER).await);
        }
    }
    pushes.lock().unwrap().push(Seen { target: head.uri.to_string(), headers: head.headers, body, callouts });
    let answer = Response::builder().header("content-type", "application/json").header("x-application", "mine");
    Ok(answer.body(Full::from(ANSWER)).unwrap())
}
