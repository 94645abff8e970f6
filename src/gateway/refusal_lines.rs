//! Limits the log lines about refusals of one client: a client that is refused again and again must not fill the log.
//!
//! Each client has `log.refusals_per_minute` lines at once, and as many again in each minute. So a few refusals are all
//! logged. Further ones have no line of their own; the supervisor logs their number. The metrics count all.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::downstream::network_of;
use crate::telemetry::Metrics;

/// Maximum number of clients with their own allowance. All others share one.
const MAX_CLIENTS: usize = 4096;
/// Maximum number of clients that a report names. The others are added up.
const MAX_REPORTED: usize = 32;
/// The time in which a used allowance is restored.
const PERIOD: Duration = Duration::from_secs(60);

/// The lines that each client has left.
pub struct RefusalLines {
    clients: Mutex<Clients>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Clients {
    known: HashMap<IpAddr, Allowance>,
    others: Option<Allowance>,
    /// When the table was last searched for clients to forget. A search for each new client would cost too much in a flood.
    searched: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Allowance {
    /// When the whole allowance is restored.
    whole_at: Instant,
    /// Lines that were not written since the last report.
    suppressed: u64,
}

impl RefusalLines {
    /// Every client has its whole allowance.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { clients: Mutex::default(), metrics }
    }

    /// Whether a refusal of `client` gets a line. `per_minute` of 0 is no limit.
    pub(super) fn allow(&self, client: IpAddr, per_minute: u32) -> bool {
        if per_minute == 0 {
            return true;
        }
        let now = Instant::now();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = clients.allowance(network_of(client), now).take(now, PERIOD / per_minute);
        drop(clients);
        if !allowed {
            self.metrics.log.refusal_suppressed();
        }
        allowed
    }

    /// Logs how many lines were not written since the last report, and forgets clients that have their whole allowance.
    pub fn report(&self) {
        let mut suppressed: Vec<(Client, u64)> = Vec::new();
        {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            for (client, allowance) in &mut clients.known {
                suppressed.push((Client::Network(*client), std::mem::take(&mut allowance.suppressed)));
            }
            if let Some(others) = &mut clients.others {
                suppressed.push((Client::Others, std::mem::take(&mut others.suppressed)));
            }
            clients.forget(Instant::now());
        }
        suppressed.retain(|(_, count)| *count > 0);
        suppressed.sort_unstable_by_key(|(_, count)| std::cmp::Reverse(*count));
        let rest = suppressed.split_off(suppressed.len().min(MAX_REPORTED));
        let rest: u64 = rest.iter().map(|(_, count)| count).sum();
        for (client, count) in suppressed.into_iter().chain((rest > 0).then_some((Client::Others, rest))) {
            tracing::warn!(
                target: "previewgate::refusals",
                %client, suppressed = count,
                "{count} refusals of {client} have no line of their own"
            );
        }
    }
}

impl Clients {
    fn allowance(&mut self, client: IpAddr, now: Instant) -> &mut Allowance {
        if self.known.len() >= MAX_CLIENTS && !self.known.contains_key(&client) {
            if self.searched.is_none_or(|last| now.duration_since(last) >= Duration::from_secs(1)) {
                self.searched = Some(now);
                self.forget(now);
            }
            if self.known.len() >= MAX_CLIENTS {
                return self.others.get_or_insert(Allowance::whole(now));
            }
        }
        self.known.entry(client).or_insert(Allowance::whole(now))
    }

    fn forget(&mut self, now: Instant) {
        self.known.retain(|_, allowance| allowance.suppressed > 0 || allowance.whole_at > now);
    }
}

impl Allowance {
    fn whole(now: Instant) -> Self {
        Self { whole_at: now, suppressed: 0 }
    }

    /// Takes one line, which is restored after `price`. Returns false if no line is left.
    fn take(&mut self, now: Instant, price: Duration) -> bool {
        let whole_at = self.whole_at.max(now) + price;
        let allowed = whole_at.duration_since(now) <= PERIOD;
        if allowed {
            self.whole_at = whole_at;
        } else {
            self.suppressed += 1;
        }
        allowed
    }
}

enum Client {
    Network(IpAddr),
    Others,
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(address) => write!(f, "{address}"),
            Self::Others => f.write_str("other clients"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogFormat;
    use crate::telemetry::Logging;
    use crate::testing::CapturedLog;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn lines() -> RefusalLines {
        RefusalLines::new(Arc::new(Metrics::new()))
    }

    fn reported(lines: &RefusalLines) -> String {
        let captured = CapturedLog::default();
        let log = Logging::start(LogFormat::Text, tracing::Level::WARN, Box::new(captured.clone())).unwrap();
        tracing::dispatcher::with_default(&log.dispatch, || lines.report());
        assert!(log.writer.flush(Duration::from_secs(20)));
        captured.text()
    }

    fn allowed(lines: &RefusalLines, client: IpAddr, times: usize) -> usize {
        (0..times).filter(|_| lines.allow(client, 60)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_has_its_lines_at_once_and_again_in_each_minute() {
        let lines = lines();
        assert_eq!(allowed(&lines, CLIENT, 200), 60);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(allowed(&lines, CLIENT, 200), 10);
        assert_eq!(allowed(&lines, "192.0.2.2".parse().unwrap(), 20), 20);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(allowed(&lines, CLIENT, 200), 60);
        let report = reported(&lines);
        assert!(report.contains("470 refusals of 192.0.2.1 have no line"), "{report}");
        assert_eq!((report.lines().count(), reported(&lines).as_str()), (1, ""));
        assert!(lines.metrics.encode().contains("previewgate_log_refusals_suppressed_total 470\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn with_a_limit_of_zero_every_refusal_has_its_line() {
        let lines = lines();
        assert!((0..10_000).all(|_| lines.allow(CLIENT, 0)));
        assert!(lines.clients.lock().unwrap().known.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_ipv6_network_is_one_client() {
        let lines = lines();
        let of_one_network = |n: u128| IpAddr::from((0x2001_0db8_u128 << 96 | n).to_be_bytes());
        assert_eq!((0..200).filter(|n| lines.allow(of_one_network(*n), 60)).count(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded_and_clients_beyond_it_share_one_allowance() {
        let lines = lines();
        let client = |n: u32| IpAddr::from(n.to_be_bytes());
        let all = u32::try_from(MAX_CLIENTS).unwrap() + 500;
        let written = (0..all).filter(|n| lines.allow(client(*n), 60)).count();
        assert_eq!(written, MAX_CLIENTS + 60);
        assert_eq!(lines.clients.lock().unwrap().known.len(), MAX_CLIENTS);
        assert!(reported(&lines).contains("440 refusals of other clients"));
        // A report names the clients that matter most.
        (0..40).for_each(|n| assert!(allowed(&lines, client(n), 60 + 1 + n as usize) < 61));
        let report = reported(&lines);
        assert_eq!(report.lines().count(), MAX_REPORTED + 1, "{report}");
        tokio::time::advance(PERIOD).await;
        lines.report();
        assert!(lines.clients.lock().unwrap().known.is_empty());
    }
}
