//! The allowed targets of pushes: `push.allowed_targets`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::document::ValueRef;
use super::entry::Kind;
use super::network::{Network, width};
use super::reference::ValueKind;
use super::toml_text::quoted;
use crate::endpoint_url::{EndpointUrl, Fault, Scheme, host_and_port, is_server_name, port};

/// Applications that may receive pushes, written `[scheme://]host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedTarget {
    /// The only allowed scheme; `None` allows both.
    pub scheme: Option<Scheme>,
    /// The allowed hosts.
    pub host: AllowedHost,
    /// The only allowed port; `None` allows any.
    pub port: Option<u16>,
}

/// Hosts that may receive pushes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedHost {
    /// A name in lower case, compared with the name that the application uses.
    Name(String),
    /// `*.example`: any name with this ending, which begins with the dot.
    Below(String),
    /// A network, or one address.
    Network(Network),
}

impl AllowedTarget {
    /// Whether an application may use `origin` as its target. Names are compared as text. The owner of a name chooses its
    /// addresses, so that [`AllowedTarget::reaches`] checks the resolved address too.
    pub fn names(&self, origin: &EndpointUrl) -> bool {
        let host = match &self.host {
            AllowedHost::Name(name) => *name == origin.host,
            AllowedHost::Below(suffix) => {
                origin.host.strip_suffix(suffix.as_str()).is_some_and(|label| !label.is_empty())
            }
            AllowedHost::Network(_) => {
                origin.host.parse().is_ok_and(|ip| self.reaches(origin.scheme, SocketAddr::new(ip, origin.port)))
            }
        };
        host && self.fits(origin.scheme, origin.port)
    }

    /// Whether this is a network that contains `address`.
    pub fn reaches(&self, scheme: Scheme, address: SocketAddr) -> bool {
        let inside = match &self.host {
            AllowedHost::Network(network) => network.contains(address.ip()),
            AllowedHost::Name(_) | AllowedHost::Below(_) => false,
        };
        inside && self.fits(scheme, address.port())
    }

    fn fits(&self, scheme: Scheme, port: u16) -> bool {
        self.scheme.is_none_or(|only| only == scheme) && self.port.is_none_or(|only| only == port)
    }

    /// Whether this allows every address.
    pub fn is_everything(&self) -> bool {
        matches!(&self.host, AllowedHost::Network(network) if network.is_everything())
    }
}

/// Writes the target as in the configuration.
impl fmt::Display for AllowedTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = self.scheme {
            write!(f, "{scheme}://")?;
        }
        match &self.host {
            AllowedHost::Name(name) => f.write_str(name)?,
            AllowedHost::Below(suffix) => write!(f, "*{suffix}")?,
            AllowedHost::Network(network) => network.write_as_host(f)?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// See [`AllowedTarget`].
pub(super) struct Target;

impl Kind for Target {
    type Value = AllowedTarget;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<AllowedTarget> {
        let text = value.text("a target such as \"https://10.1.0.0/16\" or \"http://cti.example:9000\"")?;
        match target(text) {
            Ok(target) => Some(target),
            Err((message, cure)) => value.wrong(message, &cure),
        }
    }

    fn write(&self, value: &AllowedTarget) -> String {
        quoted(&value.to_string())
    }

    fn describe(&self) -> ValueKind {
        ValueKind::Text("scheme, host or network, and port")
    }
}

fn target(text: &str) -> Result<AllowedTarget, Fault> {
    let (scheme, rest) = match text.split_once("://") {
        None => (None, text),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Some(Scheme::Http), rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Some(Scheme::Https), rest),
        Some(_) => return Err(("has a scheme that is neither https nor http", cure())),
    };
    let (host, port) = match rest.strip_prefix("*.") {
        Some(rest) => below(rest)?,
        None => name_or_network(rest)?,
    };
    Ok(AllowedTarget { scheme, host, port })
}

fn cure() -> String {
    "write [scheme://]host[:port] with a name, *.name, an address or a network as host".to_owned()
}

