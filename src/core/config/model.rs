//! [`Config`]: the effective configuration, every value checked and every default filled in.
//!
//! One struct for each table of the file, one field for each key. The kind, range and default of a key stand in
//! [`super::keys`].

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::addresses::UpstreamEndpoint;
use super::audit::EvidenceMember;
use super::network::Network;
use super::redis::{OnStoreFailure, RedisStore};
use super::targets::AllowedTarget;
use super::tenants::Tenant;
use crate::endpoint_url::EndpointUrl;
use crate::label_enum;
use crate::preview::{Reason, Rule};

/// The effective configuration, every value checked and every default filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The customers that share the gateway.
    pub tenants: Option<Vec<Tenant>>,
    /// The listener for applications.
    pub listener: Listener,
    /// CC-Gateway or NSLB.
    pub upstream: Upstream,
    /// Relaying of pushes; off if absent.
    pub push: Option<Push>,
    /// Validation of callouts.
    pub validation: Validation,
    /// Storage of previews.
    pub previews: Previews,
    /// The listener for operators.
    pub admin: Admin,
    /// The log.
    pub log: Log,
    /// The audit log; off if absent.
    pub audit: Option<Audit>,
    /// Threads.
    pub runtime: Runtime,
    /// The end of the process.
    pub shutdown: Shutdown,
    /// Limits on what clients can use.
    pub limits: Limits,
}

/// `[listener]`
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Address and port. With port 0 the system chooses a port, for tests.
    pub address: SocketAddr,
    /// Proxies and load balancers whose word about a client's address is believed.
    pub trusted_proxies: Option<Vec<Network>>,
    /// Whether connections begin with a header of the PROXY protocol.
    pub proxy_protocol: ProxyProtocol,
    /// TLS; plain HTTP if absent.
    pub tls: Option<ListenerTls>,
}

impl Listener {
    /// Whether the word of this peer about a client's address is believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.iter().flatten().any(|network| network.contains(peer))
    }
}

label_enum! {
    /// `listener.proxy_protocol`
    pub enum ProxyProtocol {
        /// Connections begin with TLS or HTTP.
        Off = "off",
        /// Connections begin with a PROXY header, which only a trusted proxy may send.
        Required = "required",
    }
}

/// `[listener.tls]`; paths are absolute.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerTls {
    /// PEM chain, leaf first.
    pub certificate: PathBuf,
    /// PEM private key (PKCS#8, PKCS#1 or SEC1).
    pub private_key: PathBuf,
    /// PEM file of CAs. If present, clients need a certificate from one of them.
    pub client_ca: Option<PathBuf>,
}

/// `[upstream]`
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// In order of preference; never empty; schemes may not be mixed.
    pub endpoints: Vec<UpstreamEndpoint>,
    /// How an endpoint is chosen for a request.
    pub balance: Balance,
    /// Name resolution, TCP and TLS together, for one endpoint.
    pub connect_timeout: Duration,
    /// Maximum time from the end of the request to the response head. Longer than the server's long poll (10 s by default).
    pub response_timeout: Duration,
    /// How long a poll is kept and tried again if no connection can be established. Zero is off.
    pub poll_patience: Duration,
    /// How long an idle connection is kept. Must be below the upstream's own keep-alive (Tomcat: 20 s or 60 s).
    pub idle_timeout: Duration,
    /// Idle connections kept for each endpoint and worker.
    pub max_idle_per_endpoint: usize,
    /// Forwards the client's `Host` instead of the endpoint's.
    pub preserve_host: bool,
    /// Adds `X-Forwarded-For` and `X-Forwarded-Proto`.
    pub forwarded_headers: bool,
    /// Prefixes of paths that are forwarded; each starts and ends with `/`. Other paths get a 404.
    pub path_prefixes: Vec<String>,
    /// Probes of endpoints.
    pub probe: Probe,
    /// TLS towards `https` endpoints.
    pub tls: UpstreamTls,
}

label_enum! {
    /// `upstream.balance`
    pub enum Balance {
        /// The first endpoint that is available.
        Ordered = "ordered",
        /// Each agent uses one endpoint.
        Agent = "agent",
    }
}

/// `[upstream.probe]`: endpoints in use are not probed.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Absent: `tls` for `https` endpoints, `tcp` for `http`.
    pub kind: Option<ProbeKind>,
    /// Maximum pause between two probes of an endpoint.
    pub interval: Duration,
    /// The path of an `http` probe; present only for that kind.
    pub path: Option<String>,
}

