//! Networks of addresses: whose pushes are accepted (`push.sources`).

use std::fmt;
use std::net::IpAddr;

use super::document::ValueRef;
use super::entry::Kind;
use super::reference::ValueKind;
use super::targets::first_bits;
use super::toml_text::quoted;

/// A network in CIDR notation, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether `ip` is in this network. An IPv4 address in IPv6 form counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.address.is_ipv4() && first_bits(ip, self.prefix) == first_bits(self.address, self.prefix)
    }
}

/// Writes the network as in the configuration.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = if self.address.is_ipv4() { 32 } else { 128 };
        if self.prefix == whole { write!(f, "{}", self.address) } else { write!(f, "{}/{}", self.address, self.prefix) }
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
    let width: u8 = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.map_or(Some(width), |bits| bits.parse().ok().filter(|bits| *bits <= width))?;
    // The bits beyond the prefix must be zero: with others, the reader and the writer may mean different networks.
    let host_bits = u32::from(width - prefix);
    let cleared = first_bits(address, prefix).checked_shl(host_bits).unwrap_or(0);
    (first_bits(address, width) == cleared).then_some(Network { address, prefix })
}

#[cfg(test)]
mod tests {
    use super::*;

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
