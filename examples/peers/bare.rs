//! Two proxies to compare with, parts of this program: what one writes in an afternoon with hyper, and a relay that
//! decrypts and encrypts and reads nothing.

use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use previewgate::simulator::SelfSigned;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

type Failure = Box<dyn Error + Send + Sync>;
/// The control ID and the numbers that each agent was shown last.
type Shown = Arc<Mutex<HashMap<String, (i64, String)>>>;

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It collects bodies, parses callouts and events with serde_json, and keeps previews in a map.
    Validating,
    Relay,
}

#[derive(Clone)]
struct Proxy {
    upstream: SocketAddr,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    kind: Kind,
    shown: Shown,
}

/// One worker's connections to the platform that wait for a request.
type Pool = Rc<RefCell<Vec<SendRequest<Full<Bytes>>>>>;

#[derive(Deserialize)]
struct Callout<'a> {
    called: &'a str,
    callcontrolid: &'a str,
}

#[derive(Deserialize)]
struct Envelope {
    event: Option<Event>,
}

#[derive(Deserialize)]
struct Event {
    content: Content,
}

#[derive(Deserialize)]
struct Content {
    controlid: i64,
    dialeddigits: String,
}

/// Runs until the process is killed.
pub(crate) fn run(kind: Kind, listen: SocketAddr, upstream: SocketAddr, identity: &SelfSigned, workers: usize) {
    let proxy = Proxy {
        upstream,
        acceptor: TlsAcceptor::from(identity.server_config().unwrap()),
        connector: TlsConnector::from(identity.client_config().unwrap()),
        kind,
        shown: Shown::default(),
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let proxy = proxy.clone();
            scope.spawn(move || worker(proxy, listen));
        }
    });
}

fn worker(proxy: Proxy, listen: SocketAddr) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async move {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.bind(&listen.into()).unwrap();
        socket.listen(4096).unwrap();
        let (listener, pool) = (TcpListener::from_std(socket.into()).unwrap(), Pool::default());
        loop {
            let Ok((socket, _)) = listener.accept().await else { continue };
            let (proxy, pool) = (proxy.clone(), pool.clone());
            spawn_local(async move {
                let _ = proxy.connection(socket, pool).await;
            });
        }
    });
}

impl Proxy {
    async fn connection(self, socket: TcpStream, pool: Pool) -> Result<(), Failure> {
        socket.set_nodelay(true)?;
        let mut client = self.acceptor.accept(socket).await?;
        if self.kind == Kind::Relay {
            tokio::io::copy_bidirectional(&mut client, &mut self.connect().await?).await?;
            return Ok(());
        }
        let service = service_fn(move |request| {
            let (proxy, pool) = (self.clone(), pool.clone());
            async move { proxy.request(request, pool).await }
        });
        Ok(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(client), service).await?)
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>, Failure> {
        let socket = TcpStream::connect(self.upstream).await?;
        socket.set_nodelay(true)?;
        Ok(self.connector.connect(ServerName::try_from("localhost")?, socket).await?)
    }

    async fn request(&self, request: Request<Incoming>, pool: Pool) -> Result<Response<Full<Bytes>>, Failure> {
        let (mut head, body) = request.into_parts();
        let (agent, is_callout) = about(&head);
        let body = body.collect().await?.to_bytes();
        if is_callout && !self.may_call(&agent, &body) {
            return Ok(Response::new(Full::new(Bytes::from_static(
                b"{\"message\":\"refused\",\"retcode\":\"000-002\"}",
            ))));
        }
        head.headers.remove(header::CONNECTION);
        let kept = pool.borrow_mut().pop().filter(|kept| !kept.is_closed());
        let mut upstream = match kept {
            Some(kept) => kept,
            None => self.hyper_connection().await?,
        };
        upstream.ready().await?;
        let (head, body) = upstream.send_request(Request::from_parts(head, Full::new(body))).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        pool.borrow_mut().push(upstream);
        if !is_callout {
            self.learn(agent, &body);
        }
        Ok(Response::from_parts(head, Full::new(body)))
    }

    async fn hyper_connection(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(self.connect().await?)).await?;
        spawn_local(connection);
        Ok(sender)
    }

    fn may_call(&self, agent: &str, body: &[u8]) -> bool {
        let Ok(callout) = serde_json::from_slice::<Callout<'_>>(body) else { return false };
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.get(agent).is_some_and(|(id, numbers)| {
            callout.callcontrolid.parse() == Ok(*id) && numbers.split(',').any(|number| number == callout.called)
        })
    }

    fn learn(&self, agent: String, body: &[u8]) {
        if let Ok(Envelope { event: Some(Event { content }) }) = serde_json::from_slice(body) {
            let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
            shown.insert(agent, (content.controlid, content.dialeddigits));
        }
    }
}

/// The agent in the path, and whether it wants to call.
fn about(head: &http::request::Parts) -> (String, bool) {
    let mut segments = head.uri.path().rsplit('/');
    let last = segments.next().unwrap_or_default();
    match head.method == Method::PUT && last == "previewCallout" {
        true => (segments.next().unwrap_or_default().to_owned(), true),
        false => (last.to_owned(), false),
    }
}
