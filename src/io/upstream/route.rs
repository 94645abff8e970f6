//! The order in which endpoints are tried for a request. Pure: no clock, no sockets.

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderValue;
use smallvec::SmallVec;

use super::health::Health;
use crate::config::Balance;
use crate::preview::AgentId;

/// The parts of a request that decide about its endpoint.
#[derive(Clone, Copy, Default)]
pub struct RoutingKey<'a> {
    /// The agent of the request.
    pub agent: Option<AgentId>,
    /// The node that the agent is signed in at (docs/protocol.md 1): the end of the GUID, never the GUID.
    node: Option<&'a str>,
}

impl<'a> RoutingKey<'a> {
    /// `guid` is a credential: only the name of the node at its end is kept.
    pub fn new(agent: Option<AgentId>, guid: Option<&'a HeaderValue>) -> Self {
        let text = guid.and_then(|guid| guid.to_str().ok());
        let node = text.and_then(|guid| guid.trim_ascii().rsplit_once('.')).map(|(_, node)| node);
        Self { agent, node: node.filter(|node| !node.is_empty()) }
    }
}

/// Positions of endpoints in the order in which to try them. Never empty if there are endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route(pub(super) SmallVec<[usize; FEW]>);

/// As many endpoints need no allocation.
const FEW: usize = 4;

/// An endpoint, as far as the order depends on it.
pub(super) struct Candidate<'a> {
    /// `scheme://host:port`
    pub(super) name: &'a str,
    pub(super) node: Option<&'a str>,
    pub(super) health: Health,
}

/// The order for `key`: the endpoint of its node, then by `balance`. Ejected endpoints come last, in the same order: to
/// try one of them is better than to try none.
pub(super) fn order<'a>(
    candidates: impl IntoIterator<Item = Candidate<'a>>,
    balance: Balance,
    key: RoutingKey<'_>,
) -> Route {
    let rank = |(position, candidate): (usize, Candidate<'a>)| {
        let elsewhere = key.node.is_none() || candidate.node != key.node;
        let weight = match (balance, key.agent) {
            (Balance::Agent, Some(agent)) => u64::MAX - weight(agent, candidate.name),
            // A request without an agent goes by the configured order.
            (Balance::Agent, None) | (Balance::Ordered, _) => 0,
        };
        (candidate.health == Health::Ejected, elsewhere, weight, position)
    };
    let mut ranks: SmallVec<[_; FEW]> = candidates.into_iter().enumerate().map(rank).collect();
    ranks.sort_unstable();
    Route(ranks.into_iter().map(|(.., position)| position).collect())
}

