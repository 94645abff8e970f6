//! How often an agent may poll (`limits.polls_per_agent`).
//!
//! The vendor's Java client polls without any pause after an answer of 000-003 (docs/protocol.md 9). Its polls are answered,
//! but slowly: a poll that comes too early waits for its turn before it takes a place among the held polls and before it
//! reaches the upstream. A client that waits for its answers cannot be faster than the limit.
//!
//! A poll whose answer holds an event gives its turn back. So an application receives a queue of events as fast as the
//! upstream hands them out.
//!
//! The limit is for one agent as polled by one client. So a client that polls for a foreign agent does not slow down that
//! agent's own client.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::downstream::network_of;
use crate::preview::AgentId;

/// The longest time that a poll waits for its turn. With the upstream's long poll of 10 s it stays below the 20 s after
/// which the vendor's C# client gives up.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(5);
/// With at least this many entries, those in the past are removed before a new one is added.
const MIN_CLEANED: usize = 1024;

/// When each agent may poll next.
#[derive(Debug, Default)]
pub struct PollRate(Mutex<Turns>);

#[derive(Debug, Default)]
struct Turns {
    /// When the next poll would be due if all earlier ones had come at the exact rate. An entry in the past has no effect.
    due: HashMap<(IpAddr, AgentId), Instant>,
    clean_at: usize,
}

impl PollRate {
    /// How long a poll of `agent` from `client` has to wait at `now`. An agent may poll `per_second` times at once, and
    /// then `per_second` times in each second; 0 is no limit.
    pub(super) fn wait(&self, client: IpAddr, agent: AgentId, per_second: usize, now: Instant) -> Duration {
        let Some(interval) = interval(per_second) else { return Duration::ZERO };
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.clean(now);
        let due = turns.due.entry((network_of(client), agent)).or_insert(now);
        let at_once = Duration::from_secs(1).saturating_sub(interval);
        let wait = due.saturating_duration_since(now).saturating_sub(at_once).min(MAX_WAIT);
        // Polls that come before their answers must not delay later ones without a bound.
        *due = ((*due).max(now) + interval).min(now + at_once + MAX_WAIT);
        wait
    }

    /// Gives the turn of a poll back, because its answer held an event.
    pub(super) fn give_back(&self, client: IpAddr, agent: AgentId, per_second: usize) {
        let Some(interval) = interval(per_second) else { return };
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // An entry that is gone slowed nothing down.
        if let Some(due) = turns.due.get_mut(&(network_of(client), agent)) {
            *due = due.checked_sub(interval).unwrap_or(*due);
        }
    }
}

/// The time between two polls at the exact rate; `None` without a limit.
fn interval(per_second: usize) -> Option<Duration> {
    Duration::from_secs(1).checked_div(u32::try_from(per_second).unwrap_or(u32::MAX))
}

impl Turns {
    /// Keeps the table about as small as the number of agents that poll faster than they may.
    fn clean(&mut self, now: Instant) {
        if self.due.len() >= self.clean_at.max(MIN_CLEANED) {
            self.due.retain(|_, due| *due > now);
            self.clean_at = self.due.len() * 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn agent(number: u32) -> AgentId {
        AgentId::try_from(number).unwrap()
    }

    /// The waits of polls that follow each other at once, each after the wait of the one before.
    fn sequential(rate: &PollRate, polls: usize, per_second: usize, start: Instant) -> Duration {
        let mut now = start;
        for _ in 0..polls {
            now += rate.wait(CLIENT, agent(101), per_second, now);
        }
        now - start
    }

    #[test]
    fn a_client_without_pauses_gets_the_rate_and_no_more() {
        let (rate, start) = (PollRate::default(), Instant::now());
        assert_eq!(sequential(&rate, 20, 20, start), Duration::ZERO, "one second's polls at once");
        let (rate, start) = (PollRate::default(), Instant::now());
        let took = sequential(&rate, 220, 20, start).as_secs_f64();
        assert!((took - 10.0).abs() < 0.1, "{took}");
    }

    #[test]
    fn polls_that_bring_events_are_not_counted() {
        let (rate, now) = (PollRate::default(), Instant::now());
        for _ in 0..1000 {
            assert_eq!(rate.wait(CLIENT, agent(101), 20, now), Duration::ZERO);
            rate.give_back(CLIENT, agent(101), 20);
        }
        assert_eq!(sequential(&rate, 20, 20, now), Duration::ZERO, "and they save nothing up");
        assert!(rate.wait(CLIENT, agent(101), 20, now) > Duration::ZERO);
    }

    #[test]
    fn ordinary_polls_do_not_wait() {
        let (rate, mut now) = (PollRate::default(), Instant::now());
        for _ in 0..1000 {
            assert_eq!(rate.wait(CLIENT, agent(101), 20, now), Duration::ZERO);
            now += Duration::from_millis(200);
        }
    }

    #[test]
    fn one_agent_slows_down_no_other_and_not_itself_from_elsewhere() {
        let (rate, now) = (PollRate::default(), Instant::now());
        for _ in 0..100 {
            rate.wait(CLIENT, agent(101), 20, now);
        }
        assert!(rate.wait(CLIENT, agent(101), 20, now) > Duration::from_secs(1));
        assert_eq!(rate.wait(CLIENT, agent(102), 20, now), Duration::ZERO);
        assert_eq!(rate.wait([198, 51, 100, 1].into(), agent(101), 20, now), Duration::ZERO);
    }

    #[test]
    fn no_poll_waits_longer_than_it_may_and_a_flood_is_forgotten() {
        let (rate, now) = (PollRate::default(), Instant::now());
        let longest = (0..100_000).map(|_| rate.wait(CLIENT, agent(101), 20, now)).max();
        assert_eq!(longest, Some(MAX_WAIT));
        let later = now + MAX_WAIT + Duration::from_secs(1);
        assert_eq!(rate.wait(CLIENT, agent(101), 20, later), Duration::ZERO);
    }

    #[test]
    fn without_a_limit_nothing_is_kept() {
        let (rate, now) = (PollRate::default(), Instant::now());
        assert_eq!(sequential(&rate, 10_000, 0, now), Duration::ZERO);
        assert!(rate.0.lock().unwrap().due.is_empty());
    }

    #[test]
    fn the_table_does_not_grow_with_agents_that_poll_as_they_should() {
        let (rate, mut now) = (PollRate::default(), Instant::now());
        for number in 101..60_000 {
            rate.wait(CLIENT, agent(number), 20, now);
            now += Duration::from_millis(1);
        }
        let kept = rate.0.lock().unwrap().due.len();
        assert!(kept <= 2 * MIN_CLEANED, "{kept}");
    }
}
