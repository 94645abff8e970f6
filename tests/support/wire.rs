//! The client's end of a connection: writes bytes, reads answers as strictly as the most exacting client.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Answer, Broken, Request, within};

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// One connection. It does not matter over what: see [`Wire::over`].
pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    /// Bytes that have been read and not used yet.
    buffer: Vec<u8>,
    /// The certificate that the server has shown (DER); empty without TLS.
    pub(crate) certificate: Vec<u8>,
}

/// How the body of an answer ends.
enum Framing {
    None,
    Length(usize),
    Chunked,
    Close,
}

impl Wire {
    /// A connection over any stream: a socket, TLS, or a pipe in memory.
    pub(crate) fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self { stream: Box::new(stream), buffer: Vec::new(), certificate: Vec::new() }
    }

    /// Connects without TLS.
    pub(crate) async fn plain(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self::over(socket))
    }

    /// Connects with TLS.
    pub(crate) async fn encrypted(address: SocketAddr, config: Arc<ClientConfig>) -> io::Result<Self> {
        Self::encrypted_behind(b"", address, config).await
    }

    /// Connects with TLS, which begins behind these bytes.
    pub(crate) async fn encrypted_behind(
        bytes: &[u8],
        address: SocketAddr,
        config: Arc<ClientConfig>,
    ) -> io::Result<Self> {
        let mut socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        socket.write_all(bytes).await?;
        let name = ServerName::from(address.ip());
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, socket).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = shown.map(|certificate| certificate.to_vec()).unwrap_or_default();
        Ok(Self { certificate, ..Self::over(stream) })
    }

    /// Sends a request and reads its answer.
    #[track_caller]
    pub(crate) fn send<'w>(&'w mut self, request: &Request) -> impl Future<Output = Answer> + use<'w> {
        let answer = self.try_send(request);
        async { answer.await.unwrap_or_else(|broken| panic!("no whole answer: {broken:?}")) }
    }

    /// Sends a request and reads its answer, if there is one.
    #[track_caller]
    pub(crate) fn try_send<'w>(
        &'w mut self,
        request: &Request,
    ) -> impl Future<Output = Result<Answer, Broken>> + use<'w> {
        let (bytes, method) = (request.bytes(), request.method().to_owned());
        within(format!("the answer to {method}"), async move {
            // A peer that has closed already may have answered before.
            let _ = self.stream.write_all(&bytes).await;
            let _ = self.stream.flush().await;
            self.read_answer(&method).await
        })
    }

    /// Sends a request and reads as much of its answer as comes: a body that is cut off ends early.
    #[track_caller]
    pub(crate) fn send_and_read_on<'w>(&'w mut self, request: &Request) -> impl Future<Output = Answer> + use<'w> {
        let (bytes, method) = (request.bytes(), request.method().to_owned());
        within(format!("an answer to {method}"), async move {
            let _ = self.stream.write_all(&bytes).await;
            let _ = self.stream.flush().await;
            let mut answer = self.read_head().await.unwrap_or_else(|broken| panic!("no head: {broken:?}"));
            let framing = framing(&answer, &method);
            let _ = self.read_body(framing, &mut answer.body).await;
            answer
        })
    }

    /// Writes bytes and flushes.
    #[track_caller]
    pub(crate) fn write(&mut self, bytes: &[u8]) -> impl Future<Output = ()> {
        within("the gateway to read", async move {
            self.stream.write_all(bytes).await.unwrap();
            self.stream.flush().await.unwrap();
        })
    }

    /// Writes bytes and flushes; the peer may have closed.
    pub(crate) async fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Reads the answer to a request that was no `HEAD`.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> impl Future<Output = Answer> {
        let answer = self.try_answer();
        async { answer.await.unwrap_or_else(|broken| panic!("no whole answer: {broken:?}")) }
    }

    /// Reads the answer to a request that was no `HEAD`, if there is one.
    #[track_caller]
    pub(crate) fn try_answer(&mut self) -> impl Future<Output = Result<Answer, Broken>> {
        within("an answer", self.read_answer("GET"))
    }

    /// Reads the head of an answer; [`Wire::body`] or [`Wire::some`] reads on. Interim answers are answers here.
    #[track_caller]
    pub(crate) fn head(&mut self) -> impl Future<Output = Answer> {
        let head = within("the head of an answer", self.read_head());
        async { head.await.unwrap_or_else(|broken| panic!("no head: {broken:?}")) }
    }

    /// At least one byte of what comes next, as it is on the wire.
    #[track_caller]
    pub(crate) fn some(&mut self) -> impl Future<Output = Vec<u8>> {
        within("more bytes", async move {
            if self.buffer.is_empty() {
                assert!(self.fill().await.unwrap() > 0, "the connection has ended");
            }
            std::mem::take(&mut self.buffer)
        })
    }

    /// Reads and forgets `count` bytes as they are on the wire; `check` looks at each piece and its position.
    pub(crate) async fn skim(&mut self, count: u64, mut check: impl FnMut(u64, &[u8])) {
        let mut position = 0;
        while position < count {
            if self.buffer.is_empty() {
                // The time limit is for each piece: a long body may take long while it moves.
                let filled = within("the next piece of a long body", self.fill()).await;
                assert!(filled.unwrap() > 0, "the body ends after {position} of {count} bytes");
            }
            let used = usize::try_from(count - position).unwrap_or(usize::MAX).min(self.buffer.len());
            check(position, &self.buffer[..used]);
            self.buffer.drain(..used);
            position += used as u64;
        }
    }

    /// Fails if bytes have been read that belong to no answer.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        assert!(self.buffer.is_empty(), "more than the answer: {:?}", String::from_utf8_lossy(&self.buffer));
    }

    /// Waits for the end of the connection; fails if anything comes before it. A reset counts as an end.
    #[track_caller]
    pub(crate) fn closed(&mut self) -> impl Future<Output = ()> {
        within("the end of the connection", async move {
            let more = self.fill().await.unwrap_or(0);
            let buffer = String::from_utf8_lossy(&self.buffer);
            assert!(more == 0 && self.buffer.is_empty(), "bytes that belong to no answer: {buffer:?}");
        })
    }

    /// Reads on until the other side has thrown the connection away, together with what it had not sent.
    pub(crate) fn thrown_away(&mut self) -> impl Future<Output = ()> {
        within("a reset", async move {
            let end = loop {
                self.buffer.clear();
                match self.fill().await {
                    Ok(0) => panic!("an orderly end"),
                    Ok(_) => {}
                    Err(error) => break error,
                }
            };
            assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);
        })
    }

    /// Closes the direction of writing; reading goes on.
    pub(crate) async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.reserve(64 * 1024);
        self.stream.read_buf(&mut self.buffer).await
    }

    async fn read_answer(&mut self, method: &str) -> Result<Answer, Broken> {
        let mut answer = self.read_head().await?;
        while (100..200).contains(&answer.status) {
            answer = self.read_head().await?;
        }
        match self.read_body(framing(&answer, method), &mut answer.body).await {
            Ok(()) => {}
            Err(_) => return Err(Broken::Cut { body: answer.body.len() }),
        }
        if answer.is_own() && method != "HEAD" {
            answer.own();
        }
        Ok(answer)
    }

    async fn read_head(&mut self) -> Result<Answer, Broken> {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            match (self.fill().await, self.buffer.is_empty()) {
                (Ok(0), true) => return Err(Broken::NoAnswer),
                (Err(error), true) => return Err(Broken::Reset(error)),
                (Ok(0) | Err(_), false) => return Err(Broken::Cut { body: 0 }),
                (Ok(_), _) => {}
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        Ok(parse_head(&String::from_utf8(head).expect("a head in UTF-8")))
    }

    async fn read_body(&mut self, framing: Framing, body: &mut Vec<u8>) -> Result<(), ()> {
        match framing {
            Framing::None => {}
            Framing::Length(length) => self.take(length, body).await?,
            Framing::Close => while self.take(1, body).await.is_ok() {},
            Framing::Chunked => loop {
                let size = self.line().await?;
                let size = usize::from_str_radix(&size, 16).unwrap_or_else(|_| panic!("chunk size {size:?}"));
                self.take(size, body).await?;
                assert_eq!(self.line().await?, "", "the end of a chunk, or of a body without trailers");
                if size == 0 {
                    break;
                }
            },
        }
        Ok(())
    }

    /// Moves so many bytes into `body`, or all that come before the end.
    async fn take(&mut self, mut count: usize, body: &mut Vec<u8>) -> Result<(), ()> {
        while count > 0 {
            if self.buffer.is_empty() && self.fill().await.unwrap_or(0) == 0 {
                return Err(());
            }
            let used = count.min(self.buffer.len());
            body.extend(self.buffer.drain(..used));
            count -= used;
        }
        Ok(())
    }

    async fn line(&mut self) -> Result<String, ()> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            self.take(1, &mut line).await?;
        }
        Ok(String::from_utf8(line).unwrap().trim_end_matches("\r\n").to_owned())
    }
}

