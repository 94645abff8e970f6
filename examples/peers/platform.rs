//! A platform that answers at once: the least that a proxy can have behind it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use previewgate::simulator::SelfSigned;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// The platform leaves a poll open while its request has this field.
pub(crate) const HOLD: &str = "x-hold";
/// The control ID and the numbers of each preview.
pub(crate) const CONTROL_ID: i64 = 11_776;
const NUMBERS: &str = "05712345678,05712345679";

/// The platform's state, and where it listens.
pub(crate) struct Platform {
    pub(crate) address: SocketAddr,
    held: Arc<AtomicUsize>,
    release: watch::Sender<u64>,
}

#[derive(Clone)]
struct Service {
    held: Arc<AtomicUsize>,
    released: watch::Receiver<u64>,
}

impl Platform {
    /// Listens on a port of the system's choice, until the program ends.
    pub(crate) async fn start(identity: &SelfSigned) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (release, released) = watch::channel(0);
        let held = Arc::new(AtomicUsize::new(0));
        let service = Service { held: held.clone(), released };
        tokio::spawn(accept(listener, TlsAcceptor::from(identity.server_config()?), service));
        Ok(Self { address, held, release })
    }

    /// Polls that wait for an answer.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Answers all polls that wait.
    pub(crate) fn release(&self) {
        self.release.send_modify(|generation| *generation += 1);
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, service: Service) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let (tls, service) = (tls.clone(), service.clone());
        tokio::spawn(async move {
            let _ = socket.set_nodelay(true);
            let Ok(stream) = tls.accept(socket).await else { return };
            let answer = service_fn(move |request| service.clone().answer(request));
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

impl Service {
    async fn answer(self, request: Request<Incoming>) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
        let (head, mut body) = request.into_parts();
        while let Some(Ok(_)) = body.frame().await {}
        if head.headers.contains_key(HOLD) {
            self.hold().await;
        }
        if let Some(size) = head.uri.query().and_then(|query| query.strip_prefix("bytes=")) {
            return Ok(Response::new(Zeros(size.parse().unwrap()).boxed()));
        }
        let text = match (head.method == Method::GET, head.uri.path().rsplit('/').next()) {
            (true, Some(agent)) => preview(agent),
            _ => r#"{"message":"success","retcode":"0","result":{"callid":"1455764040-7"}}"#.to_owned(),
        };
        let answer = Response::builder().header("content-type", "application/json; charset=UTF-8");
        Ok(answer.body(Full::new(Bytes::from(text)).boxed()).unwrap())
    }

    async fn hold(mut self) {
        self.released.mark_unchanged();
        self.held.fetch_add(1, Ordering::Relaxed);
        let _ = self.released.changed().await;
        self.held.fetch_sub(1, Ordering::Relaxed);
    }
}

fn preview(agent: &str) -> String {
    format!(
        "{{\"message\":\"success\",\"retcode\":\"0\",\"event\":{{\"eventType\":\"AgentEvent_Preview_CallOut_Ex\",\
         \"workNo\":\"{agent}\",\"content\":{{\"controlid\":{CONTROL_ID},\"dialeddigits\":\"{NUMBERS}\",\
         \"callData\":\"a contact of a campaign, as long as the data of most\",\"mediaAbility\":0}}}}}}"
    )
}

/// A body of this many zeros.
struct Zeros(u64);

impl Body for Zeros {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static CHUNK: [u8; 1 << 16] = [0; 1 << 16];
        let size = usize::try_from(self.0).unwrap().min(CHUNK.len());
        self.0 -= size as u64;
        Poll::Ready((size > 0).then(|| Ok(Frame::data(Bytes::from_static(&CHUNK[..size])))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0)
    }
}
