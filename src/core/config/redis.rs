//! `[previews.store]` of kind `redis`: the Redis that several gateways share.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::document::ValueRef;
use super::entry::Kind;
use super::reference::ValueKind;
use super::toml_text::quoted;
use crate::endpoint_url::{Fault, host_and_port};
use crate::label_enum;

/// `[previews.store]` of kind `redis`
#[derive(Clone, Debug, PartialEq)]
pub struct RedisStore {
    /// Its address.
    pub url: RedisUrl,
    /// ACL user; the default user when absent.
    pub username: Option<String>,
    /// The file with the password in its only line, read at every connection. Absent: no authentication.
    pub password_file: Option<PathBuf>,
    /// PEM roots, for TLS; the system's when absent.
    pub ca: Option<PathBuf>,
    /// The beginning of every key name.
    pub prefix: String,
    /// Maximum time that a callout or an event waits for Redis. It is at most one second: an application may cancel a
    /// poll that takes longer than the platform's 10 s and this second (docs/protocol.md 9).
    pub timeout: Duration,
    /// How long after the start the gateway is not ready, and callouts wait, while Redis was never reached.
    pub start_timeout: Duration,
    /// The action for a callout if Redis does not respond in time.
    pub on_store_failure: OnStoreFailure,
    /// With "local": how long a preview counts after it was shown, or after Redis last answered, while Redis is away.
    pub local_grace: Duration,
    /// With "reject": maximum time that an answer which ends previews is held until Redis has the end.
    pub end_timeout: Duration,
    /// The action for such an answer when that time is over.
    pub on_end_timeout: OnEndTimeout,
}

/// `redis://host[:port][/database]`, `redis+sentinel://host[:port],…/master[/database]` or `redis+cluster://host[:port],…`;
/// with `rediss` for TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisUrl {
    /// Whether the connection uses TLS.
    pub tls: bool,
    /// DNS name or IP address (IPv6 without brackets).
    pub host: String,
    /// Default 6379.
    pub port: u16,
    /// Default 0.
    pub database: u16,
    /// How the address of the Redis to use is found.
    pub discovery: Discovery,
}

/// How the address of the Redis to use is found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Discovery {
    /// It is `host` and `port`.
    #[default]
    None,
    /// Sentinels are asked. `host` and `port` are the first one's.
    Sentinels(Sentinels),
    /// Nodes of a Redis Cluster are asked, in this order. `host` and `port` are the first one's.
    Cluster(Vec<(String, u16)>),
}

/// Sentinels, which name the present master.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sentinels {
    /// In the order in which they are asked.
    pub addresses: Vec<(String, u16)>,
    /// The name that they have for the master.
    pub master: String,
}

label_enum! {
    /// `previews.store.on_store_failure`
    pub enum OnStoreFailure {
        /// The callout is validated against the previews that this gateway has seen.
        Local = "local",
        /// The callout is refused as `store_unavailable`.
        Reject = "reject",
        /// The callout is forwarded unverified.
        Forward = "forward",
    }
}

label_enum! {
    /// `previews.store.on_end_timeout`
    pub enum OnEndTimeout {
        /// The answer is delivered. Until Redis has the end, another gateway can forward a callout of what has ended.
        Pass = "pass",
        /// The client gets an error instead.
        Fail = "fail",
    }
}

const DEFAULT_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26_379;

/// Writes the URL as in the configuration, always with port and database.
impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tls, host, port, database, discovery } = self;
        let scheme = if *tls { "rediss" } else { "redis" };
        match discovery {
            Discovery::None => write!(f, "{scheme}://{}/{database}", Authority(host, *port)),
            Discovery::Sentinels(Sentinels { addresses, master }) => {
                write!(f, "{scheme}+sentinel://{}/{master}/{database}", listed(addresses))
            }
            Discovery::Cluster(nodes) => write!(f, "{scheme}+cluster://{}", listed(nodes)),
        }
    }
}

fn listed(addresses: &[(String, u16)]) -> String {
    let addresses: Vec<_> = addresses.iter().map(|(host, port)| Authority(host, *port).to_string()).collect();
    addresses.join(",")
}

struct Authority<'a>(&'a str, u16);

impl fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(host, port) = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// See [`RedisUrl`].
pub(super) struct RedisAddress;

impl Kind for RedisAddress {
    type Value = RedisUrl;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<RedisUrl> {
        let text = value.text("an address such as \"rediss://redis.example.com:6379\"")?;
        match address(text) {
            Ok(url) => Some(url),
            Err((message, cure)) => {
                // Text before the host may be a password, even in a malformed URL.
                value.withhold(true);
                value.wrong(message, &cure)
            }
        }
    }

