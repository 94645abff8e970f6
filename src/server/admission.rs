//! Limits on open connections, in all and for each client.
//!
//! Admission has two steps. An accepted connection counts for `limits.connections`. It counts for
//! `limits.connections_per_client` when its client is identified, which may take some bytes from the peer.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::config::Limits;
use crate::gateway::{ClientPlace, Generation};
use crate::log_throttle::LogThrottle;
use crate::telemetry::metrics::{Metrics, OpenGuard, ShedKind};

/// Counts the open connections. One for all workers; a reload changes the limits, not the counts.
pub struct Admission {
    open: AtomicUsize,
    warnings: LogThrottle,
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
    _accepted: Accepted,
    _place: Option<ClientPlace>,
}

impl Admission {
    /// Counts from zero.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { open: AtomicUsize::new(0), warnings: LogThrottle::every(Duration::from_secs(10)) })
    }

    /// Accepts one more connection, from `peer`, unless `limits.connections` is reached.
    pub(super) fn accept(self: &Arc<Self>, peer: IpAddr, limits: &Limits, metrics: &Metrics) -> Option<Accepted> {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        let accepted = Accepted { admission: Arc::clone(self), _open: metrics.connections.downstream.enter() };
        if open > limits.connections {
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
}

impl Accepted {
    /// Counts the connection for its client, unless `limits.connections_per_client` is reached. The connection of a
    /// trusted proxy counts for no client: its requests count for their own clients.
    pub(super) fn identify(self, client: IpAddr, generation: &Generation) -> Option<Admitted> {
        let (config, services) = (&generation.config, &generation.services);
        if config.listener.trusts(client) {
            return Some(Admitted { _accepted: self, _place: None });
        }
        match services.clients.enter(client, config.limits.connections_per_client) {
            Some(place) => Some(Admitted { _accepted: self, _place: Some(place) }),
            None => {
                self.admission.refuse(client, ShedKind::ClientConnection, &services.metrics);
                None
            }
        }
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        self.admission.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Files};
    use crate::gateway::Services;
    use crate::preview::SystemClock;

    fn generation(connections: usize, connections_per_client: usize) -> Generation {
        let limits = format!("connections = {connections}\nconnections_per_client = {connections_per_client}");
        let listener = "[listener]\ntrusted_proxies = [\"192.0.2.100\"]";
        let text = format!("{listener}\n[upstream]\nendpoints = [\"http://localhost:8043\"]\n[limits]\n{limits}");
        let config = config::parse(&text, "".as_ref(), Files::Skip).unwrap();
        let services = Services::new(&config, Arc::new(SystemClock::new()), Arc::new(Metrics::new())).unwrap();
        Generation::build(&Arc::new(services), config, None).unwrap()
    }

    fn accept(admission: &Arc<Admission>, peer: IpAddr, generation: &Generation) -> Option<Accepted> {
        admission.accept(peer, &generation.config.limits, &generation.services.metrics)
    }

    fn admit(admission: &Arc<Admission>, peer: IpAddr, generation: &Generation) -> Option<Admitted> {
        accept(admission, peer, generation)?.identify(peer, generation)
    }

    #[test]
    fn one_client_cannot_take_all_places() {
        let (admission, generation) = (Admission::new(), generation(3, 2));
        let [greedy, modest] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(IpAddr::from);
        let held: Vec<_> = (0..5).filter_map(|_| admit(&admission, greedy, &generation)).collect();
        assert_eq!(held.len(), 2);
        let last = admit(&admission, modest, &generation).unwrap();
        assert!(admit(&admission, modest, &generation).is_none(), "all are taken");
        drop(held);
        assert!(admit(&admission, greedy, &generation).is_some());
        drop(last);
        assert_eq!(admission.open.load(Ordering::Relaxed), 0);
        assert_eq!(generation.services.metrics.connections.downstream.open(), 0);
    }

    #[test]
    fn the_limit_counts_connections_and_does_not_read_the_metrics() {
        let (admission, generation) = (Admission::new(), generation(1, 0));
        let downstream = &generation.services.metrics.connections.downstream;
        let _gauge_is_not_a_count = (downstream.enter(), downstream.enter());
        assert!(accept(&admission, [192, 0, 2, 1].into(), &generation).is_some());
    }

    #[test]
    fn a_connection_without_an_identified_client_counts_for_all_and_for_no_client() {
        let (admission, generation) = (Admission::new(), generation(2, 1));
        // The peer is a load balancer: each of its connections may be of another client.
        let peer = [192, 0, 2, 100].into();
        let [one, two] = [(); 2].map(|()| accept(&admission, peer, &generation).unwrap());
        assert!(accept(&admission, peer, &generation).is_none());
        let client = [198, 51, 100, 1].into();
        let _admitted = one.identify(client, &generation).unwrap();
        assert!(two.identify(client, &generation).is_none());
        assert!(accept(&admission, peer, &generation).is_some(), "the refused connection counts no longer");
    }

    #[test]
    fn connections_of_a_trusted_proxy_count_for_no_client() {
        let (admission, generation) = (Admission::new(), generation(100, 1));
        let held: Vec<_> = (0..5).filter_map(|_| admit(&admission, [192, 0, 2, 100].into(), &generation)).collect();
        assert_eq!(held.len(), 5);
    }

    #[test]
    fn without_a_limit_one_address_may_be_a_whole_site() {
        let (admission, generation) = (Admission::new(), generation(100, 0));
        let held: Vec<_> = (0..100).filter_map(|_| admit(&admission, [192, 0, 2, 1].into(), &generation)).collect();
        assert_eq!(held.len(), 100);
    }
}
