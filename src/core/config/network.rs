//! Networks of addresses: which proxies may name the client (`listener.trusted_proxies`), where pushes may come from
//! (`push.sources`), and where they may go (`push.allowed_targets`).

use std::fmt;
use std::net::IpAddr;

use super::document::ValueRef;
use super::entry::Kind;
use super::reference::ValueKind;
use super::toml_text::quoted;

/// The bits of an IPv6 address before the IPv4 address in it (RFC 4291 2.5.5.2).
const MAPPED_BITS: u8 = 96;

/// A network in CIDR notation, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// The network that begins at `address`. `None` if the prefix is too long, or if bits beyond it are set: then the
    /// operator may mean another network.
    ///
    /// An IPv4 network in IPv6 form counts as IPv4.
    pub(super) fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let (address, prefix) = match (address.to_canonical(), prefix.checked_sub(MAPPED_BITS)) {
            (ip, Some(prefix)) if ip != address => (ip, prefix),
            _ => (address, prefix),
        };
        let host_bits = u32::from(width(address).checked_sub(prefix)?);
        let cleared = first_bits(address, prefix).checked_shl(host_bits).unwrap_or(0);
        (first_bits(address, width(address)) == cleared).then_some(Self { address, prefix })
    }

    /// The network of one address.
    pub(super) fn of_address(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self { address, prefix: width(address) }
    }

    /// Whether this is every address of its family.
    pub(super) fn is_everything(&self) -> bool {
        self.prefix == 0
    }

    /// Writes the network as the host of a URL: IPv6 in brackets.
    pub(super) fn write_as_host(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V4(ip) => write!(f, "{ip}")?,
            IpAddr::V6(ip) => write!(f, "[{ip}]")?,
        }
        self.write_prefix(f)
    }

    fn write_prefix(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == width(self.address) { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }

    /// Whether `ip` is in this network. An IPv4 address in IPv6 form counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.address.is_ipv4() && first_bits(ip, self.prefix) == first_bits(self.address, self.prefix)
    }
}

/// Writes the network as in the configuration.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        self.write_prefix(f)
    }
}

/// See [`Network`].
pub(super) struct NetworkKind;

impl Kind for NetworkKind {
    type Value = Network;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<Network> {
        let text = value.text("a network such as \"10.1.0.0/16\" or an address")?;
        match network(text) {
            Some(network) => Some(network),
            None => value.wrong(
                "is not a network or an address",
                "write an address, or the first address of a network and the length of its prefix, such as 10.1.0.0/16",
            ),
        }
    }

    fn write(&self, value: &Network) -> String {
        quoted(&value.to_string())
    }

    fn describe(&self) -> ValueKind {
        ValueKind::Text("a network in CIDR notation, or an address")
    }
}

fn network(text: &str) -> Option<Network> {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let address: IpAddr = address.parse().ok()?;
    match prefix {
        Some(prefix) => Network::new(address, prefix.parse().ok()?),
        None => Some(Network::of_address(address)),
    }
}

/// The bits of an address of this family.
pub(super) fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The first `prefix` bits of an address, shifted to the right.
fn first_bits(ip: IpAddr, prefix: u8) -> u128 {
    let bits = match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    bits.checked_shr(u32::from(width(ip).saturating_sub(prefix))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_network_in_ipv6_form_is_that_ipv4_network() {
        for (text, canonical) in [
            ("::ffff:10.1.0.0/112", "10.1.0.0/16"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::ffff:10.1.2.3/128", "10.1.2.3"),
        ] {
            assert_eq!(network(text).unwrap().to_string(), canonical);
        }
        assert!(network("::ffff:10.1.2.3/112").is_none(), "bits beyond the prefix");
    }

    #[test]
    fn networks_contain_their_addresses_only() {
        for (text, inside, outside) in [
            ("10.1.0.0/16", vec!["10.1.0.0", "10.1.255.255", "::ffff:10.1.2.3"], vec!["10.2.0.0", "::1"]),
            ("10.1.2.3", vec!["10.1.2.3"], vec!["10.1.2.4"]),
            ("0.0.0.0/0", vec!["1.2.3.4"], vec!["::1"]),
            ("2001:db8::/32", vec!["2001:db8:1::1"], vec!["2001:db9::1", "10.1.2.3"]),
            ("::/0", vec!["::1"], vec!["10.1.2.3"]),
        ] {
            let network = network(text).unwrap();
            assert_eq!(network.to_string(), text);
            assert!(inside.iter().all(|ip| network.contains(ip.parse().unwrap())), "{text}");
            assert!(!outside.iter().any(|ip| network.contains(ip.parse().unwrap())), "{text}");
        }
    }

    #[test]
    fn other_text_is_no_network() {
        for text in
            ["", "10.1.0.0/33", "10.1.2.3/16", "10.1.0.0/", "a.example", "10.1.0.0/16/8", "10.1.0.0:80", "::/129"]
        {
            assert_eq!(network(text), None, "{text}");
        }
    }
}
