//! Which requests a web browser may make to the admin listener.
//!
//! The listener asks for no password, so a page of any web site could use an operator's browser to reach it. Two checks
//! stop that. A site that lets its own name resolve to the listener's address (DNS rebinding) still sends its own name as
//! `Host`. And a page that sends a form or a script's request to the listener still sends `Origin` or `Sec-Fetch-Site`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::{HOST, HeaderMap, HeaderValue, ORIGIN};
use http::{HeaderName, Method, Request, Version};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// The longest text that can be a host and a port.
const MAX_AUTHORITY: usize = 300;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No `Host`, or more than one.
    BadHost,
    /// `Host` is not a name of this listener.
    Misdirected,
    /// A browser sent it for a page of another site.
    OtherSite,
}

/// The names of one admin listener.
pub(super) struct Site<'a> {
    /// The address of the listener's end of the connection.
    pub(super) local: IpAddr,
    /// The host name of the machine.
    pub(super) machine: Option<&'a str>,
    /// `admin.hosts`
    pub(super) hosts: &'a [String],
}

impl Site<'_> {
    /// Refuses requests that name another host, and requests for a change that a page of another site made.
    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        let host = host_field(request)?;
        let target = request.uri().authority().map(|authority| authority.as_str());
        for authority in [host, target].into_iter().flatten() {
            let parsed = Authority::parse(authority).ok_or(Refusal::Misdirected)?;
            if !self.has(&parsed.host) {
                return Err(Refusal::Misdirected);
            }
        }
        let safe = matches!(*request.method(), Method::GET | Method::HEAD);
        if safe || is_same_site(request.headers(), host) { Ok(()) } else { Err(Refusal::OtherSite) }
    }

    fn has(&self, host: &Host) -> bool {
        let local = self.local.to_canonical();
        let own = match host {
            Host::Address(address) => *address == local || (address.is_loopback() && local.is_loopback()),
            Host::Name(name) if local.is_loopback() => name == "localhost" || name.ends_with(".localhost"),
            Host::Name(name) => self.machine.is_some_and(|machine| machine.eq_ignore_ascii_case(name)),
        };
        own || self.hosts.iter().any(|configured| Host::parse(configured).as_ref() == Some(host))
    }
}

/// The only `Host` of the request. HTTP/1.0, which load balancers probe with, has none; browsers do not use it.
fn host_field<B>(request: &Request<B>) -> Result<Option<&str>, Refusal> {
    let mut fields = request.headers().get_all(HOST).iter();
    match (fields.next(), fields.next()) {
        (Some(host), None) => host.to_str().map(Some).map_err(|_| Refusal::Misdirected),
        (None, _) if request.version() == Version::HTTP_10 => Ok(None),
        _ => Err(Refusal::BadHost),
    }
}

/// Whether no header shows that a page of another site made the request. Clients that are no browser send neither.
fn is_same_site(headers: &HeaderMap, host: Option<&str>) -> bool {
    let host = host.and_then(Authority::parse);
    let own_fetch = |value: &HeaderValue| matches!(value.as_bytes(), b"same-origin" | b"none");
    let own_origin = |value: &HeaderValue| {
        let origin = value.to_str().ok().and_then(parse_origin);
        origin.zip(host.as_ref()).is_some_and(|((origin, default_port), host)| {
            origin.host == host.host && origin.port.unwrap_or(default_port) == host.port.unwrap_or(default_port)
        })
    };
    headers.get_all(SEC_FETCH_SITE).iter().all(own_fetch) && headers.get_all(ORIGIN).iter().all(own_origin)
}

/// The authority of an `Origin`, and the default port of its scheme.
fn parse_origin(origin: &str) -> Option<(Authority, u16)> {
    let (scheme, authority) = origin.split_once("://")?;
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    Some((Authority::parse(authority)?, default_port))
}

/// `host` or `host:port`.
struct Authority {
    host: Host,
    port: Option<u16>,
}

impl Authority {
    fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_AUTHORITY {
            return None;
        }
        // The colons of an IPv6 address stand in brackets.
        let end_of_host = text.find(']').map_or(0, |bracket| bracket + 1);
        let (host, port) = match text.get(end_of_host..)?.find(':') {
            Some(colon) => (text.get(..end_of_host + colon)?, text.get(end_of_host + colon + 1..)?),
            None => (text, ""),
        };
        let port = match port {
            "" => None,
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            _ => return None,
        };
        Some(Self { host: Host::parse(host)?, port })
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    /// In lower case, without the dot at the end.
    Name(String),
}

