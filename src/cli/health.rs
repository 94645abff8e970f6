//! `previewgate health`: asks a running gateway whether it should get traffic, for container health checks.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::config::{self, Files};
use crate::telemetry::sanitized;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 4096;
/// Characters of an answer that are printed.
const MAX_SHOWN: usize = 200;

/// Whom to ask.
#[derive(clap::Args)]
pub(super) struct Options {
    /// The configuration file of the gateway: its admin.address is asked.
    #[arg(long, value_name = "FILE", conflicts_with = "address")]
    config: Option<PathBuf>,
    /// The admin listener of the gateway.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9043")]
    address: SocketAddr,
    /// The longest time to wait for the answer.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Why the gateway is not ready.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unhealthy {
    #[error(transparent)]
    Configuration(#[from] config::Problems),
    #[error("{0} does not answer: {1}")]
    Unreachable(SocketAddr, io::Error),
    #[error("{0} answers: {1}")]
    NotReady(SocketAddr, String),
    #[error(transparent)]
    Output(io::Error),
}

/// Prints the answer of a gateway that is ready.
pub(super) fn health(options: &Options, out: &mut impl Write) -> Result<(), Unhealthy> {
    let address = match &options.config {
        // Certificates and keys may belong to another user.
        Some(file) => config::load(file, Files::Skip)?.admin.address,
        None => options.address,
    };
    let address = reachable(address);
    let answer = ask(address, options.timeout).map_err(|error| Unhealthy::Unreachable(address, error))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.starts_with("HTTP/1.1 200 ") {
        return out.write_all(body.as_bytes()).map_err(Unhealthy::Output);
    }
    let said = if body.trim().is_empty() { head } else { body };
    Err(Unhealthy::NotReady(address, sanitized(said.trim(), MAX_SHOWN).to_string()))
}

/// A listener on every address is asked on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn ask(address: SocketAddr, patience: Duration) -> io::Result<String> {
    let deadline = Instant::now() + patience;
    let mut socket = TcpStream::connect_timeout(&address, remaining(deadline)?)?;
    socket.set_write_timeout(Some(remaining(deadline)?))?;
    socket.write_all(format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    loop {
        socket.set_read_timeout(Some(remaining(deadline)?))?;
        let read = match socket.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            read => read?,
        };
        answer.extend_from_slice(piece.get(..read).unwrap_or_default());
        if read == 0 || answer.len() as u64 >= MAX_ANSWER {
            return Ok(String::from_utf8_lossy(&answer).into_owned());
        }
    }
}

fn remaining(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}
