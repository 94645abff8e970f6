//! Kinds of value that name something on the network: endpoints, path prefixes, server names.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use rustls::pki_types::ServerName;
use toml::de::DeValue;

use super::entry::Kind;
use super::kinds::quoted;
use super::reading::Spot;
use crate::label_enum;

/// One upstream address, from `scheme://host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// `http` or `https`.
    pub scheme: Scheme,
    /// DNS name or IP address (IPv6 without brackets).
    pub host: String,
    /// Default 443 for `https`, 80 for `http`.
    pub port: u16,
    /// The name of the CC-Gateway node there: requests whose GUID ends in it go there first.
    pub node: Option<String>,
}

label_enum! {
    /// Whether TLS is spoken.
    pub enum Scheme {
        /// Plain HTTP/1.1.
        Http = "http",
        /// HTTP/1.1 over TLS 1.2 or 1.3.
        Https = "https",
    }
}

impl Scheme {
    /// The port of an endpoint that names none.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Text that is no endpoint, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidEndpoint(&'static str);

/// Stands in for one that is missing, until all problems are found: with a problem no configuration comes out.
impl Default for Endpoint {
    fn default() -> Self {
        Self { scheme: Scheme::Https, host: String::new(), port: Scheme::Https.default_port(), node: None }
    }
}

/// As in the configuration, the port always written.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port, node: _ } = self;
        if host.contains(':') { write!(f, "{scheme}://[{host}]:{port}") } else { write!(f, "{scheme}://{host}:{port}") }
    }
}

/// What is wrong, and the cure.
pub(super) type Fault = (&'static str, String);

/// An endpoint: its URL, or a table of its URL and more.
pub(super) struct EndpointEntry;

impl Kind for EndpointEntry {
    type Value = Endpoint;

    fn read(&self, spot: &mut Spot<'_, '_>) -> Option<Endpoint> {
        match spot.value() {
            DeValue::Table(table) => spot.fields(table, |section| {
                let url = section.find("url").map(|mut spot| EndpointUrl.read(&mut spot));
                let node = section.find("node").and_then(|mut spot| NodeName.read(&mut spot));
                if url.is_none() {
                    section.missing("url", "add `url = \"https://HOST:8043\"` to this endpoint");
                }
                url.flatten().map(|endpoint| Endpoint { node, ..endpoint })
            }),
            _ => EndpointUrl.read(spot),
        }
    }

    fn write(&self, value: &Endpoint) -> String {
        let url = EndpointUrl.write(value);
        match &value.node {
            Some(node) => format!("{{ url = {url}, node = {} }}", quoted(node)),
            None => url,
        }
    }
}

/// `scheme://host[:port]`, see [`Endpoint`].
pub(super) struct EndpointUrl;

impl Kind for EndpointUrl {
    type Value = Endpoint;

    fn read(&self, spot: &mut Spot<'_, '_>) -> Option<Endpoint> {
        let text = spot.text("an endpoint such as \"https://10.0.0.11:8043\"")?;
        match endpoint(text) {
            Ok(endpoint) => Some(endpoint),
            Err((message, cure)) => spot.wrong(message, &cure),
        }
    }

    fn write(&self, value: &Endpoint) -> String {
        quoted(&value.to_string())
    }
}

/// The end of the GUIDs that a node issues, after the last dot.
struct NodeName;

impl Kind for NodeName {
    type Value = String;

    fn read(&self, spot: &mut Spot<'_, '_>) -> Option<String> {
        const CURE: &str = "write what follows the last dot of the GUIDs of that node, such as \"AgentGateway1\"";
        let text = spot.text("the name of a node, such as \"AgentGateway1\"")?;
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'.') {
            return Some(text.to_owned());
        }
        spot.wrong("is not the name of a node", CURE)
    }

    fn write(&self, value: &String) -> String {
        quoted(value)
    }
}

impl std::str::FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        endpoint(text).map_err(|(message, _)| InvalidEndpoint(message))
    }
}

/// The cure never repeats the text: it may hold a password.
fn endpoint(text: &str) -> Result<Endpoint, Fault> {
    let only_origin = || "write only scheme, host and port, such as \"https://10.0.0.11:8043\"".to_owned();
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(("has no scheme", "write \"https://\" or \"http://\" before the host".to_owned()));
    };
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return Err(("has a scheme that is neither https nor http", only_origin())),
    };
    if rest.contains('@') {
        return Err(("has a user name or password", only_origin()));
    }
    if rest.contains(['?', '#']) {
        return Err(("has a query or fragment", only_origin()));
    }
    if rest.contains('/') {
        return Err(("has a path; every request brings its own", only_origin()));
    }
    let (host, port) = host_and_port(rest)?;
    Ok(Endpoint { scheme, host, port: port.unwrap_or(scheme.default_port()), node: None })
}

