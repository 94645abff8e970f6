//! [`Config`]: the effective configuration, every value checked and every default filled in.
//!
//! One struct for each table of the file, one field for each key. The kind, range and default of a key stand in
//! [`super::keys`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::addresses::UpstreamEndpoint;
use super::redis::RedisStore;
use super::targets::AllowedTarget;
use crate::endpoint_url::EndpointUrl;
use crate::label_enum;

/// The effective configuration, every value checked and every default filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where applications connect to.
    pub listener: Listener,
    /// Where CC-Gateway or NSLB is.
    pub upstream: Upstream,
    /// How pushes are relayed; absent: they are not.
    pub push: Option<Push>,
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

/// `[listener.tls]`; paths are absolute once checked.
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
    pub endpoints: Vec<UpstreamEndpoint>,
    /// Which of them a request goes to.
    pub balance: Balance,
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
    /// How it is found out that an endpoint is back.
    pub probe: Probe,
    /// TLS towards `https` endpoints.
    pub tls: UpstreamTls,
}

label_enum! {
    /// `upstream.balance`
    pub enum Balance {
        /// The first that is in use.
        Ordered = "ordered",
        /// Each agent stays at one endpoint.
        Agent = "agent",
    }
}

/// `[upstream.probe]`: only endpoints that are passed over are probed.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Absent: as far as a connection goes, TLS included for `https` endpoints.
    pub kind: Option<ProbeKind>,
    /// Longest pause between two probes of an endpoint.
    pub interval: Duration,
    /// What an `http` probe asks for; there is one exactly if the kind is `http`.
    pub path: Option<String>,
}

label_enum! {
    /// `upstream.probe.kind`
    pub enum ProbeKind {
        /// No probes: now and then a request has to find out.
        None = "none",
        /// A TCP connection.
        Tcp = "tcp",
        /// And a TLS handshake.
        Tls = "tls",
        /// And a GET that is answered with a status below 500.
        Http = "http",
    }
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

/// `[push]`
#[derive(Clone, Debug, PartialEq)]
pub struct Push {
    /// Where CC-Gateway reaches this gateway, or all gateways with the same key.
    pub public_url: EndpointUrl,
    /// The file with the key that push addresses are signed with, at least 32 bytes.
    pub key: PathBuf,
    /// Applications that may be pushed to; never empty.
    pub allowed_targets: Vec<AllowedTarget>,
    /// Name resolution, TCP, TLS, request and answer together.
    pub timeout: Duration,
    /// TLS towards `https` applications.
    pub tls: PushTls,
}

/// `[push.tls]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PushTls {
    /// PEM roots; the system's when absent.
    pub ca: Option<PathBuf>,
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
    /// Let WebSocket through, which nobody can validate.
    pub allow_websocket: bool,
    /// HTTP status of a refusal, 200 to 499. The vendor's clients read the body only of a 200.
    pub reject_status: u16,
    /// After a start without restored previews, how long a callout of an agent of whom no preview is known is forwarded
    /// whatever `on_unknown_preview` says; zero is off.
    pub warm_up: Duration,
}

label_enum! {
    /// `validation.mode`
    pub enum Mode {
        /// A callout that fails validation is refused.
        Enforce = "enforce",
        /// It is logged and counted as refused would be, and forwarded.
        Monitor = "monitor",
    }
}

label_enum! {
    /// `validation.on_unknown_preview`
    pub enum OnUnknownPreview {
        /// Refuse: nothing proves that the agent was shown the number.
        Reject = "reject",
        /// Forward as `unverified`.
        Forward = "forward",
    }
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
    /// The file that previews are saved to and restored from at the next start.
    pub snapshot: Option<PathBuf>,
    /// Between two snapshots; one more is written at the end.
    pub snapshot_interval: Duration,
    /// Where previews are kept.
    pub store: StoreKind,
}

/// `[previews.store] kind`
#[derive(Clone, Debug, PartialEq)]
pub enum StoreKind {
    /// In this process.
    Memory,
    /// In a Redis that several gateways share.
    Redis(RedisStore),
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Loopback by default: no authentication here.
    pub address: SocketAddr,
    /// Host names and addresses that requests may name as `Host`, beside the listener's own.
    pub hosts: Option<Vec<String>>,
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

label_enum! {
    /// `log.format`
    pub enum LogFormat {
        /// For machines.
        Json = "json",
        /// For people.
        Text = "text",
    }
}

label_enum! {
    /// `log.access`
    pub enum AccessLog {
        /// No request.
        None = "none",
        /// Requests to the previewCallout resource.
        Callouts = "callouts",
        /// Every request.
        All = "all",
    }
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
    /// Open connections from one address (IPv6: one /64), 0 for no limit; further ones are closed at once.
    pub connections_per_client: usize,
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
    /// The upstream does not go on with an answer; or a client is too slow for `body_min_rate`.
    pub body_idle_timeout: Duration,
    /// Bytes a second that a client has to send or take of a body, while it is waited for, averaged over
    /// `body_idle_timeout`.
    pub body_min_rate: usize,
    /// Bytes of a previewCallout body.
    pub callout_body: usize,
    /// From the head of a previewCallout, sign-in or push to the last byte of its body.
    pub callout_body_timeout: Duration,
    /// Bytes of an event answer or push that is looked into; a larger one passes unseen, and is counted.
    pub event_body: usize,
}