/// Reads the part after `*.`.
fn below(rest: &str) -> Result<(AllowedHost, Option<u16>), Fault> {
    let (name, rest) = rest.split_at(rest.find(':').unwrap_or(rest.len()));
    if !is_server_name(name) || name.parse::<IpAddr>().is_ok() {
        return Err(("has no DNS name after `*.`", cure()));
    }
    Ok((AllowedHost::Below(format!(".{}", name.to_ascii_lowercase())), port(rest)?))
}

fn name_or_network(rest: &str) -> Result<(AllowedHost, Option<u16>), Fault> {
    let Some((host, rest)) = rest.split_once('/') else {
        let (host, port) = host_and_port(rest).map_err(|(message, _)| (message, cure()))?;
        return Ok(match host.parse() {
            Ok(ip) => (AllowedHost::Network(Network::of_address(ip)), port),
            Err(_) => (AllowedHost::Name(host), port),
        });
    };
    let path = || ("has a path or a network that cannot be read", format!("{}, such as 10.1.0.0/16", cure()));
    let ip: IpAddr = host.trim_start_matches('[').trim_end_matches(']').parse().map_err(|_| path())?;
    let (bits, rest) = rest.split_at(rest.find(':').unwrap_or(rest.len()));
    let prefix = bits.parse::<u8>().ok().filter(|prefix| *prefix <= width(ip)).ok_or_else(path)?;
    let beyond = || ("has bits set beyond its prefix", "write the first address of the network".to_owned());
    let network = Network::new(ip, prefix).ok_or_else(beyond)?;
    Ok((AllowedHost::Network(network), port(rest)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> AllowedTarget {
        target(text).unwrap_or_else(|(message, _)| panic!("{text} {message}"))
    }

    #[test]
    fn each_form_allows_its_hosts_only() {
        for (allowed, yes, no) in [
            (
                "https://10.1.0.0/16",
                vec!["https://10.1.2.3:9000"],
                vec!["http://10.1.2.3", "https://10.2.0.1", "https://a"],
            ),
            ("10.1.2.3:9000", vec!["http://10.1.2.3:9000"], vec!["http://10.1.2.3", "http://10.1.2.4:9000"]),
            ("[2001:db8::]/32", vec!["https://[2001:db8:1::1]"], vec!["https://[2001:db9::1]", "https://10.0.0.1"]),
            ("0.0.0.0/0", vec!["http://1.2.3.4", "https://[::ffff:1.2.3.4]"], vec!["http://[::1]", "http://a"]),
            ("[::]/0", vec!["http://[::1]"], vec!["http://1.2.3.4"]),
            (
                "http://CTI.example:9000",
                vec!["http://cti.EXAMPLE:9000"],
                vec!["http://a.cti.example:9000", "http://cti.example"],
            ),
            (
                "*.cti.example",
                vec!["https://a.cti.example", "http://a.b.cti.example:1"],
                vec!["https://cti.example", "https://xcti.example"],
            ),
        ] {
            let allowed = parsed(allowed);
            for (origins, expected) in [(yes, true), (no, false)] {
                for origin in origins {
                    assert_eq!(allowed.names(&origin.parse().unwrap()), expected, "{allowed} {origin}");
                }
            }
        }
    }

    #[test]
    fn targets_are_written_as_they_are_read() {
        for text in [
            "https://10.1.0.0/16",
            "10.1.2.3",
            "10.1.2.3:9000",
            "http://[2001:db8::]/32:9000",
            "[2001:db8::1]:1",
            "0.0.0.0/0",
            "[::]/0",
            "cti.example",
            "https://*.cti.example:9443",
        ] {
            assert_eq!(parsed(text).to_string(), text);
        }
        assert_eq!(parsed("10.1.2.3/32").to_string(), "10.1.2.3");
    }

    #[test]
    fn invalid_targets_are_refused() {
        for text in [
            "",
            "*",
            "*.",
            "*.10.0.0.1",
            "ftp://a",
            "https://",
            "https://a/",
            "https://a/x",
            "10.1.0.0/33",
            "10.1.0.0/",
            "10.1.2.3/16",
            "10.1.0.0/16:0",
            "2001:db8::/32x",
            "a b",
            "user@a",
            "a:",
            "*.a:x",
            "https://*",
            "a.*",
        ] {
            assert!(target(text).is_err(), "{text}");
        }
    }
}
