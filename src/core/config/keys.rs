//! **Every key of the configuration**: its kind, its range, its default, and whether a reload can change it.
//!
//! The same table reads a document, writes the effective configuration and describes the keys. The meaning of each key
//! is documented at its field in [`super::model`], and for operators in `config/previewgate.toml`.
//!
//! A key is reloadable unless it is marked: `.fixed()` makes a reload with another value fail, and `.at_next_start()`
//! accepts the value without effect before the next start. A key is fixed if its value is built into something that
//! lives as long as the process: sockets, threads, the preview store, the log.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::time::Duration;

use tracing::Level;

use super::addresses::{Endpoint, PathPrefix, ProbePath, Url, VerifiedName};
use super::audit::{Evidence, audit_directory, key_directory};
use super::document::{Document, TableReader, ValueRef};
use super::entry::{Entry, Kind, Table, optional_table, table};
use super::files::{FileContent, file, written_file};
use super::kinds::{Address, Flag, Word, list, number, size, span, word};
use super::model::{
    AccessLog, Admin, Audit, Balance, Config, Durability, Limits, Listener, ListenerTls, Log, LogFormat, Mode,
    OnAuditFailure, OnUnknownPreview, Previews, Probe, ProbeKind, ProxyProtocol, Push, PushTls, ReasonModes, Runtime,
    SessionPolicy, Shutdown, SocketMode, StoreKind, Upstream, UpstreamTls, Validation,
};
use super::network::NetworkKind;
use super::redis::{OnEndTimeout, OnStoreFailure, PlainText, RedisAddress, RedisStore};
use super::reference::{Describer, KeyDescription, ValueKind};
use super::socket_file::{Permissions, socket_path};
use super::targets::Target;
use super::tenants::TenantKind;
use super::toml_text::{KIB, MIB};
use super::writer::{Writer, WrittenValue};
use crate::endpoint_url::Scheme;

/// Reads all tables; `None` reads as an empty document.
pub(super) fn read<'v>(document: &mut Document<'v>, root: Option<&'v toml::de::DeTable<'v>>) -> Config {
    let mut reader = TableReader::root(document, root);
    let config = Config::read(&mut reader);
    reader.finish();
    config
}

/// The effective configuration as TOML.
pub(super) fn write(config: &Config) -> String {
    // Without an https endpoint, the settings of [upstream.tls] would be refused when the text is read again.
    let encrypted = config.upstream.endpoints.iter().any(|endpoint| endpoint.url.scheme == Scheme::Https);
    written(config).into_toml((!encrypted).then_some("upstream.tls"))
}

/// The value of every key that is set.
pub(super) fn values(config: &Config) -> BTreeMap<String, WrittenValue> {
    written(config).into_values()
}

fn written(config: &Config) -> Writer {
    let mut writer = Writer::default();
    config.write(&mut writer);
    writer
}

/// Every key, in the order of the tables below.
pub(super) fn describe() -> Vec<KeyDescription> {
    let mut describer = Describer::new();
    Config::describe(&mut describer);
    describer.into_keys()
}

/// Declares the entries of a table. The field names are the keys, so that the compiler reports a missing entry.
macro_rules! keys {
    ($Table:ident { $($field:ident: $entry:expr),+ $(,)? }) => {
        impl Table for $Table {
            fn read(reader: &mut TableReader<'_, '_>) -> Self {
                Self { $($field: $entry.read(reader, stringify!($field)),)+ }
            }

            fn write(&self, writer: &mut Writer) {
                $($entry.write(&self.$field, stringify!($field), writer);)+
            }

            fn describe(describer: &mut Describer) {
                $(of_field($entry, |table: &Self| &table.$field).describe(stringify!($field), describer);)+
            }
        }
    };
}

/// Tells the compiler that `entry` belongs to a field: a description alone does not name the type of a table.
fn of_field<T, E: Entry>(entry: E, _field: fn(&T) -> &E::Value) -> E {
    entry
}

const MILLISECOND: Duration = Duration::from_millis(1);
const DAY: Duration = seconds(24 * 60 * 60);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

