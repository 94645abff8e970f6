//! The client of a request that came through proxies: `X-Forwarded-For` and `Forwarded` (RFC 7239), read from the right.
//!
//! Each proxy appends the address of its peer. So the gateway's own peer has written the rightmost address, the proxy at
//! that address the next one, and so on. An address is believed only if everything to its right is a trusted proxy
//! (`listener.trusted_proxies`). Addresses further left are the client's own claim.

use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::downstream::ClientAddress;

/// The list of addresses that most proxies write.
pub(super) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What trusted proxies say about one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ProxyChain {
    /// The client; `None` if the peer is the client, or does not name one.
    pub(super) client: Option<Hop>,
    /// The believed end of `X-Forwarded-For`.
    pub(super) forwarded_for: Option<HeaderValue>,
    /// The believed end of `Forwarded`.
    pub(super) forwarded: Option<HeaderValue>,
    /// Both fields are there, and they name different clients.
    pub(super) contradicts_itself: bool,
}

/// An address as a proxy writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hop {
    ip: IpAddr,
    port: Option<u16>,
}

impl From<Hop> for ClientAddress {
    fn from(hop: Hop) -> Self {
        match hop.port {
            Some(port) => SocketAddr::new(hop.ip, port).into(),
            None => hop.ip.into(),
        }
    }
}

impl ProxyChain {
    /// Reads what `peer` says about the request.
    pub(super) fn read(headers: &HeaderMap, peer: IpAddr, is_trusted: impl Fn(IpAddr) -> bool) -> Self {
        if !is_trusted(peer) {
            return Self::default();
        }
        let by_list = walk(headers, &FORWARDED_FOR, node, &is_trusted);
        let by_standard = walk(headers, &header::FORWARDED, forwarded_for, &is_trusted);
        match (by_list.client, by_standard.client) {
            // Most proxies write one of the fields and pass the other on as their client wrote it.
            (Some(one), Some(other)) if one.ip != other.ip => Self { contradicts_itself: true, ..Self::default() },
            (one, other) => Self {
                client: one.or(other),
                forwarded_for: by_list.believed,
                forwarded: by_standard.believed,
                ..Self::default()
            },
        }
    }
}

#[derive(Default)]
struct Walk {
    client: Option<Hop>,
    believed: Option<HeaderValue>,
}

/// Walks one field from right to left, up to the first address that is no trusted proxy.
fn walk(
    headers: &HeaderMap,
    field: &HeaderName,
    hop_of: fn(&[u8]) -> Option<Hop>,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> Walk {
    let mut client = None;
    let mut believed: Vec<&[u8]> = Vec::new();
    let values: Vec<&HeaderValue> = headers.get_all(field).iter().collect();
    let elements = values.into_iter().rev().flat_map(|value| from_the_right(value.as_bytes(), b','));
    for element in elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty()) {
        // `unknown`, a name instead of an address, or no valid element: nothing further left can be believed.
        let Some(hop) = hop_of(element) else { break };
        client = Some(hop);
        believed.push(element);
        if !is_trusted(hop.ip) {
            break;
        }
    }
    believed.reverse();
    let believed = (!believed.is_empty()).then(|| HeaderValue::from_bytes(&believed.join(&b", "[..])).ok()).flatten();
    Walk { client, believed }
}

/// The elements of a list from right to left. A separator in a quoted string does not count. Reading from the right finds
/// the elements of trusted proxies even if a client has written an unfinished quoted string before them.
fn from_the_right(list: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(list);
    std::iter::from_fn(move || {
        let list = rest?;
        let mut quoted = false;
        let split = list.iter().enumerate().rposition(|(position, byte)| {
            quoted ^= *byte == b'"' && !is_escaped(list, position);
            *byte == separator && !quoted
        });
        let element = match split {
            Some(split) => {
                rest = list.get(..split);
                list.get(split + 1..)
            }
            None => {
                rest = None;
                Some(list)
            }
        };
        Some(element.unwrap_or_default())
    })
}

