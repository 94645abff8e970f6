//! How many refused callouts have an audit record of their own.
//!
//! A client can cause any number of refusals, and must not fill the disk that callouts need. So each client has a budget, and
//! all clients together have one. Refusals beyond it are counted, and the counts are
//! recorded once a minute. Callouts that are forwarded have no budget: each has its record.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::downstream::network_of;
use crate::preview::{Reason, Timestamp, millis};

/// Refusals of one client that are recorded.
const CLIENT: Rate = Rate { burst: 300, per_second: 5 };
/// Refusals of all clients together that are recorded. 20 records of 700 bytes a second are 1.2 GB a day.
const ALL: Rate = Rate { burst: 1000, per_second: 20 };
/// Clients that are counted one by one. The others are counted together.
const MAX_CLIENTS: usize = 1024;
/// Time between two records of counts.
const INTERVAL: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
struct Rate {
    /// Maximum number at once.
    burst: u64,
    /// Further ones in each second.
    per_second: u64,
}

/// A bucket of tokens, in thousandths.
struct Bucket {
    thousandths: u64,
    at: Timestamp,
}

impl Bucket {
    fn full(rate: Rate, now: Timestamp) -> Self {
        Self { thousandths: rate.burst * 1000, at: now }
    }

    fn refill(&mut self, rate: Rate, now: Timestamp) {
        let elapsed = millis(now.since(self.at));
        let tokens = self.thousandths.saturating_add(elapsed.saturating_mul(rate.per_second));
        self.thousandths = tokens.min(rate.burst * 1000);
        self.at = now;
    }

    fn take(&mut self) -> bool {
        match self.thousandths.checked_sub(1000) {
            Some(left) => {
                self.thousandths = left;
                true
            }
            None => false,
        }
    }

    fn is_full(&self, rate: Rate) -> bool {
        self.thousandths == rate.burst * 1000
    }
}

/// Refusals that were counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    /// The client; `None` for all that are not counted one by one.
    pub(super) client: Option<IpAddr>,
    /// The first of them.
    pub(super) since: Timestamp,
    /// How many for each reason.
    pub(super) reasons: Vec<(Reason, u64)>,
}

impl Counted {
    fn new(client: Option<IpAddr>, since: Timestamp) -> Self {
        Self { client, since, reasons: Vec::new() }
    }

    fn count(&mut self, reason: Reason) {
        match self.reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => self.reasons.push((reason, 1)),
        }
    }
}

struct Client {
    bucket: Bucket,
    counted: Option<Counted>,
}

struct State {
    all: Bucket,
    clients: HashMap<IpAddr, Client>,
    others: Option<Counted>,
    reported: Timestamp,
}

/// The budgets.
pub(super) struct RefusalBudget(Mutex<State>);

impl RefusalBudget {
    pub(super) fn new(now: Timestamp) -> Self {
        let all = Bucket::full(ALL, now);
        Self(Mutex::new(State { all, clients: HashMap::new(), others: None, reported: now }))
    }

    /// Whether the refusal of a callout of this client gets a record of its own. Otherwise it is counted.
    pub(super) fn allow(&self, client: IpAddr, reason: Reason, now: Timestamp) -> bool {
        let key = network_of(client);
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let State { all, clients, others, .. } = &mut *state;
        all.refill(ALL, now);
        if clients.len() >= MAX_CLIENTS && !clients.contains_key(&key) {
            others.get_or_insert_with(|| Counted::new(None, now)).count(reason);
            return false;
        }
        let client = clients.entry(key).or_insert_with(|| Client { bucket: Bucket::full(CLIENT, now), counted: None });
        client.bucket.refill(CLIENT, now);
        if client.bucket.take() && all.take() {
            return true;
        }
        client.counted.get_or_insert_with(|| Counted::new(Some(key), now)).count(reason);
        false
    }

    /// Counts a refusal that cannot have a record of its own.
    pub(super) fn count(&self, reason: Reason, now: Timestamp) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.others.get_or_insert_with(|| Counted::new(None, now)).count(reason);
    }

    /// What was counted, once a minute. Forgets clients that have not been refused lately.
    pub(super) fn due(&self, now: Timestamp) -> Vec<Counted> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back does not put the next report off.
        if now >= state.reported && now.since(state.reported) < INTERVAL {
            return Vec::new();
        }
        state.reported = now;
        state.take(now)
    }

    /// What was counted so far.
    pub(super) fn rest(&self, now: Timestamp) -> Vec<Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(now)
    }
}

impl State {
    fn take(&mut self, now: Timestamp) -> Vec<Counted> {
        let mut counted: Vec<_> = self.clients.values_mut().filter_map(|client| client.counted.take()).collect();
        counted.extend(self.others.take());
        self.clients.retain(|_, client| {
            client.bucket.refill(CLIENT, now);
            !client.bucket.is_full(CLIENT)
        });
        counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_579_200_000);
    const MINUTE: Timestamp = Timestamp(NOW.0 + 60_000);

    fn address(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0a00_0000 + number).into()
    }

    #[test]
    fn a_flood_of_one_client_is_counted_and_the_others_keep_their_records() {
        let budget = RefusalBudget::new(NOW);
        let recorded = (0..10_000).filter(|_| budget.allow(address(1), Reason::UnknownPreview, NOW)).count();
        assert_eq!(recorded as u64, CLIENT.burst);
        assert!(budget.allow(address(2), Reason::MissingGuid, NOW));
        assert!(!budget.allow(address(1), Reason::MissingGuid, NOW));
        assert!(budget.allow(address(1), Reason::MissingGuid, Timestamp(NOW.0 + 200)), "a fifth of a second later");
        assert_eq!(budget.due(Timestamp(MINUTE.0 - 1)), []);
        let counted = Counted {
            client: Some(address(1)),
            since: NOW,
            reasons: vec![(Reason::UnknownPreview, 10_000 - CLIENT.burst), (Reason::MissingGuid, 1)],
        };
        assert_eq!(budget.due(MINUTE), [counted]);
        assert_eq!(budget.rest(MINUTE), []);
    }

    #[test]
    fn many_clients_share_a_budget_and_memory_is_bounded() {
        let budget = RefusalBudget::new(NOW);
        let recorded = (0..100_000).filter(|n| budget.allow(address(*n), Reason::UnknownPreview, NOW)).count();
        assert_eq!(recorded as u64, ALL.burst);
        let counted = budget.due(MINUTE);
        let total: u64 = counted.iter().flat_map(|counted| &counted.reasons).map(|(_, count)| count).sum();
        assert_eq!(total, 100_000 - ALL.burst);
        assert!(counted.len() <= MAX_CLIENTS + 1);
        assert!(budget.0.lock().unwrap().clients.is_empty(), "forgotten after a minute");
    }

    #[test]
    fn one_ipv6_client_has_one_budget() {
        let budget = RefusalBudget::new(NOW);
        let address = |n: u16| IpAddr::from(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, n));
        let recorded = (0..1000).filter(|n| budget.allow(address(*n), Reason::UnknownPreview, NOW)).count();
        assert_eq!(recorded as u64, CLIENT.burst);
    }
}
