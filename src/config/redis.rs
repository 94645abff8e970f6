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
}

/// `redis://host[:port][/database]`, with `rediss` for TLS.
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

const DEFAULT_PORT: u16 = 6379;

/// Writes the URL as in the configuration, always with port and database.
impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tls, host, port, database } = self;
        let scheme = if *tls { "rediss" } else { "redis" };
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        write!(f, "{scheme}://{host}:{port}/{database}")
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
        ValueKind::Text("URL: redis or rediss, host, port and database")
    }
}

fn address(text: &str) -> Result<RedisUrl, Fault> {
    let wanted = || "write \"rediss://HOST:6379\", or redis:// for a connection without TLS".to_owned();
    let (scheme, rest) = text.split_once("://").ok_or_else(|| ("has no scheme", wanted()))?;
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "redis" => false,
        "rediss" => true,
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
    let database = if path.is_empty() { Some(0) } else { plain_number(path) };
    let database = database.ok_or_else(|| ("has a path that is no database number", wanted()))?;
    let (host, port) = host_and_port(authority)?;
    Ok(RedisUrl { tls, host, port: port.unwrap_or(DEFAULT_PORT), database })
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
