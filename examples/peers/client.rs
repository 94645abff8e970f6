//! A client that writes ready-made requests and reads no more of an answer than it must.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::platform::{CONTROL_ID, HOLD};

const API: &str = "/agentgateway/resource";
/// What applications send with each request.
const FIELDS: &str = "Host: localhost\r\nUser-Agent: agent-desktop/1.4\r\nAccept: application/json\r\n";

/// One agent with a connection of its own.
pub(crate) struct Agent {
    number: u32,
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

impl Agent {
    pub(crate) async fn connect(address: SocketAddr, tls: &Arc<ClientConfig>, number: u32) -> io::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(tls.clone()).connect(name, socket).await?;
        Ok(Self { number, stream, buffer: vec![0; 4096] })
    }

    /// A poll that the platform answers at once, with a preview.
    pub(crate) async fn poll(&mut self) -> io::Result<()> {
        self.get("").await
    }

    /// A poll that the platform holds.
    pub(crate) async fn poll_held(&mut self) -> io::Result<()> {
        self.get(&format!("{HOLD}: 1\r\n")).await
    }

    async fn get(&mut self, fields: &str) -> io::Result<()> {
        let (number, guid) = (self.number, self.guid());
        let request = format!("GET {API}/agentevent/{number} HTTP/1.1\r\n{FIELDS}{guid}{fields}\r\n");
        self.exchange(request.as_bytes()).await
    }

    /// A callout that follows from the preview of [`Self::poll`].
    pub(crate) async fn call(&mut self) -> io::Result<()> {
        let body = format!("{{\"called\":\"05712345679\",\"callcontrolid\":\"{CONTROL_ID}\"}}");
        let (number, guid, length) = (self.number, self.guid(), body.len());
        let request = format!(
            "PUT {API}/voicecall/{number}/previewCallout HTTP/1.1\r\n{FIELDS}{guid}\
             Content-Type: application/json; charset=UTF-8\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.exchange(request.as_bytes()).await
    }

    pub(crate) async fn download(&mut self, bytes: u64) -> io::Result<()> {
        self.buffer.resize(1 << 17, 0);
        let (number, guid) = (self.number, self.guid());
        let path = format!("{API}/recordplay/{number}/download?bytes={bytes}");
        self.exchange(format!("GET {path} HTTP/1.1\r\n{FIELDS}{guid}\r\n").as_bytes()).await
    }

    pub(crate) async fn upload(&mut self, bytes: u64) -> io::Result<()> {
        let (number, guid, chunk) = (self.number, self.guid(), vec![0; 1 << 16]);
        let head = format!(
            "PUT {API}/recordplay/{number}/upload HTTP/1.1\r\n{FIELDS}{guid}\
             Content-Type: application/octet-stream\r\nContent-Length: {bytes}\r\n\r\n"
        );
        self.stream.write_all(head.as_bytes()).await?;
        for _ in 0..bytes / chunk.len() as u64 {
            self.stream.write_all(&chunk).await?;
        }
        self.exchange(&[]).await
    }

    fn guid(&self) -> String {
        format!("Guid: agent-{}-of-a-measurement\r\n", self.number)
    }

    /// Sends a request and reads its answer, which must be a success.
    async fn exchange(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        let mut have = 0;
        let end = loop {
            match self.stream.read(&mut self.buffer[have..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => have += read,
            }
            if let Some(end) = self.buffer[..have].windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
        let length = head.split("content-length:").nth(1).and_then(|rest| rest.lines().next()?.trim().parse().ok());
        let body = &self.buffer[end..have];
        if !head.starts_with("http/1.1 200") || body.windows(9).any(|part| part == b"\"retcode\"") && !is_success(body)
        {
            return Err(io::Error::other(String::from_utf8_lossy(&self.buffer[..have]).into_owned()));
        }
        let mut left: usize = length.ok_or_else(|| io::Error::other(head))?;
        left -= have - end;
        while left > 0 {
            let read = self.stream.read(&mut self.buffer).await?;
            left = left.checked_sub(read).filter(|_| read > 0).ok_or(io::ErrorKind::UnexpectedEof)?;
        }
        Ok(())
    }
}

fn is_success(body: &[u8]) -> bool {
    body.windows(13).any(|part| part == br#""retcode":"0""#)
}
