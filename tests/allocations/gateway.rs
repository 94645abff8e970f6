//! A gateway alone on a thread: what that thread allocates, and the CPU time that it takes, are the gateway's.
//!
//! Clients and upstream are on another thread, at the other ends of pipes in memory. Used by the tests of this folder and
//! by `benches/worst_case.rs`.

#![allow(dead_code, reason = "each user takes its part")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use previewgate::config::{self, Files};
use previewgate::gateway::{Generation, Services};
use previewgate::preview::SystemClock;
use previewgate::server::{ActiveGeneration, Admission, Listener, PhaseControl, Worker};
use previewgate::stream::Stream;
use previewgate::telemetry::{Logging, Metrics};
use previewgate::upstream::{Dial, DialError};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};

/// Bytes that a pipe holds: more than the longest message.
const PIPE: usize = 4 << 20;
/// A poll of this agent is answered with the events that were given, any other with none.
pub(crate) const SHOWN: &str = "/agentevent/101";

/// A gateway that serves while [`Gateway::run`] waits.
pub(crate) struct Gateway {
    runtime: Runtime,
    peer: mpsc::UnboundedSender<Command>,
    clients: mpsc::Sender<(DuplexStream, SocketAddr)>,
    held: Arc<AtomicUsize>,
    _logging: (Logging, tracing::dispatcher::DefaultGuard),
    _control: PhaseControl,
}

/// What the other thread is asked to do.
enum Command {
    /// Sends the bytes again and again, and reads an answer each time.
    Exchange { client: DuplexStream, request: Arc<[u8]>, times: usize, done: oneshot::Sender<(DuplexStream, String)> },
    /// Sends the bytes and reads nothing.
    Send { client: DuplexStream, request: Arc<[u8]>, done: oneshot::Sender<DuplexStream> },
    /// Answers the requests on this connection.
    Serve(DuplexStream),
}

impl Gateway {
    /// A gateway with these settings. `events` is the answer to a poll of agent 101.
    pub(crate) fn start(settings: &str, events: &'static str) -> Self {
        let text = format!("upstream.endpoints = [\"http://platform:8043\"]\n{settings}\n");
        let config = config::parse(&text, Path::new("/"), Files::Skip).unwrap_or_else(|problems| panic!("{problems}"));
        let logging = Logging::start(config.log.format, config.log.level, Box::new(std::io::sink())).unwrap();
        let dispatch = tracing::dispatcher::set_default(&logging.dispatch);
        let held = Arc::new(AtomicUsize::new(0));
        let peer = peer(events, &held);
        let mut services = Services::new(&config, Arc::new(SystemClock::new()), Arc::new(Metrics::new())).unwrap();
        services.dial = Arc::new(ToPeer(peer.clone()));
        let active = ActiveGeneration::new(Generation::build(&Arc::new(services), config, None).unwrap());
        let (control, phase) = PhaseControl::new();
        let (clients, accepted) = mpsc::channel(64);
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.spawn(Worker::new(active, Admission::new(), phase).run(Listener::Memory(accepted)));
        Self { runtime, peer, clients, held, _logging: (logging, dispatch), _control: control }
    }

    /// Opens a connection.
    pub(crate) fn connect(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let address = SocketAddr::from(([198, 51, 100, 1], 50_000));
        self.runtime.block_on(self.clients.send((theirs, address))).unwrap();
        ours
    }

    /// Serves until the other thread has sent `request` so many times and has read all answers. Returns the last one; it is
    /// empty if the connection has ended.
    pub(crate) fn exchange(&self, client: &mut Option<DuplexStream>, request: &Arc<[u8]>, times: usize) -> String {
        let stream = client.take().unwrap_or_else(|| self.connect());
        let (done, finished) = oneshot::channel();
        let request = Arc::clone(request);
        let _ = self.peer.send(Command::Exchange { client: stream, request, times, done });
        let (stream, answer) = self.runtime.block_on(finished).expect("the client got its answers");
        // A refused head closes the connection.
        *client = Some(stream).filter(|_| !answer.to_ascii_lowercase().contains("connection: close"));
        answer
    }

