//! Scheme, host and port of a server: of CC-Gateway, of an application that takes pushes, of this gateway.
//!
//! There is one parser, so that the configuration and the addresses that agents sign in with are compared in the same
//! spelling.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use rustls::pki_types::ServerName;

use crate::label_enum;

/// `scheme://host[:port]`, without a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndpointUrl {
    /// `http` or `https`.
    pub scheme: Scheme,
    /// DNS name in lower case, or IP address (IPv6 without brackets).
    pub host: String,
    /// Default 443 for `https`, 80 for `http`.
    pub port: u16,
}

label_enum! {
    /// Whether the connection uses TLS.
    pub enum Scheme {
        /// Plain HTTP/1.1.
        Http = "http",
        /// HTTP/1.1 over TLS 1.2 or 1.3.
        Https = "https",
    }
}

impl Scheme {
    /// The port of a URL that names none.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// The text is not an endpoint URL. The message says why and does not repeat the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidEndpointUrl(&'static str);

/// Writes the URL as in the configuration, always with its port.
impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port } = self;
        if host.contains(':') { write!(f, "{scheme}://[{host}]:{port}") } else { write!(f, "{scheme}://{host}:{port}") }
    }
}

impl FromStr for EndpointUrl {
    type Err = InvalidEndpointUrl;

    fn from_str(text: &str) -> Result<Self, InvalidEndpointUrl> {
        parse(text).map_err(|(message, _)| InvalidEndpointUrl(message))
    }
}

/// What is wrong with an address, in words that follow the key of the configuration, and how to correct it. Neither
/// repeats the address: it may contain a password.
pub(crate) type Fault = (&'static str, String);

/// Reads an endpoint URL.
pub(crate) fn parse(text: &str) -> Result<EndpointUrl, Fault> {
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
    Ok(EndpointUrl { scheme, host, port: port.unwrap_or(scheme.default_port()) })
}

/// Reads `host[:port]`. Different spellings of a host give the same result, so that duplicates are found.
pub(crate) fn host_and_port(authority: &str) -> Result<(String, Option<u16>), Fault> {
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

/// Reads the rest of an authority after the host: nothing, or a colon and digits.
pub(crate) fn port(rest: &str) -> Result<Option<u16>, Fault> {
    if rest.is_empty() {
        return Ok(None);
    }
    let digits = rest.strip_prefix(':').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|digits| digits.parse::<u16>().ok()).filter(|port| *port > 0) {
        Some(port) => Ok(Some(port)),
        None => Err(("has a port that is not one", "write a port from 1 to 65535, or none".to_owned())),
    }
}

/// Whether `text` is a DNS name or an IP address. `10.0.0.999` has only characters of a DNS name, but is a mistyped
/// address.
pub(crate) fn is_server_name(text: &str) -> bool {
    let last_label = text.rsplit('.').next().unwrap_or_default();
    let looks_like_address = !last_label.is_empty() && last_label.bytes().all(|byte| byte.is_ascii_digit());
    if looks_like_address { text.parse::<IpAddr>().is_ok() } else { ServerName::try_from(text).is_ok() }
}