/// Rendezvous hashing: each agent goes to the endpoint with the highest weight, so that an endpoint that comes or goes
/// moves only the agents that are its own. Every gateway and every release must agree on it: the first 8 bytes,
/// big-endian, of the SHA-256 of the agent ID in decimal, a line feed, and `scheme://host:port`.
fn weight(agent: AgentId, endpoint: &str) -> u64 {
    let hash = digest(&SHA256, format!("{agent}\n{endpoint}").as_bytes());
    hash.as_ref().first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::Health::{Ejected, HalfOpen, Healthy};
    use super::*;

    const NAMES: [&str; 4] = ["https://a:8043", "https://b:8043", "https://c:8043", "https://d:8043"];

    fn agent(number: u32) -> AgentId {
        AgentId::try_from(number).unwrap()
    }

    /// Nodes N0, N1, … at a, b, …
    fn candidates(standings: &[Health]) -> Vec<Candidate<'_>> {
        let nodes = ["N0", "N1", "N2", "N3"];
        let candidate =
            |(i, health): (usize, &Health)| Candidate { name: NAMES[i], node: Some(nodes[i]), health: *health };
        standings.iter().enumerate().map(candidate).collect()
    }

    #[test]
    fn ordered() {
        type Case = (&'static [Health], Option<&'static str>, &'static [usize]);
        let cases: &[Case] = &[
            (&[Healthy, Healthy, Healthy], None, &[0, 1, 2]),
            (&[Ejected, Healthy, Healthy], None, &[1, 2, 0]),
            (&[HalfOpen, Healthy, Healthy], None, &[0, 1, 2]),
            (&[Ejected, Ejected, Healthy], None, &[2, 0, 1]),
            (&[Ejected, Ejected, Ejected], None, &[0, 1, 2]),
            (&[Ejected], None, &[0]),
            // The node of the GUID comes first, unless it is ejected. Unknown nodes have no effect.
            (&[Healthy, Healthy, Healthy], Some("N2"), &[2, 0, 1]),
            (&[Healthy, Healthy, Ejected], Some("N2"), &[0, 1, 2]),
            (&[Ejected, Ejected, Ejected], Some("N1"), &[1, 0, 2]),
            (&[Healthy, Healthy], Some("n1"), &[0, 1]),
            (&[Healthy, Healthy], Some("elsewhere"), &[0, 1]),
            (&[], None, &[]),
        ];
        for (standings, node, expected) in cases {
            let key = RoutingKey { agent: Some(agent(20000)), node: *node };
            let route = order(candidates(standings), Balance::Ordered, key);
            assert_eq!(*route.0, **expected, "{standings:?} {node:?}");
        }
    }

    #[test]
    fn endpoints_without_a_node_match_no_guid() {
        let mut candidates = candidates(&[Healthy, Healthy]);
        candidates[1].node = None;
        assert_eq!(order(candidates, Balance::Ordered, RoutingKey::default()), Route(smallvec![0, 1]));
    }

    #[test]
    fn weights_are_the_same_in_all_gateways_and_releases() {
        // printf '20000\nhttps://10.0.0.11:8043' | sha256sum | head -c 16
        for (number, endpoint, expected) in VECTORS {
            assert_eq!(format!("{:016x}", weight(agent(*number), endpoint)), *expected);
        }
    }

    const VECTORS: &[(u32, &str, &str)] = &[
        (20000, "https://10.0.0.11:8043", "c08e8975df2ac6ba"),
        (20000, "https://10.0.0.12:8043", "c758b55538f8be9d"),
        (101, "http://127.0.0.1:8000", "d75469346340fc88"),
        (999_999, "https://[2001:db8::1]:443", "cfa99a3c8e9e4295"),
    ];

    fn first(number: u32, standings: &[Health]) -> usize {
        let key = RoutingKey { agent: Some(agent(number)), node: None };
        order(candidates(standings), Balance::Agent, key).0[0]
    }

    #[test]
    fn an_endpoint_that_is_ejected_moves_only_its_own_agents() {
        let mut shares = [0; 4];
        let mut heirs = [0; 4];
        for number in 10_000..14_000 {
            let home = first(number, &[Healthy; 4]);
            let without_a = first(number, &[Ejected, Healthy, Healthy, Healthy]);
            shares[home] += 1;
            if home == 0 { heirs[without_a] += 1 } else { assert_eq!(home, without_a) }
        }
        assert!(shares.iter().all(|share| (900..1100).contains(share)), "{shares:?}");
        assert!(heirs[0] == 0 && heirs[1..].iter().all(|share| (250..420).contains(share)), "{heirs:?}");
    }

    #[test]
    fn the_node_counts_more_than_the_hash() {
        for number in 10_000..10_100 {
            let key = RoutingKey { agent: Some(agent(number)), node: Some("N3") };
            let route = order(candidates(&[Healthy; 4]), Balance::Agent, key);
            assert_eq!(route.0[0], 3);
            let hashed = order(candidates(&[Healthy; 3]), Balance::Agent, RoutingKey { node: None, ..key });
            assert_eq!(route.0[1..], *hashed.0, "the rest in their order");
        }
        let without_agent = order(candidates(&[Healthy; 3]), Balance::Agent, RoutingKey::default());
        assert_eq!(without_agent, Route(smallvec![0, 1, 2]));
    }

    #[test]
    fn the_node_is_what_follows_the_last_dot() {
        for (guid, expected) in [
            ("7c9d2a5e-4c51-4d2f-9a51-0c6a5d1b0e77.AgentGateway1", Some("AgentGateway1")),
            (" a.b.node ", Some("node")),
            ("no-node", None),
            ("ends-with.", None),
            ("", None),
        ] {
            let value = HeaderValue::from_static(guid);
            assert_eq!(RoutingKey::new(None, Some(&value)).node, expected, "{guid}");
        }
        let opaque = HeaderValue::from_bytes(b"\xff.node").unwrap();
        assert_eq!(RoutingKey::new(None, Some(&opaque)).node, None);
        assert_eq!(RoutingKey::new(None, None).node, None);
    }
}