/// Whether a backslash makes the byte at `position` part of a quoted string.
fn is_escaped(list: &[u8], position: usize) -> bool {
    let before = list.get(..position).unwrap_or_default();
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// The `for` of one element of `Forwarded`: `for="[2001:db8::1]:4711";proto=https`. An element that has it twice is not
/// valid.
fn forwarded_for(element: &[u8]) -> Option<Hop> {
    let pairs = from_the_right(element, b';').filter_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = pair.split_at_checked(equals)?;
        name.trim_ascii().eq_ignore_ascii_case(b"for").then(|| value.get(1..).unwrap_or_default())
    });
    let mut values = pairs;
    let value = values.next()?;
    if values.next().is_some() { None } else { node(value) }
}

/// An address, with or without port and quotes: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `"[2001:db8::1]:80"`.
fn node(text: &[u8]) -> Option<Hop> {
    let text = text.trim_ascii();
    let text = text.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(text);
    let text = str::from_utf8(text).ok()?;
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().filter(IpAddr::is_ipv6);
    if let Some(ip) = text.parse().ok().or_else(bracketed) {
        return Some(Hop { ip: ip.to_canonical(), port: None });
    }
    let address: SocketAddr = text.parse().ok()?;
    Some(Hop { ip: address.ip().to_canonical(), port: Some(address.port()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PEER: &str = "10.0.0.5";

    fn is_trusted(ip: IpAddr) -> bool {
        let trusted = |text: &str| ip == text.parse::<IpAddr>().unwrap();
        trusted(PEER) || trusted("10.0.0.6") || trusted("2001:db8::5")
    }

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        fields.iter().map(field).collect()
    }

    fn chain(peer: &str, fields: &[(&str, &str)]) -> ProxyChain {
        ProxyChain::read(&headers(fields), peer.parse().unwrap(), is_trusted)
    }

    fn client(chain: &ProxyChain) -> String {
        chain.client.map(|hop| ClientAddress::from(hop).text.to_string()).unwrap_or_default()
    }

    #[test]
    fn lists_are_read_from_the_right_up_to_the_first_address_that_is_not_trusted() {
        for (fields, expected, believed) in [
            (vec!["198.51.100.1"], "198.51.100.1", "198.51.100.1"),
            (vec!["6.6.6.6, 198.51.100.1"], "198.51.100.1", "198.51.100.1"),
            (vec!["6.6.6.6, 198.51.100.1 , 10.0.0.6"], "198.51.100.1", "198.51.100.1, 10.0.0.6"),
            (vec!["6.6.6.6, 198.51.100.1", "10.0.0.6"], "198.51.100.1", "198.51.100.1, 10.0.0.6"),
            (vec!["10.0.0.6, 10.0.0.5"], "10.0.0.6", "10.0.0.6, 10.0.0.5"),
            (vec!["198.51.100.1:4711"], "198.51.100.1:4711", "198.51.100.1:4711"),
            (vec!["2001:db8::1"], "2001:db8::1", "2001:db8::1"),
            (vec!["[2001:DB8::1]"], "2001:db8::1", "[2001:DB8::1]"),
            (vec!["[2001:db8::1]:4711, 2001:db8::5"], "[2001:db8::1]:4711", "[2001:db8::1]:4711, 2001:db8::5"),
            (vec!["::ffff:198.51.100.1"], "198.51.100.1", "::ffff:198.51.100.1"),
            (vec!["\"198.51.100.1\""], "198.51.100.1", "\"198.51.100.1\""),
            (vec![", ,198.51.100.1,,"], "198.51.100.1", "198.51.100.1"),
            (vec!["6.6.6.6, unknown"], "", ""),
            (vec!["6.6.6.6, unknown, 10.0.0.6"], "10.0.0.6", "10.0.0.6"),
            (vec!["6.6.6.6, <script>, 10.0.0.6"], "10.0.0.6", "10.0.0.6"),
            (vec!["6.6.6.6, 198.51.100.256"], "", ""),
            (vec!["6.6.6.6, 198.51.100.1, "], "198.51.100.1", "198.51.100.1"),
            (vec!["fe80::1%eth0"], "", ""),
            (vec![""], "", ""),
        ] {
            let fields: Vec<_> = fields.into_iter().map(|value| ("x-forwarded-for", value)).collect();
            let chain = chain(PEER, &fields);
            assert_eq!(client(&chain), expected, "{fields:?}");
            let kept = chain.forwarded_for.as_ref().map_or("", |value| value.to_str().unwrap());
            assert_eq!(kept, believed, "{fields:?}");
        }
    }

    #[test]
    fn the_elements_of_forwarded_are_read_in_the_same_way() {
        for (value, expected, believed) in [
            ("for=198.51.100.1", "198.51.100.1", "for=198.51.100.1"),
            ("for=6.6.6.6, For=198.51.100.1;proto=https", "198.51.100.1", "For=198.51.100.1;proto=https"),
            ("for=\"198.51.100.1:4711\"", "198.51.100.1:4711", "for=\"198.51.100.1:4711\""),
            (
                "proto=https; for=\"[2001:db8::1]:4711\"",
                "[2001:db8::1]:4711",
                "proto=https; for=\"[2001:db8::1]:4711\"",
            ),
            ("for=\"[2001:db8::1]\"", "2001:db8::1", "for=\"[2001:db8::1]\""),
            ("by=\"a,b\";for=198.51.100.1, for=10.0.0.6", "198.51.100.1", "by=\"a,b\";for=198.51.100.1, for=10.0.0.6"),
            // The client has left a quoted string open, or hidden one in another.
            ("for=\"6.6.6.6, for=198.51.100.1", "198.51.100.1", "for=198.51.100.1"),
            ("for=\"\\\"6.6.6.6\", for=198.51.100.1;by=\"\\\"\"", "198.51.100.1", "for=198.51.100.1;by=\"\\\"\""),
            ("for=6.6.6.6, for=_hidden, for=10.0.0.6", "10.0.0.6", "for=10.0.0.6"),
            ("for=6.6.6.6, for=unknown", "", ""),
            ("for=6.6.6.6, for=_hidden", "", ""),
            ("for=6.6.6.6, for=198.51.100.1:_port", "", ""),
            ("for=6.6.6.6, proto=https", "", ""),
            ("for=6.6.6.6;for=198.51.100.1", "", ""),
            ("for=", "", ""),
            ("198.51.100.1", "", ""),
        ] {
            let chain = chain(PEER, &[("forwarded", value)]);
            assert_eq!(client(&chain), expected, "{value}");
            let kept = chain.forwarded.as_ref().map_or("", |value| value.to_str().unwrap());
            assert_eq!(kept, believed, "{value}");
        }
    }

    #[test]
    fn a_client_that_is_not_trusted_cannot_name_its_own_address() {
        let fields = [("x-forwarded-for", "6.6.6.6"), ("forwarded", "for=6.6.6.6")];
        assert_eq!(chain("198.51.100.1", &fields), ProxyChain::default());
    }

    #[test]
    fn two_fields_that_disagree_are_not_believed() {
        let agree = chain(PEER, &[("x-forwarded-for", "198.51.100.1"), ("forwarded", "for=\"198.51.100.1:80\"")]);
        assert_eq!((client(&agree).as_str(), agree.contradicts_itself), ("198.51.100.1", false));
        let disagree = chain(PEER, &[("x-forwarded-for", "198.51.100.1"), ("forwarded", "for=6.6.6.6")]);
        assert_eq!(disagree, ProxyChain { contradicts_itself: true, ..ProxyChain::default() });
    }

    proptest! {
        /// Whatever a client writes: what the trusted proxy appends to it decides.
        #[test]
        fn a_client_cannot_choose_its_address(claim in "[ -~]{0,60}", separate: bool) {
            for (name, own) in [("x-forwarded-for", "198.51.100.1"), ("forwarded", "for=198.51.100.1")] {
                let fields = if separate { vec![claim.clone(), own.to_owned()] } else { vec![format!("{claim}, {own}")] };
                let fields: Vec<_> = fields.iter().map(|value| (name, value.as_str())).collect();
                prop_assert_eq!(client(&chain(PEER, &fields)), "198.51.100.1");
            }
        }
    }
}
