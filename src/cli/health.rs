//! `previewgate health`: asks a running gateway whether it should get traffic, for container health checks.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::config::{self, Files};
use crate::telemetry::sanitized;

/// Maximum size of an answer, in bytes. The rest is not read.
const MAX_ANSWER: usize = 4096;
/// Characters of an answer that are printed.
const MAX_SHOWN: usize = 200;

/// Which gateway to ask, and how long to wait.
#[derive(clap::Args)]
pub(super) struct Options {
    /// The configuration file of the gateway: its admin.address is asked.
    #[arg(long, value_name = "FILE", conflicts_with = "address")]
    config: Option<PathBuf>,
    /// The admin listener of the gateway.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9043")]
    address: SocketAddr,
    /// The Unix socket of the gateway (admin.socket), instead of its address.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["address", "config"])]
    socket: Option<PathBuf>,
    /// The longest time to wait for the answer.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// The address or the socket at which the gateway is asked.
#[derive(Clone, Debug)]
enum Place {
    Address(SocketAddr),
    Socket(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Why the gateway is not ready.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unhealthy {
    #[error(transparent)]
    Configuration(#[from] config::Problems),
    #[error("{0} does not answer: {1}")]
    Unreachable(String, io::Error),
    #[error("{0} answers: {1}")]
    NotReady(String, String),
    #[error(transparent)]
    Output(io::Error),
}

/// Prints the answer of a gateway that is ready.
pub(super) fn health(options: &Options, out: &mut impl Write) -> Result<(), Unhealthy> {
    let place = match (&options.config, &options.socket) {
        (_, Some(path)) => Place::Socket(path.clone()),
        // Certificates and keys may belong to another user.
        (Some(file), None) => Place::Address(reachable(config::load(file, Files::Skip)?.admin.address)),
        (None, None) => Place::Address(reachable(options.address)),
    };
    let answer = ask(&place, options.timeout).map_err(|error| Unhealthy::Unreachable(place.to_string(), error))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.starts_with("HTTP/1.1 200 ") {
        return out.write_all(body.as_bytes()).map_err(Unhealthy::Output);
    }
    let said = if body.trim().is_empty() { head } else { body };
    Err(Unhealthy::NotReady(place.to_string(), sanitized(said.trim(), MAX_SHOWN).to_string()))
}

/// The address to connect to: loopback, if the listener is bound to all addresses.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn ask(place: &Place, patience: Duration) -> io::Result<String> {
    let deadline = Instant::now() + patience;
    match place {
        Place::Address(address) => {
            let socket = TcpStream::connect_timeout(address, remaining(deadline)?)?;
            let wait = |socket: &TcpStream| {
                socket.set_write_timeout(Some(remaining(deadline)?))?;
                socket.set_read_timeout(Some(remaining(deadline)?))
            };
            exchange(socket, &address.to_string(), wait)
        }
        Place::Socket(path) => {
            let wait = |socket: &UnixStream| {
                socket.set_write_timeout(Some(remaining(deadline)?))?;
                socket.set_read_timeout(Some(remaining(deadline)?))
            };
            exchange(UnixStream::connect(path)?, "localhost", wait)
        }
    }
}

/// Sends the request and reads the answer. `wait` sets how long the next step may take.
fn exchange<S: Read + Write>(mut socket: S, host: &str, wait: impl Fn(&S) -> io::Result<()>) -> io::Result<String> {
    wait(&socket)?;
    socket.write_all(format!("GET /readyz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    loop {
        wait(&socket)?;
        let read = match socket.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            read => read?,
        };
        answer.extend_from_slice(piece.get(..read).unwrap_or_default());
        if read == 0 || answer.len() >= MAX_ANSWER {
            return Ok(String::from_utf8_lossy(&answer).into_owned());
        }
    }
}

fn remaining(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}