impl Host {
    /// A host as in a URI. IPv6 addresses may also stand without brackets, as they do in `admin.hosts`.
    fn parse(text: &str) -> Option<Self> {
        let unbracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        if let Ok(address) = unbracketed.unwrap_or(text).parse::<Ipv6Addr>() {
            return Some(Self::Address(IpAddr::from(address).to_canonical()));
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Some(Self::Address(address.into()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        (!name.is_empty() && name.bytes().all(allowed)).then(|| Self::Name(name.to_ascii_lowercase()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Request<()> {
        let request = Request::builder().method(method).uri(target);
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(()).unwrap()
    }

    fn check(local: &str, headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let hosts = ["gateway.example".to_owned(), "192.0.2.7".to_owned(), "2001:db8::7".to_owned()];
        let site = Site { local: local.parse().unwrap(), machine: Some("Node-1"), hosts: &hosts };
        site.check(&request("POST", "/reload", headers))
    }

    #[test]
    fn the_host_is_a_name_or_an_address_of_the_listener() {
        for (local, host, own) in [
            ("127.0.0.1", "127.0.0.1:9043", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.9.9.9:1", true),
            ("127.0.0.1", "[::1]:9043", true),
            ("127.0.0.1", "[0:0:0:0:0:0:0:1]", true),
            ("127.0.0.1", "[::ffff:127.0.0.1]:9043", true),
            ("::ffff:127.0.0.1", "localhost:9043", true),
            ("::1", "LocalHost.:9043", true),
            ("::1", "localhost:", true),
            ("::1", "gate.localhost", true),
            ("127.0.0.1", "GATEWAY.example:443", true),
            ("127.0.0.1", "192.0.2.7", true),
            ("127.0.0.1", "[2001:db8::7]:80", true),
            ("10.0.0.5", "10.0.0.5:9043", true),
            ("10.0.0.5", "node-1:9043", true),
            ("2001:db8::1", "[2001:db8:0::1]", true),
            ("10.0.0.5", "localhost", false),
            ("10.0.0.5", "127.0.0.1", false),
            ("10.0.0.5", "10.0.0.6", false),
            ("10.0.0.5", "node-1.evil.example", false),
            ("127.0.0.1", "node-1", false),
            ("127.0.0.1", "10.0.0.5", false),
            ("127.0.0.1", "0.0.0.0", false),
            ("127.0.0.1", "evil.example", false),
            ("127.0.0.1", "evil.example:9043", false),
            ("127.0.0.1", "localhost.evil.example", false),
            ("127.0.0.1", "evillocalhost", false),
            ("127.0.0.1", "127.0.0.1.evil.example", false),
            ("127.0.0.1", "127.0.0.1@evil.example", false),
            ("127.0.0.1", "evil.example@127.0.0.1", false),
            ("127.0.0.1", "evil.example, localhost", false),
            ("127.0.0.1", "localhost evil.example", false),
            ("127.0.0.1", "localhost/", false),
            ("127.0.0.1", "localhost..", false),
            ("127.0.0.1", "127.1", false),
            ("127.0.0.1", "2130706433", false),
            ("127.0.0.1", "0x7f.0.0.1", false),
            ("127.0.0.1", "localhost:99999", false),
            ("127.0.0.1", "localhost:80x", false),
            ("127.0.0.1", "[::1]x", false),
            ("127.0.0.1", "[::1", false),
            ("127.0.0.1", "[localhost]", false),
            ("127.0.0.1", "", false),
            ("127.0.0.1", ".", false),
            ("127.0.0.1", ":9043", false),
        ] {
            let expected = if own { Ok(()) } else { Err(Refusal::Misdirected) };
            assert_eq!(check(local, &[("Host", host)]), expected, "{host:?} at {local}");
        }
    }

    #[test]
    fn there_is_exactly_one_host() {
        assert_eq!(check("127.0.0.1", &[]), Err(Refusal::BadHost));
        assert_eq!(check("127.0.0.1", &[("Host", "localhost"), ("Host", "localhost")]), Err(Refusal::BadHost));
        let mut old = request("GET", "/livez", &[]);
        *old.version_mut() = Version::HTTP_10;
        let site = Site { local: Ipv4Addr::LOCALHOST.into(), machine: None, hosts: &[] };
        assert_eq!(site.check(&old), Ok(()), "a load balancer's probe");
    }

    #[test]
    fn an_absolute_target_names_the_listener_too() {
        let site = Site { local: Ipv4Addr::LOCALHOST.into(), machine: None, hosts: &[] };
        let check = |target| site.check(&request("GET", target, &[("Host", "localhost:9043")]));
        assert_eq!(check("http://127.0.0.1:9043/config"), Ok(()));
        assert_eq!(check("http://evil.example/config"), Err(Refusal::Misdirected));
        assert_eq!(check("http://localhost@evil.example/config"), Err(Refusal::Misdirected));
    }

    #[test]
    fn pages_of_other_sites_change_nothing() {
        for (name, value, same) in [
            ("Origin", "http://localhost:9043", true),
            ("Origin", "http://LOCALHOST:9043", true),
            ("Origin", "http://localhost", false),
            ("Origin", "http://localhost:80", false),
            ("Origin", "http://127.0.0.1:9043", false),
            ("Origin", "http://evil.example", false),
            ("Origin", "http://localhost:9043.evil.example", false),
            ("Origin", "http://evil.example:9043", false),
            ("Origin", "null", false),
            ("Origin", "", false),
            ("Origin", "ftp://localhost:9043", false),
            ("Origin", "chrome-extension://localhost:9043", false),
            ("Sec-Fetch-Site", "same-origin", true),
            ("Sec-Fetch-Site", "none", true),
            ("Sec-Fetch-Site", "same-site", false),
            ("Sec-Fetch-Site", "cross-site", false),
            ("Sec-Fetch-Site", "", false),
            ("Sec-Fetch-Site", "Same-Origin", false),
            ("User-Agent", "curl/8", true),
        ] {
            let expected = if same { Ok(()) } else { Err(Refusal::OtherSite) };
            assert_eq!(check("127.0.0.1", &[("Host", "localhost:9043"), (name, value)]), expected, "{name}: {value}");
        }
        let both = [("Host", "localhost:9043"), ("Origin", "http://localhost:9043"), ("Origin", "http://evil.example")];
        assert_eq!(check("127.0.0.1", &both), Err(Refusal::OtherSite));
    }

    #[test]
    fn default_ports_may_be_left_out() {
        for (host, origin) in [
            ("gateway.example", "http://gateway.example"),
            ("gateway.example:80", "http://gateway.example"),
            ("gateway.example", "https://gateway.example"),
            ("gateway.example:443", "https://gateway.example"),
        ] {
            assert_eq!(check("127.0.0.1", &[("Host", host), ("Origin", origin)]), Ok(()), "{host} {origin}");
        }
    }
}
