//! The checked configuration: what the rest of the program may rely on.
//!
//! A file is read in two stages. [`file`] is the TOML exactly as the operator typed it; [`check`] turns it into a
//! [`Config`] or into *all* the problems at once. Nothing outside this module sees an unchecked value, and nothing
//! here touches a socket. Limits and defaults are documented where an operator reads them:
//! `config/previewgate.toml`.

mod check;
mod file;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use check::{Problem, Problems, load, parse};

/// The effective configuration, every value checked and every default filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where applications connect to.
    pub listener: Listener,
    /// Where CC-Gateway or NSLB is.
    pub upstream: Upstream,
    /// How callouts are judged.
    pub validation: Validation,
    /// How previews are remembered.
    pub previews: Previews,
    /// The operators' listener.
    pub admin: Admin,
    /// What is logged, and how.
    pub log: Log,
    /// Threads.
    pub runtime: Runtime,
    /// How the process ends.
    pub shutdown: Shutdown,
    /// What one client may use up.
    pub limits: Limits,
}

/// `[listener]`
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Address and port; port 0 lets the system choose (tests).
    pub address: SocketAddr,
    /// TLS, or plain HTTP when absent.
    pub tls: Option<ListenerTls>,
}

/// `[listener.tls]`; paths are absolute or relative to the working directory once checked.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerTls {
    /// PEM chain, leaf first.
    pub certificate: PathBuf,
    /// PEM private key (PKCS#8, PKCS#1 or SEC1).
    pub private_key: PathBuf,
    /// PEM roots; when present a client certificate signed by one of them is required.
    pub client_ca: Option<PathBuf>,
}

/// `[upstream]`
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// In order of preference; never empty; schemes may not be mixed.
    pub endpoints: Vec<Endpoint>,
    /// Name resolution, TCP and TLS together, for one endpoint.
    pub connect_timeout: Duration,
    /// From the request sent to the response head. Longer than the server's long poll (10 s by default).
    pub response_timeout: Duration,
    /// How long an idle connection is kept. Below the upstream's own keep-alive (Tomcat: 20 s or 60 s).
    pub idle_timeout: Duration,
    /// Idle connections kept for each endpoint and worker.
    pub max_idle_per_endpoint: usize,
    /// Forward the client's `Host` instead of the endpoint's.
    pub preserve_host: bool,
    /// Add `X-Forwarded-For` and `X-Forwarded-Proto`.
    pub forwarded_headers: bool,
    /// Paths that are forwarded at all, each starting and ending with `/`; everything else is answered 404.
    pub path_prefixes: Vec<String>,
    /// TLS towards `https` endpoints.
    pub tls: UpstreamTls,
}

/// One upstream address, from `scheme://host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// `http` or `https`.
    pub scheme: Scheme,
    /// DNS name or IP address (IPv6 without brackets).
    pub host: String,
    /// Default 443 for `https`, 80 for `http`.
    pub port: u16,
}

/// Whether TLS is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain HTTP/1.1.
    Http,
    /// HTTP/1.1 over TLS 1.2 or 1.3.
    Https,
}

/// `[upstream.tls]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpstreamTls {
    /// PEM roots; the system's when absent.
    pub ca: Option<PathBuf>,
    /// The name to verify and to send as SNI, instead of the endpoint's host.
    pub server_name: Option<String>,
    /// Client identity for mutual TLS; both or neither.
    pub client_certificate: Option<PathBuf>,
    /// See `client_certificate`.
    pub client_private_key: Option<PathBuf>,
    /// Accept any certificate. For laboratories; warned about at every start.
    pub insecure_skip_verify: bool,
}

/// `[validation]`
#[derive(Clone, Debug, PartialEq)]
pub struct Validation {
    /// Refuse, or only record what would have been refused.
    pub mode: Mode,
    /// What becomes of a callout of an agent of whom no preview is known.
    pub on_unknown_preview: OnUnknownPreview,
    /// HTTP status of a refusal, 200 to 499. The vendor's clients read the body only of a 200.
    pub reject_status: u16,
}

/// `validation.mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A callout that fails validation is refused.
    Enforce,
    /// It is logged and counted as refused would be, and forwarded.
    Monitor,
}

/// `validation.on_unknown_preview`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnknownPreview {
    /// Refuse: nothing proves that the agent was shown the number.
    Reject,
    /// Forward as `unverified`.
    Forward,
}

/// `[previews]`
#[derive(Clone, Debug, PartialEq)]
pub struct Previews {
    /// How long after its announcement a preview may still be called.
    pub ttl: Duration,
    /// Previews kept for one agent; the newest always stay.
    pub per_agent: usize,
    /// Agents remembered; the least recently used are forgotten first.
    pub max_agents: u64,
    /// Where previews are kept.
    pub store: StoreKind,
}

/// `[previews.store] kind`
#[derive(Clone, Debug, PartialEq)]
pub enum StoreKind {
    /// In this process.
    Memory,
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Loopback by default: no authentication here.
    pub address: SocketAddr,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// One JSON object a line, or text for people.
    pub format: LogFormat,
    /// The least severe level that is written.
    pub level: tracing::Level,
    /// Show only the last two digits of a number.
    pub mask_numbers: bool,
    /// Which requests get an access line.
    pub access: AccessLog,
    /// Key of `called_hash`: a file of at least 16 bytes. Absent: a random key for each start.
    pub hash_key: Option<PathBuf>,
}

/// `log.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For machines.
    Json,
    /// For people.
    Text,
}

/// `log.access`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// No request.
    None,
    /// Requests to the previewCallout resource.
    Callouts,
    /// Every request.
    All,
}

/// `[runtime]`
#[derive(Clone, Debug, PartialEq)]
pub struct Runtime {
    /// Worker threads; already resolved, at least 1.
    pub workers: usize,
}

/// `[shutdown]`
#[derive(Clone, Debug, PartialEq)]
pub struct Shutdown {
    /// Between "not ready" and closing the listener: time for a load balancer to notice.
    pub delay: Duration,
    /// How long open exchanges may still finish afterwards.
    pub drain: Duration,
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Open client connections; further ones are closed at once.
    pub connections: usize,
    /// Event polls held at once; further ones get `overloaded`.
    pub held_polls: usize,
    /// All other requests in flight at once; further ones get `overloaded`.
    pub requests: usize,
    /// Bytes of a request head.
    pub head_size: usize,
    /// From the first byte of a request head to its last.
    pub head_timeout: Duration,
    /// TCP accepted to TLS established.
    pub handshake_timeout: Duration,
    /// Connection established to the first byte of the first request.
    pub first_byte_timeout: Duration,
    /// Between two requests on one connection.
    pub idle_timeout: Duration,
    /// No byte of a body moved, in either direction.
    pub body_idle_timeout: Duration,
    /// Bytes of a previewCallout body.
    pub callout_body: usize,
    /// From the head of a previewCallout to the last byte of its body.
    pub callout_body_timeout: Duration,
    /// Bytes of an event answer that is looked into; a larger one passes unseen, and is counted.
    pub event_body: usize,
}
