//! The application of the agent with push: an HTTPS server that receives pushes and records their events.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// `serviceToken` of the sign-in, and so of each push.
pub(super) const TOKEN: &str = "demo-service-token";
/// The path for pushes. The gateway must preserve the query too.
const PATH: &str = "/cti/push?tenant=7";

/// Serves until it is stopped.
pub(super) struct Application {
    /// Where it listens.
    pub(super) address: SocketAddr,
    events: Events,
    accepting: JoinHandle<()>,
}

/// The types of the events that were pushed, in order.
type Events = Arc<Mutex<Vec<String>>>;

impl Application {
    /// Listens on loopback, on the runtime of the caller.
    pub(super) async fn start(tls: Arc<ServerConfig>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (address, events) = (listener.local_addr()?, Events::default());
        let accepting = tokio::spawn(accept(listener, TlsAcceptor::from(tls), events.clone()));
        Ok(Self { address, events, accepting })
    }

    /// The origin that the platform is asked to push to. It is the only one that the gateway allows.
    pub(super) fn origin(&self) -> String {
        format!("https://{}", self.address)
    }

    /// `callBackUri`
    pub(super) fn url(&self) -> String {
        self.origin() + PATH
    }

    /// The types of the events that were pushed since the last call.
    pub(super) fn take_events(&self) -> Vec<String> {
        std::mem::take(&mut self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Stops listening.
    pub(super) async fn stop(self) {
        self.accepting.abort();
        let _ = self.accepting.await;
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, events: Events) {
    while let Ok((socket, _)) = listener.accept().await {
        let (tls, events) = (tls.clone(), events.clone());
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(socket).await else { return };
            let take = |request| take(request, events.clone());
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(take)).await;
        });
    }
}

/// Answers as the platform expects it (docs/protocol.md 6.3). Anything else than a push to this application gets an
/// error.
async fn take(request: Request<Incoming>, events: Events) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let wanted = head.method == Method::POST && head.uri == PATH && is_ours(&head.headers);
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let pushed = event_types(&body).filter(|_| wanted);
    let answer = match pushed {
        Some(pushed) => {
            events.lock().unwrap_or_else(PoisonError::into_inner).extend(pushed);
            r#"{"message":"","retcode":"0"}"#
        }
        None => r#"{"message":"not a push to this application","retcode":"000-002"}"#,
    };
    let mut response = Response::new(Full::from(answer));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    Ok(response)
}

fn is_ours(headers: &HeaderMap) -> bool {
    headers.get("service_token").is_some_and(|token| token == TOKEN) && headers.contains_key("guid")
}

fn event_types(push: &[u8]) -> Option<Vec<String>> {
    let push: Value = serde_json::from_slice(push).ok()?;
    let events = push.get("eventList")?.as_array()?;
    events.iter().map(|event| event.get("eventType")?.as_str().map(str::to_owned)).collect()
}