    /// Serves until a poll of agent 102, on a connection of its own, is held by the upstream.
    pub(crate) fn hold(&self, request: &Arc<[u8]>) -> DuplexStream {
        let (client, request) = (self.connect(), Arc::clone(request));
        let expected = self.held.load(Ordering::Relaxed) + 1;
        let (done, finished) = oneshot::channel();
        let _ = self.peer.send(Command::Send { client, request, done });
        let client = self.runtime.block_on(finished).expect("the client has sent its request");
        self.runtime.block_on(async {
            while self.held.load(Ordering::Relaxed) < expected {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        client
    }
}

/// Starts the thread of clients and upstream.
fn peer(events: &'static str, held: &Arc<AtomicUsize>) -> mpsc::UnboundedSender<Command> {
    let (sender, mut commands) = mpsc::unbounded_channel();
    let held = Arc::clone(held);
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            while let Some(command) = commands.recv().await {
                match command {
                    Command::Exchange { client, request, times, done } => {
                        tokio::spawn(async move { done.send(exchange(client, &request, times).await) });
                    }
                    Command::Send { mut client, request, done } => {
                        client.write_all(&request).await.unwrap();
                        let _ = done.send(client);
                    }
                    Command::Serve(stream) => {
                        tokio::spawn(serve(stream, events, Arc::clone(&held)));
                    }
                }
            }
        });
    });
    sender
}

async fn exchange(mut client: DuplexStream, request: &[u8], times: usize) -> (DuplexStream, String) {
    let mut buffer = Vec::new();
    for _ in 0..times {
        buffer.clear();
        // A connection that has ended gives no answer.
        let _ = client.write_all(request).await;
        message(&mut client, &mut buffer).await;
    }
    let answer = String::from_utf8_lossy(&buffer).into_owned();
    (client, answer)
}

async fn serve(mut stream: DuplexStream, events: &str, held: Arc<AtomicUsize>) {
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        if !message(&mut stream, &mut buffer).await {
            return;
        }
        let line = buffer.split(|byte| *byte == b'\r').next().map(String::from_utf8_lossy).unwrap_or_default();
        let body = match () {
            () if line.contains("/agentevent/102") => {
                held.fetch_add(1, Ordering::Relaxed);
                std::future::pending().await
            }
            () if line.contains(SHOWN) && !events.is_empty() => events,
            () if line.contains("previewCallout") => r#"{"message":"","retcode":"0","result":"1455885056-1095"}"#,
            () => r#"{"message":"","retcode":"0"}"#,
        };
        let answer =
            format!("HTTP/1.1 200 \r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

/// Reads one message whole; `false` if the connection has ended before.
async fn message(stream: &mut DuplexStream, buffer: &mut Vec<u8>) -> bool {
    loop {
        if let Some(end) = memchr::memmem::find(buffer, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
            let length = head.split("\r\ncontent-length:").nth(1).and_then(|rest| rest.lines().next());
            let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
            let chunked = head.contains("\r\ntransfer-encoding: chunked");
            if buffer.len() >= end + 4 + length && (!chunked || buffer.ends_with(b"\r\n0\r\n\r\n")) {
                return true;
            }
        }
        if stream.read_buf(buffer).await.unwrap_or(0) == 0 {
            return false;
        }
    }
}

/// Connects the gateway to the upstream on the other thread.
struct ToPeer(mpsc::UnboundedSender<Command>);

impl Dial for ToPeer {
    fn dial<'a>(&'a self, _: &'a str, _: u16, _: Duration) -> BoxFuture<'a, Result<Stream, DialError>> {
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let _ = self.0.send(Command::Serve(theirs));
        Box::pin(std::future::ready(Ok(Stream::Memory(ours))))
    }
}

/// A request as an ordinary client sends it.
pub(crate) fn request(method: &str, target: &str, fields: &str, body: &[u8]) -> Arc<[u8]> {
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: gateway.example:8043\r\nGuid: {GUID}\r\n{fields}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat().into()
}

/// The credential of all requests.
pub(crate) const GUID: &str = "7c9d2a5e-4c51-4d2f-9a51-0c6a5d1b0e77.AgentGateway1";
/// The path that all resources share.
pub(crate) const API: &str = "/agentgateway/resource";
