//! HTTP/1.1 of the simulator on one connection. It is written by hand, so that it can break the protocol on purpose.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::server::TlsStream;

use crate::stream::Stream;

/// The largest head; a longer one gets status 400.
const MAX_HEAD: usize = 256 * 1024;
const MAX_HEADERS: usize = 256;
const READ_SIZE: usize = 8 * 1024;

/// A byte stream that can reset the connection below it.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {
    /// Makes the close a reset.
    fn abort(&self);
}

impl Socket for Stream {
    fn abort(&self) {
        Self::abort(self);
    }
}

impl Socket for TlsStream<Stream> {
    fn abort(&self) {
        self.get_ref().0.abort();
    }
}

/// A request head as it was spelled.
pub(super) struct Head {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: Vec<(String, Bytes)>,
    minor_version: u8,
}

impl Head {
    /// The first header of this name, if it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// Whether the connection may serve another request after this one.
    pub(super) fn keeps_alive(&self) -> bool {
        let says = |word| self.header("connection").is_some_and(|value| has_token(value, word));
        if self.minor_version == 0 { says("keep-alive") } else { !says("close") }
    }

    fn framing(&self) -> io::Result<Framing> {
        if self.header("transfer-encoding").is_some_and(|value| has_token(value, "chunked")) {
            return Ok(Framing::Chunked);
        }
        match self.header("content-length") {
            None => Ok(Framing::Length(0)),
            Some(text) => text.trim().parse().map(Framing::Length).map_err(|_| invalid("Content-Length")),
        }
    }
}

/// The first of these headers with this name, if it is text.
pub(super) fn header<'a>(headers: &'a [(String, Bytes)], name: &str) -> Option<&'a str> {
    let (_, value) = headers.iter().find(|(candidate, _)| candidate.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(value).ok()
}

enum Framing {
    Length(u64),
    Chunked,
}

/// One connection: the socket, and the bytes that were read ahead.
pub(super) struct Connection<S> {
    socket: S,
    buffer: BytesMut,
}

impl<S: Socket> Connection<S> {
    pub(super) fn new(socket: S) -> Self {
        Self { socket, buffer: BytesMut::new() }
    }

    /// The next request head; `None` when the peer closed between two requests.
    pub(super) async fn read_head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(head) = parse_head(&mut self.buffer)? {
                return Ok(Some(head));
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(invalid("the request head is too long"));
            }
            if !self.read_more().await? {
                return if self.buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Reads the body of `head` to its end and hands each piece to `piece`.
    pub(super) async fn read_body(&mut self, head: &Head, mut piece: impl FnMut(Bytes)) -> io::Result<()> {
        let framing = head.framing()?;
        let expects = head.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
        if expects && self.buffer.is_empty() && !matches!(framing, Framing::Length(0)) {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        match framing {
            Framing::Length(length) => self.read_exactly(length, &mut piece).await,
            Framing::Chunked => self.read_chunks(&mut piece).await,
        }
    }

    /// Returns when the peer has closed or failed. Bytes that come meanwhile are kept for the next request.
    pub(super) async fn closed(&mut self) {
        // Limits the memory for a peer that pipelines without end. Then only the response is waited for.
        while self.buffer.len() < MAX_HEAD {
            if !self.read_more().await.unwrap_or(false) {
                return;
            }
        }
        std::future::pending::<()>().await;
    }

    /// Writes and flushes.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes).await?;
        self.socket.flush().await
    }

    /// Ends the connection in order: all written bytes arrive, then the end (with `close_notify` under TLS).
    pub(super) async fn close(mut self) -> io::Result<()> {
        self.socket.shutdown().await?;
        // Closing a socket with unread bytes resets it, and the reset may destroy the response. So they are read first.
        let mut sink = [0; 1024];
        while self.socket.read(&mut sink).await? > 0 {}
        Ok(())
    }

    /// Ends the connection with a TCP reset.
    pub(super) fn reset(self) {
        self.socket.abort();
    }

    async fn read_exactly(&mut self, mut length: u64, piece: &mut impl FnMut(Bytes)) -> io::Result<()> {
        while length > 0 {
            if self.buffer.is_empty() {
                self.read_or_fail().await?;
            }
            let taken = usize::try_from(length).unwrap_or(usize::MAX).min(self.buffer.len());
            piece(self.buffer.split_to(taken).freeze());
            length -= taken as u64;
        }
        Ok(())
    }

    async fn read_chunks(&mut self, piece: &mut impl FnMut(Bytes)) -> io::Result<()> {
        loop {
            let line = self.read_line().await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| invalid("chunk size"))?;
            if size == 0 {
                break;
            }
            self.read_exactly(size, piece).await?;
            if !self.read_line().await?.is_empty() {
                return Err(invalid("a chunk is longer than its size"));
            }
        }
        while !self.read_line().await?.is_empty() {} // trailers
        Ok(())
    }

    async fn read_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                return Ok(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned());
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(invalid("a chunk line is too long"));
            }
            self.read_or_fail().await?;
        }
    }

    async fn read_or_fail(&mut self) -> io::Result<()> {
        if self.read_more().await? { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    async fn read_more(&mut self) -> io::Result<bool> {
        self.buffer.reserve(READ_SIZE);
        Ok(self.socket.read_buf(&mut self.buffer).await? > 0)
    }
}

fn parse_head(buffer: &mut BytesMut) -> io::Result<Option<Head>> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut fields);
    let length = match parsed.parse(buffer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    };
    let head = Head {
        method: parsed.method.unwrap_or_default().to_owned(),
        target: parsed.path.unwrap_or_default().to_owned(),
        headers: parsed.headers.iter().map(|h| (h.name.to_owned(), Bytes::copy_from_slice(h.value))).collect(),
        minor_version: parsed.version.unwrap_or(1),
    };
    buffer.advance(length);
    Ok(Some(head))
}

fn has_token(value: &str, token: &str) -> bool {
    value.split(',').any(|word| word.trim().eq_ignore_ascii_case(token))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