label_enum! {
    /// `upstream.probe.kind`
    pub enum ProbeKind {
        /// No probes: requests are used to test the endpoint.
        None = "none",
        /// Opens a TCP connection.
        Tcp = "tcp",
        /// Does a TLS handshake too.
        Tls = "tls",
        /// Sends a GET too; a status below 500 is a success.
        Http = "http",
    }
}

/// `[upstream.tls]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpstreamTls {
    /// PEM file of CAs; those of the system if absent.
    pub ca: Option<PathBuf>,
    /// The name to verify and to send as SNI; the endpoint's host if absent.
    pub server_name: Option<String>,
    /// Client identity for mutual TLS; both or neither.
    pub client_certificate: Option<PathBuf>,
    /// See `client_certificate`.
    pub client_private_key: Option<PathBuf>,
    /// Accepts any certificate. For laboratories; every start logs a warning.
    pub insecure_skip_verify: bool,
}

/// `[push]`
#[derive(Clone, Debug, PartialEq)]
pub struct Push {
    /// The address at which CC-Gateway reaches this gateway, or all gateways with the same key.
    pub public_url: EndpointUrl,
    /// The file with the key that signs push addresses, at least 32 bytes.
    pub key: PathBuf,
    /// Applications that may receive pushes; never empty.
    pub allowed_targets: Vec<AllowedTarget>,
    /// Networks that pushes may come from; `None` allows any. The connection counts, not a header field.
    pub sources: Option<Vec<Network>>,
    /// Name resolution, TCP, TLS, request and response together.
    pub timeout: Duration,
    /// TLS towards `https` applications.
    pub tls: PushTls,
}

/// `[push.tls]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PushTls {
    /// PEM file of CAs; those of the system if absent.
    pub ca: Option<PathBuf>,
    /// Accepts any certificate. For laboratories; every start logs a warning.
    pub insecure_skip_verify: bool,
}

/// `[validation]`
#[derive(Clone, Debug, PartialEq)]
pub struct Validation {
    /// Whether invalid callouts are refused or only recorded.
    pub mode: Mode,
    /// Action for callouts when the agent has no known preview.
    pub on_unknown_preview: OnUnknownPreview,
    /// Action for callouts whose GUID is known not to be the agent's own.
    pub session: SessionPolicy,
    /// Forwards WebSocket connections. Their content is not validated.
    pub allow_websocket: bool,
    /// HTTP status of a refusal, 200 to 499. The vendor's clients read the body only of a 200.
    pub reject_status: u16,
    /// For this time after a start without restored previews, callouts of agents without a known preview are forwarded,
    /// even if `on_unknown_preview` is `reject`. Zero is off.
    pub warm_up: Duration,
    /// Another mode for single reasons.
    pub reasons: ReasonModes,
}

/// `[validation.reasons]`: a mode for one reason, in place of `validation.mode`.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs, reason = "each field is documented at its reason")]
pub struct ReasonModes {
    pub unknown_preview: Option<Mode>,
    pub control_id_mismatch: Option<Mode>,
    pub number_not_in_preview: Option<Mode>,
    pub preview_expired: Option<Mode>,
    pub number_used: Option<Mode>,
    pub signed_out: Option<Mode>,
    pub malformed_body: Option<Mode>,
    pub missing_field: Option<Mode>,
    pub invalid_agent_id: Option<Mode>,
    pub invalid_content_type: Option<Mode>,
    pub missing_guid: Option<Mode>,
    pub method_not_allowed: Option<Mode>,
    pub ambiguous_path: Option<Mode>,
    pub too_large: Option<Mode>,
}

impl Validation {
    /// The mode for callouts with this objection.
    pub fn mode_for(&self, reason: Reason) -> Mode {
        self.reasons.entry(reason).flatten().unwrap_or(self.mode)
    }

    /// Whether no objection leads to a refusal.
    pub fn refuses_nothing(&self) -> bool {
        Reason::ALL.iter().all(|reason| self.mode_for(*reason) == Mode::Monitor)
    }
}

impl ReasonModes {
    /// Whether `[validation.reasons]` can name this reason.
    pub fn can_name(reason: Reason) -> bool {
        Self::default().entry(reason).is_some()
    }