    fn write(&self, value: &RedisUrl) -> String {
        quoted(&value.to_string())
    }

    fn describe(&self) -> ValueKind {
        ValueKind::Text("URL: redis or rediss, also with +sentinel or +cluster, hosts, ports and database")
    }
}

fn address(text: &str) -> Result<RedisUrl, Fault> {
    let wanted = || "write \"rediss://HOST:6379\", or redis:// for a connection without TLS".to_owned();
    let (scheme, rest) = text.split_once("://").ok_or_else(|| ("has no scheme", wanted()))?;
    let scheme = scheme.to_ascii_lowercase();
    let (protocol, discovery) = scheme.split_once('+').unwrap_or((&scheme, ""));
    let tls = match (protocol, discovery) {
        ("redis", "" | "sentinel" | "cluster") => false,
        ("rediss", "" | "sentinel" | "cluster") => true,
        _ => return Err(("has a scheme that is neither rediss nor redis", wanted())),
    };
    if rest.contains('@') {
        let cure = "put the password into a file and name it in password_file, and the user in username";
        return Err(("has a user name or password", cure.to_owned()));
    }
    if rest.contains(['?', '#']) {
        return Err(("has a query or fragment", wanted()));
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    match discovery {
        "sentinel" => return by_sentinels(tls, authority, path),
        "cluster" => return in_cluster(tls, authority, path),
        _ => {}
    }
    let database = if path.is_empty() { Some(0) } else { plain_number(path) };
    let database = database.ok_or_else(|| ("has a path that is no database number", wanted()))?;
    let (host, port) = host_and_port(authority)?;
    Ok(RedisUrl { tls, host, port: port.unwrap_or(DEFAULT_PORT), database, discovery: Discovery::None })
}

fn by_sentinels(tls: bool, authorities: &str, path: &str) -> Result<RedisUrl, Fault> {
    let wanted = || "write \"redis+sentinel://HOST:26379,HOST:26379/MASTER\"".to_owned();
    let (master, database) = path.split_once('/').unwrap_or((path, "0"));
    if master.is_empty() || !master.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        return Err(("has no name of a master after the sentinels", wanted()));
    }
    let database = plain_number(database).ok_or_else(|| ("has a path that is no database number", wanted()))?;
    let addresses = addresses(authorities, SENTINEL_PORT)?;
    let (host, port) = addresses.first().cloned().ok_or_else(|| ("names no sentinel", wanted()))?;
    let discovery = Discovery::Sentinels(Sentinels { addresses, master: master.to_owned() });
    Ok(RedisUrl { tls, host, port, database, discovery })
}

fn in_cluster(tls: bool, authorities: &str, path: &str) -> Result<RedisUrl, Fault> {
    let wanted = || "write \"redis+cluster://HOST:6379,HOST:6379\"".to_owned();
    if !path.is_empty() {
        return Err(("has a path, but a cluster has no databases to choose from", wanted()));
    }
    let nodes = addresses(authorities, DEFAULT_PORT)?;
    let (host, port) = nodes.first().cloned().ok_or_else(|| ("names no node", wanted()))?;
    Ok(RedisUrl { tls, host, port, database: 0, discovery: Discovery::Cluster(nodes) })
}

fn addresses(authorities: &str, default_port: u16) -> Result<Vec<(String, u16)>, Fault> {
    let address = |authority| host_and_port(authority).map(|(host, port)| (host, port.unwrap_or(default_port)));
    authorities.split(',').map(address).collect()
}

/// The part of a key by which a Redis Cluster chooses the node, if it is not the whole key: what stands between the first
/// brace and the next closing one.
pub(super) fn hash_tag(key: &str) -> Option<&str> {
    let (_, rest) = key.split_once('{')?;
    rest.split_once('}').map(|(tag, _)| tag).filter(|tag| !tag.is_empty())
}

fn plain_number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Text without blanks and control characters, such as a user name or a key prefix.
pub(super) struct PlainText;

impl Kind for PlainText {
    type Value = String;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<String> {
        const WANTED: &str = "1 to 64 visible ASCII characters, without blanks";
        let text = value.text(WANTED)?;
        if (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Some(text.to_owned());
        }
        value.wrong("is empty, too long, or has other characters", &format!("write {WANTED}"))
    }

    fn write(&self, value: &String) -> String {
        quoted(value)
    }

    fn describe(&self) -> ValueKind {
        ValueKind::Text("1 to 64 visible ASCII characters")
    }
}