keys!(Config {
    tenants: list(TenantKind, "a list of tenants: [[tenants]] with `name`, and `agents` or `nodes`").optional(),
    listener: table(),
    upstream: table(),
    push: optional_table(),
    validation: table(),
    previews: table(),
    admin: table(),
    log: table(),
    audit: optional_table().fixed_presence(),
    runtime: table(),
    shutdown: table(),
    limits: table(),
});

keys!(Listener {
    address: Address.or(([0, 0, 0, 0], 8043).into()).fixed(),
    trusted_proxies: list(NetworkKind, "a list of networks, such as [\"10.0.0.0/24\"]").optional(),
    proxy_protocol: word(ProxyProtocol::ALL, ProxyProtocol::as_str).or(ProxyProtocol::Off),
    tls: optional_table().fixed_presence(),
});

keys!(ListenerTls {
    certificate: file(FileContent::Certificates).required("name the PEM file with the server's certificate chain"),
    private_key: file(FileContent::PrivateKey).required("name the PEM file with the private key of the certificate"),
    client_ca: file(FileContent::Roots).optional(),
});

keys!(Upstream {
    endpoints: list(Endpoint, "a list of endpoints, such as [\"https://10.0.0.11:8043\"]")
        .required("add `endpoints = [\"https://HOST:8043\"]` to [upstream]: the CC-Gateway or NSLB to protect"),
    balance: word(Balance::ALL, Balance::as_str).or(Balance::Ordered),
    connect_timeout: span(MILLISECOND..=DAY).or(seconds(2)),
    response_timeout: span(seconds(11)..=DAY)
        .because("the server holds an event poll for 10s, and a poll that is cut off signs its agent out")
        .or(seconds(30)),
    poll_patience: span(Duration::ZERO..=seconds(8))
        .because("an application waits 20s for a poll, and the server may hold it for 10s")
        .or(seconds(3)),
    idle_timeout: span(MILLISECOND..=DAY).or(seconds(15)),
    max_idle_per_endpoint: number(0..=65_536).or(10_000),
    preserve_host: Flag.or(false),
    forwarded_headers: Flag.or(true),
    path_prefixes: list(PathPrefix, "a list of paths, such as [\"/agentgateway/\"]")
        .or(vec!["/agentgateway/".to_owned()]),
    probe: table(),
    tls: table(),
});

keys!(Probe {
    kind: word(ProbeKind::ALL, ProbeKind::as_str).optional(),
    interval: span(seconds(1)..=DAY).or(seconds(5)),
    path: ProbePath.optional(),
});

keys!(UpstreamTls {
    ca: file(FileContent::Roots).optional(),
    server_name: VerifiedName.optional(),
    client_certificate: file(FileContent::Certificates).optional(),
    client_private_key: file(FileContent::PrivateKey).optional(),
    insecure_skip_verify: Flag.or(false),
});

keys!(Push {
    public_url: Url.required("add `public_url = \"https://HOST:8043\"`: where CC-Gateway reaches this gateway"),
    key: file(FileContent::PushKey)
        .required("name a file that `openssl rand -out FILE 32` made, the same for every instance"),
    allowed_targets: list(Target, "a list of targets, such as [\"https://10.1.0.0/16\"]")
        .required("add `allowed_targets = [\"https://HOST\"]`: the applications that may be pushed to"),
    sources: list(NetworkKind, "a list of networks, such as [\"10.0.0.0/24\"]").optional(),
    timeout: span(MILLISECOND..=DAY).or(seconds(10)),
    tls: table(),
});

keys!(PushTls { ca: file(FileContent::Roots).optional(), insecure_skip_verify: Flag.or(false) });

keys!(Validation {
    mode: mode().or(Mode::Enforce),
    on_unknown_preview: word(OnUnknownPreview::ALL, OnUnknownPreview::as_str).or(OnUnknownPreview::Reject),
    session: word(SessionPolicy::ALL, SessionPolicy::as_str).or(SessionPolicy::Monitor),
    allow_websocket: Flag.or(false),
    reject_status: number(200..=499).or(200),
    // Applies to the start of a process.
    warm_up: span(Duration::ZERO..=DAY).or(Duration::ZERO).at_next_start(),
    reasons: table(),
});