    /// The entry of this reason: its mode, if one is set. `None` for a reason that is no rule of `[validation]`:
    /// `validation.session` decides about foreign sessions, `on_store_failure` about the store.
    fn entry(&self, reason: Reason) -> Option<Option<Mode>> {
        Some(match reason {
            Reason::UnknownPreview => self.unknown_preview,
            Reason::ControlIdMismatch => self.control_id_mismatch,
            Reason::NumberNotInPreview => self.number_not_in_preview,
            Reason::PreviewExpired => self.preview_expired,
            Reason::NumberUsed => self.number_used,
            Reason::SignedOut => self.signed_out,
            Reason::MalformedBody => self.malformed_body,
            Reason::MissingField => self.missing_field,
            Reason::InvalidAgentId => self.invalid_agent_id,
            Reason::InvalidContentType => self.invalid_content_type,
            Reason::MissingGuid => self.missing_guid,
            Reason::MethodNotAllowed => self.method_not_allowed,
            Reason::AmbiguousPath => self.ambiguous_path,
            Reason::TooLarge => self.too_large,
            Reason::Ok
            | Reason::Overloaded
            | Reason::UpstreamFailure
            | Reason::ForeignSession
            | Reason::StoreUnavailable
            | Reason::AuditUnavailable
            | Reason::ClientGone
            | Reason::InternalError => return None,
        })
    }
}

label_enum! {
    /// `validation.mode`
    pub enum Mode {
        /// Refuses callouts that fail validation.
        Enforce = "enforce",
        /// Forwards them; log and metrics record the reason.
        Monitor = "monitor",
    }
}

label_enum! {
    /// `validation.session`
    pub enum SessionPolicy {
        /// The GUID is not compared.
        Off = "off",
        /// Forwards the callout as `unverified`, with the reason `foreign_session`.
        Monitor = "monitor",
        /// Refuses the callout.
        Enforce = "enforce",
    }
}

label_enum! {
    /// `validation.on_unknown_preview`
    pub enum OnUnknownPreview {
        /// Refuses the callout: the agent may not have been shown the number.
        Reject = "reject",
        /// Forwards the callout as `unverified`.
        Forward = "forward",
    }
}

/// `[previews]`
#[derive(Clone, Debug, PartialEq)]
pub struct Previews {
    /// How long after its announcement a preview may be called.
    pub ttl: Duration,
    /// How often each number of a preview may be called. 0 is no limit.
    pub calls_per_number: u32,
    /// Maximum previews of one agent. The oldest are dropped first.
    pub per_agent: usize,
    /// Maximum number of agents. The least recently used are dropped first.
    pub max_agents: u64,
    /// The file to which previews are saved, and from which the next start restores them.
    pub snapshot: Option<PathBuf>,
    /// Time between two snapshots. Another one is written at the end of the process.
    pub snapshot_interval: Duration,
    /// The file with the key of the hashes of GUIDs that outlive the process. Absent: see `config/previewgate.toml`.
    pub session_key: Option<PathBuf>,
    /// The preview store.
    pub store: StoreKind,
}

impl Previews {
    /// What the rule depends on.
    pub fn rule(&self) -> Rule {
        Rule { ttl: self.ttl, calls_per_number: self.calls_per_number }
    }
}

/// `[previews.store] kind`
#[derive(Clone, Debug, PartialEq)]
pub enum StoreKind {
    /// In this process.
    Memory,
    /// In a Redis that several gateways share.
    Redis(Box<RedisStore>),
}

impl StoreKind {
    /// `on_store_failure`, where there is a store that can fail.
    pub fn on_failure(&self) -> Option<OnStoreFailure> {
        match self {
            Self::Memory => None,
            Self::Redis(redis) => Some(redis.on_store_failure),
        }
    }
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Address and port; loopback by default, because this listener has no authentication.
    pub address: SocketAddr,
    /// Host names and addresses that requests may name as `Host`, beside the listener's own.
    pub hosts: Option<Vec<String>>,
    /// A Unix socket on which the same is served.
    pub socket: Option<PathBuf>,
    /// Who may connect to the socket.
    pub socket_mode: SocketMode,
    /// File with the token that requests for a change must carry.
    pub token: Option<PathBuf>,
}

/// The permissions of a socket file, as of `chmod`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketMode(pub u32);