/// A head in one reading: `HTTP/1.1 200 OK`, then `Name: value` lines, each with CR LF.
fn parse_head(head: &str) -> Answer {
    let mut lines = head.strip_suffix("\r\n\r\n").unwrap().split("\r\n");
    let status_line = lines.next().unwrap();
    let mut words = status_line.splitn(3, ' ');
    let (version, status) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let phrase = words.next().unwrap_or_else(|| panic!("no space after the status: {status_line:?}"));
    assert!(version == "HTTP/1.1" || version == "HTTP/1.0", "{status_line:?}");
    assert!(status.len() == 3, "{status_line:?}");
    let field = |line: &str| {
        let (name, value) = line.split_once(": ").or(line.split_once(':')).unwrap_or_else(|| panic!("{line:?}"));
        assert!(!name.is_empty() && !name.contains(' ') && !line.contains(['\r', '\n']), "{line:?}");
        (name.to_owned(), value.to_owned())
    };
    Answer {
        version: version.to_owned(),
        status: status.parse().unwrap_or_else(|_| panic!("{status_line:?}")),
        phrase: phrase.to_owned(),
        headers: lines.map(field).collect(),
        body: Vec::new(),
    }
}

fn framing(answer: &Answer, method: &str) -> Framing {
    let (length, coding) = (answer.header("content-length"), answer.header("transfer-encoding"));
    if method == "HEAD" || matches!(answer.status, 204 | 304) {
        return Framing::None;
    }
    match (length, coding) {
        ("", "chunked") => Framing::Chunked,
        ("", "") => {
            let close = answer.header("connection").eq_ignore_ascii_case("close");
            assert!(close || answer.version == "HTTP/1.0", "a body without an end: {answer:?}");
            Framing::Close
        }
        (length, "") => Framing::Length(length.parse().unwrap_or_else(|_| panic!("{answer:?}"))),
        _ => panic!("more than one framing: {answer:?}"),
    }
}