keys!(ReasonModes {
    unknown_preview: mode().optional(),
    control_id_mismatch: mode().optional(),
    number_not_in_preview: mode().optional(),
    preview_expired: mode().optional(),
    number_used: mode().optional(),
    signed_out: mode().optional(),
    malformed_body: mode().optional(),
    missing_field: mode().optional(),
    invalid_agent_id: mode().optional(),
    invalid_content_type: mode().optional(),
    missing_guid: mode().optional(),
    method_not_allowed: mode().optional(),
    ambiguous_path: mode().optional(),
    too_large: mode().optional(),
});

fn mode() -> Word<Mode> {
    word(Mode::ALL, Mode::as_str)
}

keys!(Previews {
    // The store expires previews after the lifetime that it was created with.
    ttl: span(MILLISECOND..=DAY).or(seconds(30 * 60)).fixed(),
    // Calls are counted only while there is a limit.
    calls_per_number: number(0..=100).or(0).fixed(),
    per_agent: number(1..=1024).or(16).fixed(),
    max_agents: number(1..=10_000_000).or(100_000).fixed(),
    snapshot: written_file().optional().fixed(),
    snapshot_interval: span(Duration::from_millis(100)..=DAY)
        .because("every snapshot writes all previews to the disk")
        .or(seconds(10))
        .fixed(),
    session_key: file(FileContent::HashKey).optional().fixed(),
    store: table().fixed(),
});

/// Written by hand, because `kind` decides which other keys are allowed.
impl Table for StoreKind {
    fn read(reader: &mut TableReader<'_, '_>) -> Self {
        match store_kind().read(reader, "kind") {
            REDIS => Self::Redis(Box::new(RedisStore::read(reader))),
            _ => {
                // Makes the keys known, so that `conflicts` reports them instead of calling them unknown.
                reader.silently(RedisStore::read);
                Self::Memory
            }
        }
    }

    fn write(&self, writer: &mut Writer) {
        match self {
            Self::Memory => store_kind().write(&MEMORY, "kind", writer),
            Self::Redis(redis) => {
                store_kind().write(&REDIS, "kind", writer);
                redis.write(writer);
            }
        }
    }

    fn describe(describer: &mut Describer) {
        store_kind().describe("kind", describer);
        RedisStore::describe(describer);
    }
}

const MEMORY: &str = "memory";
const REDIS: &str = "redis";

fn store_kind() -> impl Entry<Value = &'static str> {
    word(&[MEMORY, REDIS], |word| word).or(MEMORY)
}

keys!(RedisStore {
    url: RedisAddress.required("add `url = \"rediss://HOST:6379\"` to [previews.store]: the Redis that gateways share"),
    username: PlainText.optional(),
    password_file: file(FileContent::Password).optional(),
    ca: file(FileContent::Roots).optional(),
    prefix: PlainText.or("previewgate:".to_owned()),
    timeout: span(MILLISECOND..=seconds(1)).or(Duration::from_millis(200)),
    start_timeout: span(Duration::ZERO..=seconds(60)).or(seconds(5)),
    on_store_failure: word(OnStoreFailure::ALL, OnStoreFailure::as_str).or(OnStoreFailure::Local),
    local_grace: span(Duration::ZERO..=seconds(86_400)).or(seconds(600)),
    end_timeout: span(Duration::ZERO..=seconds(60)).or(seconds(5)),
    on_end_timeout: word(OnEndTimeout::ALL, OnEndTimeout::as_str).or(OnEndTimeout::Pass),
});

keys!(Admin {
    address: Address.or(([127, 0, 0, 1], 9043).into()).fixed(),
    hosts: list(VerifiedName, "a list of host names, such as [\"gateway.example.com\"]").optional(),
    socket: socket_path().optional().fixed(),
    socket_mode: Permissions.or(SocketMode(0o660)).fixed(),
    token: file(FileContent::Password).optional(),
});