/// `[log]`
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// One JSON object for each line, or text for people.
    pub format: LogFormat,
    /// The least severe level that is written.
    pub level: tracing::Level,
    /// Shows only the last two digits of a number.
    pub mask_numbers: bool,
    /// Which requests have an access line.
    pub access: AccessLog,
    /// Refusals of one client that are logged at once, and again in each minute; 0 is no limit.
    pub refusals_per_minute: u32,
    /// The file with the key of `called_hash`, at least 16 bytes. Absent: a random key at each start.
    pub hash_key: Option<PathBuf>,
}

label_enum! {
    /// `log.format`
    pub enum LogFormat {
        /// JSON lines, for programs.
        Json = "json",
        /// Short lines, for people.
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

/// `[audit]`; paths are absolute.
#[derive(Clone, Debug, PartialEq)]
pub struct Audit {
    /// Where the records are written. It exists, and only the gateway's user can write to it.
    pub directory: PathBuf,
    /// When a record counts as written.
    pub durability: Durability,
    /// What happens to a callout that cannot be recorded.
    pub on_failure: OnAuditFailure,
    /// Longest time that a callout waits for its record.
    pub timeout: Duration,
    /// PEM file with the Ed25519 key that signs checkpoints.
    pub signing_key: PathBuf,
    /// The directory of the keys under which numbers are hashed, one a month. Missing keys are made.
    pub number_keys: PathBuf,
    /// File with the auditor's public key: numbers are stored encrypted to it as well.
    pub recipient: Option<PathBuf>,
    /// Longest time between two checkpoints while records are written.
    pub checkpoint_interval: Duration,
    /// A new file begins at each multiple of this since midnight UTC.
    pub segment: Duration,
    /// A new file begins when one is longer than this many bytes.
    pub segment_size: usize,
    /// Files that are older are removed.
    pub retention: Duration,
    /// Members of `callData` that are kept with a preview.
    pub evidence: Option<Vec<EvidenceMember>>,
}

label_enum! {
    /// `audit.durability`
    pub enum Durability {
        /// The system has the record: it survives a crash of the gateway.
        Written = "written",
        /// The disk has it: it survives a power failure too.
        Synced = "synced",
    }
}

label_enum! {
    /// `audit.on_failure`
    pub enum OnAuditFailure {
        /// The callout is refused as `audit_unavailable`.
        Refuse = "refuse",
        /// The callout is forwarded, counted, and recorded as soon as that is possible.
        Forward = "forward",
    }
}

/// `[runtime]`
#[derive(Clone, Debug, PartialEq)]
pub struct Runtime {
    /// Number of worker threads, at least 1.
    pub workers: usize,
}

/// `[shutdown]`
#[derive(Clone, Debug, PartialEq)]
pub struct Shutdown {
    /// Time between "not ready" and the end of the listener, in which a load balancer notices the change.
    pub delay: Duration,
    /// How long requests in progress may take afterwards.
    pub drain: Duration,
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Maximum open client connections. Further ones are closed at once.
    pub connections: usize,
    /// Maximum open connections from one address (IPv6: one /64); 0 is no limit. Further ones are closed at once.
    pub connections_per_client: usize,
    /// Maximum event polls at a time. Further ones are refused as `overloaded`.
    pub held_polls: usize,
    /// Event polls of one agent in a second, as polled from one client; 0 is no limit. Further ones wait.
    pub polls_per_agent: usize,
    /// Maximum other requests at a time. Further ones are refused as `overloaded`.
    pub requests: usize,
    /// Maximum bytes of a request head.
    pub head_size: usize,
    /// Maximum time from the first byte of a request head to the last.
    pub head_timeout: Duration,
    /// Maximum time of a TLS handshake.
    pub handshake_timeout: Duration,
    /// Maximum time from an established connection to the first byte of its first request.
    pub first_byte_timeout: Duration,
    /// Maximum time between two requests on one connection.
    pub idle_timeout: Duration,
    /// Maximum time without a byte of a response body from the upstream; also the period for `body_min_rate`.
    pub body_idle_timeout: Duration,
    /// Minimum bytes per second at which a client sends or receives a body, averaged over `body_idle_timeout`. Only the
    /// time in which the gateway waits for the client counts.
    pub body_min_rate: usize,
    /// Maximum bytes of a previewCallout body.
    pub callout_body: usize,
    /// Maximum time from the head of a previewCallout, sign-in or push to the last byte of its body.
    pub callout_body_timeout: Duration,
    /// Maximum bytes of an event response or push that is parsed. A larger one is forwarded unparsed, and counted.
    pub event_body: usize,
}
