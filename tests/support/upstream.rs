//! Servers of the tests: an upstream that does what a test wants with each connection, and an application that is
//! pushed to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use previewgate::simulator::SelfSigned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::server::TlsStream;

use super::{Port, within};

/// The server's end of one connection.
pub(crate) struct Peer<S = TcpStream> {
    pub(crate) stream: S,
    /// Which connection of its server this is, counted from 0.
    connection: usize,
    /// Bytes that have been read and not used yet.
    buffer: Vec<u8>,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Request line and headers, without the empty line.
    pub(crate) head: String,
    /// With its transfer coding, if any.
    pub(crate) body: Vec<u8>,
    /// Which connection it came on, counted from 0.
    pub(crate) connection: usize,
}

impl Seen {
    pub(crate) fn request_line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    /// The header lines, in order.
    pub(crate) fn headers(&self) -> Vec<&str> {
        self.head.lines().skip(1).collect()
    }

    /// The value of the only header of this name; empty when there is none.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        let named = |line: &&str| line.split(':').next().is_some_and(|n| n.eq_ignore_ascii_case(name));
        let all: Vec<_> = self.head.lines().skip(1).filter(named).collect();
        assert!(all.len() <= 1, "{all:?}");
        all.first().and_then(|line| line.split_once(": ")).map_or("", |(_, value)| value)
    }

    /// Whether there is a header of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.headers().iter().any(|line| line.split(':').next().is_some_and(|n| n.eq_ignore_ascii_case(name)))
    }

    /// The body as JSON; `null` if it is none.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(crate) fn new(stream: S, connection: usize) -> Self {
        Self { stream, connection, buffer: Vec::new() }
    }

    /// The head of the next request; nothing if the connection ends in order before it. Half a head is an error.
    pub(crate) async fn head(&mut self) -> Option<Seen> {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            if self.fill().await.is_none() {
                assert!(self.buffer.is_empty(), "half a head: {:?}", String::from_utf8_lossy(&self.buffer));
                return None;
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end + 4);
        Some(Seen { head, body: Vec::new(), connection: self.connection })
    }

    /// The body that belongs to this head, with its transfer coding; nothing if the connection ends before it does.
    pub(crate) async fn body(&mut self, head: &Seen) -> Option<Vec<u8>> {
        let chunked = head.header("transfer-encoding") == "chunked";
        let length = head.header("content-length").parse().unwrap_or(0);
        loop {
            let end = if chunked {
                self.buffer.windows(5).position(|window| window == b"0\r\n\r\n").map(|at| at + 5)
            } else {
                (self.buffer.len() >= length).then_some(length)
            };
            if let Some(end) = end {
                return Some(self.buffer.drain(..end).collect());
            }
            self.fill().await?;
        }
    }

    /// The next request, whole. Nothing may come behind it: the gateway does not pipeline.
    pub(crate) async fn request(&mut self) -> Option<Seen> {
        let mut request = self.head().await?;
        request.body = self.body(&request).await?;
        self.assert_nothing_left();
        Some(request)
    }

    /// Fails if bytes have been read that belong to no request.
    pub(crate) fn assert_nothing_left(&self) {
        assert!(self.buffer.is_empty(), "more than a request: {:?}", String::from_utf8_lossy(&self.buffer));
    }

    /// Writes bytes; nothing if the other side has gone.
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) -> Option<()> {
        self.stream.write_all(bytes.as_ref()).await.ok()?;
        self.stream.flush().await.ok()
    }

    /// Reads and drops bytes until the other side closes.
    pub(crate) async fn until_closed(&mut self) {
        while self.fill().await.is_some() {
            self.buffer.clear();
        }
    }

    /// Reads at least one byte; nothing at the end of the connection.
    async fn fill(&mut self) -> Option<()> {
        (self.stream.read_buf(&mut self.buffer).await.ok()? > 0).then_some(())
    }
}

/// A server that gives each connection to a function of the test. It ends when it is dropped; connections go on.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    connections: watch::Sender<usize>,
    accepting: JoinHandle<()>,
}

impl Upstream {
    /// Listens on a port of the system's choice and serves each connection with `serve`.
    pub(crate) fn start<F>(serve: impl Fn(Peer) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::on(Port::reserve().listen(), serve)
    }

    /// Serves the connections of `listener`.
    pub(crate) fn on<F>(listener: TcpListener, serve: impl Fn(Peer) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::accept(listener, move |socket, connection| serve(Peer::new(socket, connection)))
    }

    /// Serves with TLS.
    pub(crate) fn secure<F>(
        listener: TcpListener,
        identity: &SelfSigned,
        serve: impl Fn(Peer<TlsStream<TcpStream>>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let acceptor = tokio_rustls::TlsAcceptor::from(identity.server_config().unwrap());
        let serve = Arc::new(serve);
        Self::accept(listener, move |socket, connection| {
            let (acceptor, serve) = (acceptor.clone(), Arc::clone(&serve));
            async move {
                if let Ok(stream) = acceptor.accept(socket).await {
                    serve(Peer::new(stream, connection)).await;
                }
            }
        })
    }

    fn accept<F>(listener: TcpListener, serve: impl Fn(TcpStream, usize) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr().unwrap();
        let connections = watch::Sender::new(0);
        let counted = connections.clone();
        let accepting = tokio::spawn(async move {
            for connection in 0.. {
                let Ok((socket, _)) = listener.accept().await else { return };
                counted.send_modify(|count| *count += 1);
                // Bytes that were written are on their way at once, also if the socket is closed with something unread.
                socket.set_nodelay(true).unwrap();
                tokio::spawn(serve(socket, connection));
            }
        });
        Self { address, connections, accepting }
    }

    /// How many connections were accepted so far.
    pub(crate) fn connections(&self) -> usize {
        *self.connections.borrow()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// An upstream that answers every request with the next of its answers (the last one again and again), byte for byte.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    seen: watch::Sender<Vec<Seen>>,
    _upstream: Upstream,
}

impl Scripted {
    /// Listens on a port of the system's choice.
    pub(crate) async fn start(answers: &[&[u8]]) -> Self {
        let seen = watch::Sender::new(Vec::new());
        let script = Arc::new(Mutex::new(answers.iter().map(|answer| answer.to_vec()).collect::<Vec<_>>()));
        let sender = seen.clone();
        let upstream = Upstream::start(move |peer| play(peer, sender.clone(), Arc::clone(&script)));
        Self { address: upstream.address, seen, _upstream: upstream }
    }

    /// The requests that have come so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    /// The only request that has come.
    #[track_caller]
    pub(crate) fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }

    /// Waits until so many requests have come.
    #[track_caller]
    pub(crate) fn wait_for(&self, count: usize) -> impl Future<Output = ()> {
        within("a request at the upstream", async move {
            self.seen.subscribe().wait_for(|seen| seen.len() >= count).await.unwrap();
        })
    }
}

async fn play(mut peer: Peer, seen: watch::Sender<Vec<Seen>>, script: Arc<Mutex<Vec<Vec<u8>>>>) {
    while let Some(request) = peer.request().await {
        seen.send_modify(|all| all.push(request));
        let answer = {
            let mut script = script.lock().unwrap();
            if script.len() > 1 { script.remove(0) } else { script[0].clone() }
        };
        let head = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        let closes = head.split("\r\n\r\n").next().is_some_and(|head| head.contains("connection: close"));
        if peer.write(&answer).await.is_none() || closes {
            let _ = peer.stream.shutdown().await;
            return;
        }
    }
}
