//! Limits on open connections, in all and for each client.
//!
//! Admission has two steps. An accepted connection counts for `limits.connections`. It counts for
//! `limits.connections_per_client` when its client is identified, which may take some bytes from the peer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::Limits;
use crate::downstream::network_of;
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

/// An accepted connection whose client is not identified yet. It counts as long as this value lives.
#[must_use = "a connection counts only as long as this lives"]
pub(super) struct Accepted {
    admission: Arc<Admission>,
    _open: OpenGuard,
}

/// A connection of an identified client. It counts as long as this value lives.
#[must_use = "a connection counts only as long as this lives"]
pub(super) struct Admitted {
    accepted: Accepted,
    client: IpAddr,
}

impl Admission {
    /// Counts from zero.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { counts: Mutex::default(), warnings: LogThrottle::every(Duration::from_secs(10)) })
    }

    /// Accepts one more connection, from `peer`, unless `limits.connections` is reached.
    pub(super) fn accept(self: &Arc<Self>, peer: IpAddr, limits: &Limits, metrics: &Metrics) -> Option<Accepted> {
        let all = {
            let mut counts = self.lock();
            counts.all += 1;
            counts.all
        };
        let accepted = Accepted { admission: Arc::clone(self), _open: metrics.connections.downstream.enter() };
        if all > limits.connections {
            self.refuse(peer, ShedKind::Connection, metrics);
            return None;
        }
        Some(accepted)
    }

    /// Counts the refusal. The log has one line in ten seconds.
    fn refuse(&self, client: IpAddr, limit: ShedKind, metrics: &Metrics) {
        metrics.requests.shed(limit);
        if self.warnings.allow() {
            tracing::warn!(target: "previewgate::server", %client, limit = limit.as_str(), "too many connections");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Accepted {
    /// Counts the connection for its client, unless `limits.connections_per_client` is reached.
    pub(super) fn identify(self, client: IpAddr, limits: &Limits, metrics: &Metrics) -> Option<Admitted> {
        let admission = Arc::clone(&self.admission);
        let counted = network_of(client);
        let of_client = {
            let mut counts = admission.lock();
            let of_client = counts.by_client.entry(counted).or_default();
            *of_client += 1;
            *of_client
        };
        let admitted = Admitted { accepted: self, client: counted };
        if limits.connections_per_client > 0 && of_client > limits.connections_per_client {
            admission.refuse(client, ShedKind::ClientConnection, metrics);
            return None;
        }
        Some(admitted)
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        let mut counts = self.admission.lock();
        counts.all = counts.all.saturating_sub(1);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut counts = self.accepted.admission.lock();
        if let Entry::Occupied(mut entry) = counts.by_client.entry(self.client) {
            match *entry.get() {
                ..=1 => drop(entry.remove()),
                more => drop(entry.insert(more - 1)),
            }
        }
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
            let [one, other] = [one, other].map(|address| network_of(address.parse().unwrap()));
            assert_eq!(one == other, same, "{one} {other}");
        }
    }

    #[test]
    fn one_client_cannot_take_all_places() {
        let (admission, metrics, limits) = (Admission::new(), Metrics::new(), limits(3, 2));
        let [greedy, modest] = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().unwrap());
        let admit = |peer| admission.accept(peer, &limits, &metrics)?.identify(peer, &limits, &metrics);
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
        assert!(admission.accept([192, 0, 2, 1].into(), &limits, &metrics).is_some());
    }

    #[test]
    fn a_connection_without_an_identified_client_counts_for_all_and_for_no_client() {
        let (admission, metrics, limits) = (Admission::new(), Metrics::new(), limits(2, 1));
        // The peer is a load balancer: each of its connections may be of another client.
        let peer = [192, 0, 2, 100].into();
        let [one, two] = [(); 2].map(|()| admission.accept(peer, &limits, &metrics).unwrap());
        assert!(admission.accept(peer, &limits, &metrics).is_none());
        let client = [198, 51, 100, 1].into();
        let _admitted = one.identify(client, &limits, &metrics).unwrap();
        assert!(two.identify(client, &limits, &metrics).is_none());
        assert!(admission.accept(peer, &limits, &metrics).is_some(), "the refused connection counts no longer");
    }

    #[test]
    fn without_a_limit_one_address_may_be_a_whole_site() {
        let (admission, metrics, limits) = (Admission::new(), Metrics::new(), limits(100, 0));
        let peer = [192, 0, 2, 1].into();
        let admit = || admission.accept(peer, &limits, &metrics)?.identify(peer, &limits, &metrics);
        let held: Vec<_> = (0..100).filter_map(|_| admit()).collect();
        assert_eq!(held.len(), 100);
    }
}