/// The host in its one spelling, so that the same endpoint written twice is seen as such.
pub(super) fn host_and_port(authority: &str) -> Result<(String, Option<u16>), Fault> {
    if let Some(bracketed) = authority.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']').ok_or_else(bad_ipv6)?;
        let address: Ipv6Addr = host.parse().map_err(|_| bad_ipv6())?;
        return Ok((address.to_string(), port(rest)?));
    }
    if authority.matches(':').count() > 1 {
        return Err(bad_ipv6());
    }
    let (host, rest) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
    if !is_server_name(host) {
        let cure = "write a DNS name or an IP address after the scheme".to_owned();
        return Err(("has a host that is neither a DNS name nor an IP address", cure));
    }
    Ok((host.to_ascii_lowercase(), port(rest)?))
}

fn bad_ipv6() -> Fault {
    (
        "has an IPv6 address that cannot be read",
        "write it in brackets, such as \"https://[2001:db8::1]:8043\"".to_owned(),
    )
}

/// `rest` is what follows the host: nothing, or a colon and digits.
pub(super) fn port(rest: &str) -> Result<Option<u16>, Fault> {
    if rest.is_empty() {
        return Ok(None);
    }
    let digits = rest.strip_prefix(':').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|digits| digits.parse::<u16>().ok()).filter(|port| *port > 0) {
        Some(port) => Ok(Some(port)),
        None => Err(("has a port that is not one", "write a port from 1 to 65535, or none".to_owned())),
    }
}

/// `10.0.0.999` is a DNS name by its characters, but nobody means one.
pub(super) fn is_server_name(text: &str) -> bool {
    let last_label = text.rsplit('.').next().unwrap_or_default();
    let looks_like_address = !last_label.is_empty() && last_label.bytes().all(|byte| byte.is_ascii_digit());
    if looks_like_address { text.parse::<IpAddr>().is_ok() } else { ServerName::try_from(text).is_ok() }
}

/// A DNS name or IP address to verify a certificate against.
pub(super) struct VerifiedName;

impl Kind for VerifiedName {
    type Value = String;

    fn read(&self, spot: &mut Spot<'_, '_>) -> Option<String> {
        const WANTED: &str = "a DNS name or an IP address, such as \"ccgateway.example.com\"";
        let text = spot.text(WANTED)?;
        if is_server_name(text) {
            return Some(text.to_owned());
        }
        spot.wrong("is neither a DNS name nor an IP address", &format!("write {WANTED}, without scheme and port"))
    }

    fn write(&self, value: &String) -> String {
        quoted(value)
    }
}

/// The beginning of a path, from `/` to `/`.
pub(super) struct PathPrefix;

impl Kind for PathPrefix {
    type Value = String;

    fn read(&self, spot: &mut Spot<'_, '_>) -> Option<String> {
        const CURE: &str = "write a plain path such as \"/agentgateway/\"";
        let prefix = spot.text("a path such as \"/agentgateway/\"")?;
        if !prefix.starts_with('/') || !prefix.ends_with('/') {
            return spot.wrong("does not start and end with `/`", CURE);
        }
        // A prefix that has two spellings would be compared with one of them only.
        if ["%", "..", "//", "/./", ";", "?", "#", "\\"].iter().any(|ambiguous| prefix.contains(ambiguous)) {
            return spot.wrong("contains `%`, `..`, `//`, `/./`, `;`, `?`, `#` or `\\`", CURE);
        }
        if prefix.starts_with("/previewgate/") {
            return spot.wrong("is the gateway's own and never forwarded", CURE);
        }
        if !prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
            return spot.wrong("contains a character that no path has unescaped", CURE);
        }
        Some(prefix.to_owned())
    }

    fn write(&self, value: &String) -> String {
        quoted(value)
    }
}

/// What an `http` probe asks for.
pub(super) struct ProbePath;

impl Kind for ProbePath {
    type Value = String;

    fn read(&self, spot: &mut Spot<'_, '_>) -> Option<String> {
        const CURE: &str = "write the plain path of a harmless resource, such as \"/agentgateway/\"";
        let path = spot.text("a path such as \"/agentgateway/\"")?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~?=&".contains(&byte);
        if !path.starts_with('/') || !path.bytes().all(plain) {
            return spot.wrong("is not a plain path", CURE);
        }
        // A GET of an agent's events takes them out of the platform's queue.
        if path.to_ascii_lowercase().contains("agentevent") {
            return spot.wrong("would take events away from their agents", CURE);
        }
        Some(path.to_owned())
    }

    fn write(&self, value: &String) -> String {
        quoted(value)
    }
}