keys!(Log {
    format: word(LogFormat::ALL, LogFormat::as_str).or(LogFormat::Json).fixed(),
    level: word(&[Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE], level_word).or(Level::INFO),
    mask_numbers: Flag.or(true).fixed(),
    access: word(AccessLog::ALL, AccessLog::as_str).or(AccessLog::Callouts),
    refusals_per_minute: number(0..=1_000_000).or(600),
    hash_key: file(FileContent::HashKey).optional().fixed(),
});

fn level_word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

keys!(Audit {
    directory: audit_directory()
        .required("name a directory of its own, such as \"/var/lib/previewgate/audit\"")
        .fixed(),
    durability: word(Durability::ALL, Durability::as_str).or(Durability::Written).fixed(),
    on_failure: word(OnAuditFailure::ALL, OnAuditFailure::as_str).or(OnAuditFailure::Refuse),
    timeout: span(MILLISECOND..=seconds(30)).or(seconds(1)),
    signing_key: file(FileContent::SigningKey)
        .required("make one with `openssl genpkey -algorithm ed25519 -out FILE` or `previewgate audit keygen`")
        .fixed(),
    number_keys: key_directory()
        .required("name a directory outside of audit.directory; the gateway makes it and its keys")
        .fixed(),
    recipient: file(FileContent::Recipient).optional().fixed(),
    checkpoint_interval: span(seconds(1)..=DAY).or(seconds(60)).fixed(),
    segment: span(seconds(60)..=DAY).or(DAY).fixed(),
    segment_size: size(64 * KIB..=4096 * MIB).or(256 * MIB).fixed(),
    retention: span(DAY..=years(100)).or(years(5)).fixed(),
    evidence: list(Evidence, "a list of members of callData, such as [\"callData:/consentId\"]").optional(),
});

/// As `humantime` counts them: 365.25 days.
const fn years(years: u64) -> Duration {
    seconds(years * 31_557_600)
}

keys!(Runtime { workers: Workers.or(one_per_core()).fixed() });

/// A number of threads. 0 means one per core and is resolved when it is read.
struct Workers;

const MAX_WORKERS: usize = 1024;

fn one_per_core() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get).min(MAX_WORKERS)
}

impl Kind for Workers {
    type Value = usize;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<usize> {
        let workers = number(0..=MAX_WORKERS).read(value)?;
        Some(if workers == 0 { one_per_core() } else { workers })
    }

    fn write(&self, value: &usize) -> String {
        value.to_string()
    }

    fn describe(&self) -> ValueKind {
        number(0..=MAX_WORKERS).describe()
    }

    /// The default does not depend on the machine.
    fn describe_default(&self, _: &usize) -> String {
        "0".to_owned()
    }
}

keys!(Shutdown {
    delay: span(Duration::ZERO..=DAY).or(Duration::ZERO),
    drain: span(MILLISECOND..=DAY).or(seconds(30)),
});

keys!(Limits {
    connections: number(1..=1_000_000).or(20_000),
    connections_per_client: number(0..=1_000_000).or(0),
    held_polls: number(1..=1_000_000).or(10_000),
    polls_per_agent: number(0..=1000).or(20),
    requests: number(1..=1_000_000).or(4000),
    head_size: size(4 * KIB..=256 * KIB).or(32 * KIB),
    head_timeout: span(MILLISECOND..=DAY).or(seconds(10)),
    handshake_timeout: span(MILLISECOND..=DAY).or(seconds(10)),
    first_byte_timeout: span(MILLISECOND..=DAY).or(seconds(10)),
    idle_timeout: span(seconds(5)..=DAY)
        .because("an application pauses between two polls and would have to reconnect for each")
        .or(seconds(75)),
    body_idle_timeout: span(MILLISECOND..=DAY).or(seconds(60)),
    body_min_rate: size(1..=MIB).or(256),
    callout_body: size(256..=MIB).or(64 * KIB),
    callout_body_timeout: span(MILLISECOND..=DAY).or(seconds(10)),
    event_body: size(KIB..=64 * MIB).or(MIB),
});
