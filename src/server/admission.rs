//! Who may connect, and how many at a time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::config::Limits;
use crate::log_throttle::LogThrottle;
use crate::telemetry::metrics::{Metrics, OpenGuard, ShedKind};

/// Counts the open connections, all of them and those of each client. One for all workers; a reload changes the limits,
/// not the counts.
pub struct Admission {
    counts: Mutex<Counts>,
    warnings: LogThrottle,
}

/// Open connections.
#[derive(Default)]
struct Counts {
    all: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// A connection that was admitted; counts for as long as this lives.
#[must_use = "a connection counts only as long as this lives"]
pub(super) struct Admitted {
    admission: Arc<Admission>,
    client: IpAddr,
    _open: OpenGuard,
}

impl Admission {
    /// Counts from zero.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { counts: Mutex::default(), warnings: LogThrottle::every(Duration::from_secs(10)) })
    }

    /// Admits one more connection from `peer`, unless a limit is reached. Each refusal is counted; the log has one line
    /// in ten seconds.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr, limits: &Limits, metrics: &Metrics) -> Option<Admitted> {
        let client = client_of(peer);
        let (all, of_client) = self.add(client);
        let _open = metrics.connections.downstream.enter();
        let admitted = Admitted { admission: Arc::clone(self), client, _open };
        let limit = if all > limits.connections {
            ShedKind::Connection
        } else if limits.connections_per_client > 0 && of_client > limits.connections_per_client {
            ShedKind::ClientConnection
        } else {
            return Some(admitted);
        };
        metrics.requests.shed(limit);
        if self.warnings.allow() {
            tracing::warn!(target: "previewgate::server", client = %peer, limit = limit.as_str(), "too many connections");
        }
        None
    }

    /// Counts a connection; the open connections of all clients and of this one, this connection included.
    fn add(&self, client: IpAddr) -> (usize, usize) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all += 1;
        let all = counts.all;
        let of_client = counts.by_client.entry(client).or_default();
        *of_client += 1;
        (all, *of_client)
    }

    fn remove(&self, client: IpAddr) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all = counts.all.saturating_sub(1);
        if let Entry::Occupied(mut entry) = counts.by_client.entry(client) {
            match *entry.get() {
                ..=1 => drop(entry.remove()),
                more => drop(entry.insert(more - 1)),
            }
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.remove(self.client);
    }
}

/// One client: an IPv4 address, or the 64 bits of an IPv6 address that are given to one network; the rest its owner
/// chooses at will (RFC 4291 2.5.4).
fn client_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Files};

    fn limits(connections: usize, connections_per_client: usize) -> Limits {
        let limits = format!("connections = {connections}\nconnections_per_client = {connections_per_client}");
        let text = format!("[upstream]\nendpoints = [\"http://localhost:8043\"]\n[limits]\n{limits}");
        config::parse(&text, "".as_ref(), Files::Skip).unwrap().limits
    }

    #[test]
    fn a_client_is_an_address_or_a_network_of_one_owner() {
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
        ] {
            let [one, other] = [one, other].map(|address| client_of(address.parse().unwrap()));
            assert_eq!(one == other, same, "{one} {other}");
        }
    }

    #[test]
    fn one_client_cannot_take_all_places() {
        let (admission, metrics, limits) = (Admission::new(), Metrics::new(), limits(3, 2));
        let [greedy, modest] = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().unwrap());
        let admit = |peer| admission.admit(peer, &limits, &metrics);
        let held: Vec<_> = (0..5).filter_map(|_| admit(greedy)).collect();
        assert_eq!(held.len(), 2);
        let last = admit(modest).unwrap();
        assert!(admit(modest).is_none(), "all are taken");
        drop(held);
        assert!(admit(greedy).is_some());
        drop(last);
        let counts = admission.counts.lock().unwrap();
        assert!(counts.all == 0 && counts.by_client.is_empty());
        drop(counts);
        assert_eq!(metrics.connections.downstream.open(), 0);
    }

    #[test]
    fn the_limit_counts_connections_and_does_not_read_the_metrics() {
        let (admission, metrics, limits) = (Admission::new(), Metrics::new(), limits(1, 0));
        let _gauge_is_not_a_count = (metrics.connections.downstream.enter(), metrics.connections.downstream.enter());
        assert!(admission.admit([192, 0, 2, 1].into(), &limits, &metrics).is_some());
    }

    #[test]
    fn without_a_limit_one_address_may_be_a_whole_site() {
        let (admission, metrics, limits) = (Admission::new(), Metrics::new(), limits(100, 0));
        let held: Vec<_> = (0..100).filter_map(|_| admission.admit([192, 0, 2, 1].into(), &limits, &metrics)).collect();
        assert_eq!(held.len(), 100);
    }
}
