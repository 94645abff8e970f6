//! Requests as bytes on a socket, and just enough HTTP to tell the answers apart.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

trait Socket: Read + Write {}
impl<T: Read + Write> Socket for T {}

/// Where to, and how.
#[derive(Clone)]
pub(crate) struct Target {
    /// The proxy.
    pub(crate) address: SocketAddr,
    /// With TLS.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

/// One client connection.
pub(crate) struct Connection {
    tcp: TcpStream,
    socket: Box<dyn Socket>,
    buffer: Vec<u8>,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The case that the application took it for.
    pub(crate) case: Option<String>,
    /// The gateway's reason.
    pub(crate) reason: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// The connection is closed.
    Closed,
    /// Nothing came in time.
    Silence,
}

impl Connection {
    /// Connects.
    pub(crate) fn open(target: &Target) -> Self {
        let tcp = TcpStream::connect(target.address).unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        let clone = tcp.try_clone().unwrap();
        let socket: Box<dyn Socket> = match &target.tls {
            None => Box::new(clone),
            Some(config) => {
                let name = ServerName::try_from("localhost").unwrap();
                Box::new(StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), clone))
            }
        };
        Self { tcp, socket, buffer: Vec::new() }
    }

    /// Sends as much as the other side takes.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes).and_then(|()| self.socket.flush());
    }

    /// The next answer that is final.
    pub(crate) fn answer(&mut self, patience: Duration, to_head: bool) -> Result<Answer, NoAnswer> {
        let deadline = Instant::now() + patience;
        loop {
            let head = self.until(deadline, |buffer| {
                buffer.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
            })?;
            let head = String::from_utf8_lossy(&head).into_owned();
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let field = |name: &str| {
                head.lines().filter_map(|line| line.split_once(':')).find(|(n, _)| n.eq_ignore_ascii_case(name))
            };
            let length = field("content-length").and_then(|(_, value)| value.trim().parse::<usize>().ok());
            let chunked = field("transfer-encoding").is_some();
            let text = |name: &str| field(name).map(|(_, value)| value.trim().to_owned());
            let (case, reason) = (text("x-case"), text("x-previewgate-reason"));
            let _message = match length {
                _ if to_head || status == 304 || status == 204 || status == 101 => vec![],
                Some(length) => self.until(deadline, |buffer| (buffer.len() >= length).then_some(length))?,
                None if chunked => self.until(deadline, |buffer| {
                    buffer.windows(5).position(|window| window == b"0\r\n\r\n").map(|at| at + 5)
                })?,
                None => self.rest(deadline),
            };
            return Ok(Answer { status, case, reason });
        }
    }

    /// Takes from the input what `complete` says belongs together.
    fn until(&mut self, deadline: Instant, complete: impl Fn(&[u8]) -> Option<usize>) -> Result<Vec<u8>, NoAnswer> {
        loop {
            if let Some(end) = complete(&self.buffer) {
                return Ok(self.buffer.drain(..end).collect());
            }
            self.fill(deadline)?;
        }
    }

    fn rest(&mut self, deadline: Instant) -> Vec<u8> {
        while self.fill(deadline).is_ok() {}
        std::mem::take(&mut self.buffer)
    }

    fn fill(&mut self, deadline: Instant) -> Result<(), NoAnswer> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(NoAnswer::Silence);
        }
        self.tcp.set_read_timeout(Some(left)).unwrap();
        let mut bytes = [0; 8192];
        match self.socket.read(&mut bytes) {
            Ok(0) => Err(NoAnswer::Closed),
            Ok(count) => {
                self.buffer.extend_from_slice(&bytes[..count]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Err(NoAnswer::Silence)
            }
            Err(_) => Err(NoAnswer::Closed),
        }
    }
}
