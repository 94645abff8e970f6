//! Changes that Redis does not have yet: for a moment in normal times, and until Redis is back otherwise.
//!
//! The outbox is bounded. If one agent has too many changes, an end of all previews replaces the older half: callouts are
//! refused rather than wrongly allowed. If too many agents have changes, only ends of further agents are kept: what has ended must
//! reach the other gateways.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::record::{Record, SessionRelation, TimedChange};
use crate::preview::{AgentId, Change, Timestamp};

/// Changes of one agent. Most have a few, of some hundred bytes each.
const MAX_CHANGES: usize = 64;
/// What was learnt about a session, of one agent that has too many changes.
const MAX_LEARNT: usize = 4;

/// The pending changes of all agents. See the module.
#[derive(Debug)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    max_agents: usize,
    /// A batch has been written.
    written: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    agents: HashMap<AgentId, Vec<Numbered>>,
    next: u64,
}

#[derive(Clone, Debug)]
struct Numbered {
    number: u64,
    timed: TimedChange,
}

/// Changes on their way to Redis.
#[derive(Debug)]
pub(super) struct Batch {
    /// In order.
    pub(super) changes: Vec<TimedChange>,
    last: u64,
}

/// There is no room for changes of yet another agent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Outbox {
    /// Changes of up to `max_agents` agents, and ends of any number: there are fewer than a million agent IDs.
    pub(super) fn new(max_agents: u64) -> Self {
        let max_agents = usize::try_from(max_agents).unwrap_or(usize::MAX);
        Self { waiting: Mutex::default(), max_agents, written: Notify::new() }
    }

    /// Adds a change.
    ///
    /// # Errors
    /// [`Full`]; never for an end.
    pub(super) fn add(&self, agent: AgentId, mut timed: TimedChange) -> Result<(), Full> {
        let mut waiting = self.lock();
        if !timed.is_end() && waiting.agents.len() >= self.max_agents && !waiting.agents.contains_key(&agent) {
            return Err(Full);
        }
        waiting.next += 1;
        let number = waiting.next;
        let changes = waiting.agents.entry(agent).or_default();
        if !timed.late
            && let Some(Numbered { timed: before, .. }) = changes.last()
        {
            // The gateway knows the order of its own changes, also within one millisecond. An end includes its own.
            let next = before.at.0.saturating_add(u64::from(before.is_end()));
            timed.at = timed.at.max(Timestamp(next));
        }
        if let Some(control_id) = timed.shows() {
            let own = changes.iter().filter_map(|waiting| waiting.timed.end_of(control_id)).max();
            timed.known_end = timed.known_end.max(own);
        }
        changes.push(Numbered { number, timed });
        if changes.len() > MAX_CHANGES {
            start_afresh(changes);
        }
        Ok(())
    }

    /// The pending changes of this agent, which stay pending.
    pub(super) fn of(&self, agent: AgentId) -> Vec<TimedChange> {
        let waiting = self.lock();
        waiting.agents.get(&agent).into_iter().flatten().map(|numbered| numbered.timed.clone()).collect()
    }

    /// Begins to write the pending changes of this agent. From now on these changes are late: the attempt may succeed
    /// although the gateway never learns of it.
    pub(super) fn begin(&self, agent: AgentId) -> Option<Batch> {
        let mut waiting = self.lock();
        let changes = waiting.agents.get_mut(&agent)?;
        let last = changes.last()?.number;
        let batch = changes.iter().map(|numbered| numbered.timed.clone()).collect();
        changes.iter_mut().for_each(|numbered| numbered.timed.late = true);
        Some(Batch { changes: batch, last })
    }

    /// `record` is about to be written, with the pending changes of this agent. Redis may execute it although the gateway never
    /// learns of it: the ends in it are then no news to the previews that have outlived them.
    pub(super) fn attempt(&self, agent: AgentId, record: &Record) {
        for numbered in self.lock().agents.get_mut(&agent).into_iter().flatten() {
            let outlived = numbered.timed.shows().and_then(|control_id| record.outlived_by(control_id));
            numbered.timed.known_end = numbered.timed.known_end.max(outlived);
        }
    }

    /// A batch has been written. Changes that were added in the meantime stay.
    pub(super) fn finish(&self, agent: AgentId, batch: &Batch) {
        let mut waiting = self.lock();
        if let Some(changes) = waiting.agents.get_mut(&agent) {
            changes.retain(|numbered| numbered.number > batch.last);
            if changes.is_empty() {
                waiting.agents.remove(&agent);
            }
        }
        drop(waiting);
        self.written.notify_waiters();
    }

    /// Whether no end of these agents waits.
    pub(super) fn has_no_end_of(&self, agents: &[AgentId]) -> bool {
        let waiting = self.lock();
        let mut changes = agents.iter().filter_map(|agent| waiting.agents.get(agent)).flatten();
        !changes.any(|numbered| numbered.timed.is_end())
    }

    /// Waits until no end of these agents waits.
    pub(super) async fn without_end_of(&self, agents: &[AgentId]) {
        loop {
            let written = self.written.notified();
            if self.has_no_end_of(agents) {
                return;
            }
            written.await;
        }
    }

    /// Gives every change a new time: the clock was wrong by so many milliseconds.
    pub(super) fn redate(&self, by: i64) {
        let mut waiting = self.lock();
        waiting.agents.values_mut().flatten().for_each(|numbered| numbered.timed.redate(by));
    }

    /// All ends that wait.
    pub(super) fn ends(&self) -> Vec<(AgentId, TimedChange)> {
        let waiting = self.lock();
        let all =
            waiting.agents.iter().flat_map(|(agent, changes)| changes.iter().map(|change| (*agent, &change.timed)));
        all.filter(|(_, timed)| timed.is_end()).map(|(agent, timed)| (agent, timed.clone())).collect()
    }

    /// Every agent with changes.
    pub(super) fn agents(&self) -> Vec<AgentId> {
        self.lock().agents.keys().copied().collect()
    }

    /// The number of agents with changes.
    pub(super) fn len(&self) -> usize {
        self.lock().agents.len()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Replaces the older half by an end, and keeps the latest of what it says about the session.
fn start_afresh(changes: &mut Vec<Numbered>) {
    let older: Vec<_> = changes.drain(..MAX_CHANGES / 2).collect();
    let Some(end) = older.last().map(|newest| Numbered { timed: ended(&newest.timed), ..newest.clone() }) else {
        return;
    };
    let is_fence =
        |waiting: &Numbered| matches!(waiting.timed.session, SessionRelation::Begins(_) | SessionRelation::Over(_));
    let begins = older.iter().rposition(|waiting| matches!(waiting.timed.session, SessionRelation::Begins(_)));
    let session = older
        .into_iter()
        .skip(begins.unwrap_or_default())
        .filter(|waiting| waiting.timed.learnt.is_some() || is_fence(waiting));
    let mut kept: Vec<_> = session.collect();
    kept.drain(..kept.len().saturating_sub(MAX_LEARNT));
    kept.push(end);
    changes.splice(..0, kept);
}

/// The end of all previews at the time of `timed`.
fn ended(timed: &TimedChange) -> TimedChange {
    TimedChange { change: Some(Change::Ended), learnt: None, session: SessionRelation::Any, ..timed.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preview::{Announcement, ControlId};

    fn at(at: Timestamp, change: Change) -> TimedChange {
        TimedChange::new(change, at, SessionRelation::Any)
    }

    fn agent(number: u32) -> AgentId {
        AgentId::try_from(number).unwrap()
    }

    fn cancelled(id: i64) -> Change {
        Change::Cancelled(ControlId(id))
    }

    #[test]
    fn what_is_added_while_a_batch_is_written_stays() {
        let outbox = Outbox::new(1000);
        assert!(outbox.begin(agent(101)).is_none());
        outbox.add(agent(101), at(Timestamp(1), cancelled(1))).unwrap();
        let batch = outbox.begin(agent(101)).unwrap();
        assert!(!batch.changes[0].late);
        outbox.add(agent(101), at(Timestamp(2), cancelled(2))).unwrap();
        outbox.finish(agent(101), &batch);
        let left = outbox.of(agent(101));
        assert_eq!((left.len(), &left[0].change, left[0].late), (1, &Some(cancelled(2)), false));
        let batch = outbox.begin(agent(101)).unwrap();
        assert!(outbox.of(agent(101))[0].late);
        outbox.finish(agent(101), &batch);
        assert_eq!(outbox.len(), 0);
    }

    /// Each operation is one critical section, so the interleavings of two threads are the orders of their operations: one
    /// adds three ends, and the other, who has the agent's write lock, writes two batches.
    #[test]
    fn in_every_interleaving_each_end_waits_until_a_batch_with_it_is_written() {
        for order in 0..1_u32 << 7 {
            if order.count_ones() != 3 {
                continue;
            }
            let outbox = Outbox::new(1000);
            let (mut added, mut written, mut batch) = (0, Vec::new(), None);
            for step in 0..7 {
                if order >> step & 1 == 1 {
                    added += 1;
                    outbox.add(agent(101), at(Timestamp(added), cancelled(added as i64))).unwrap();
                } else if let Some(begun) = batch.take() {
                    outbox.finish(agent(101), &begun);
                    written.extend(begun.changes.into_iter().map(|timed| timed.change.unwrap()));
                } else {
                    batch = outbox.begin(agent(101));
                }
                let waits: Vec<_> = outbox.of(agent(101)).into_iter().map(|timed| timed.change.unwrap()).collect();
                let all: Vec<_> = written.iter().cloned().chain(waits.iter().cloned()).collect();
                assert_eq!(all, (1..=added as i64).map(cancelled).collect::<Vec<_>>(), "{order:b} {step}");
                assert_eq!(outbox.has_no_end_of(&[agent(101)]), waits.is_empty(), "{order:b} {step}");
            }
        }
    }

    #[test]
    fn the_order_of_a_gateways_own_changes_survives_one_millisecond() {
        let outbox = Outbox::new(1000);
        for change in [cancelled(1), Change::Ended, cancelled(2)] {
            outbox.add(agent(101), at(Timestamp(5), change)).unwrap();
        }
        let times: Vec<_> = outbox.of(agent(101)).iter().map(|timed| timed.at.0).collect();
        assert_eq!(times, [5, 6, 7]);
        assert_eq!(outbox.ends().len(), 3);
    }

    #[tokio::test]
    async fn who_waits_for_ends_waits_until_they_are_written() {
        let outbox = Outbox::new(1000);
        outbox.without_end_of(&[agent(101)]).await;
        outbox.add(agent(101), at(Timestamp(1), Change::Ended)).unwrap();
        let (agents, batch) = ([agent(101), agent(102)], outbox.begin(agent(101)).unwrap());
        assert!(!outbox.has_no_end_of(&agents) && outbox.has_no_end_of(&[agent(102)]));
        tokio::join!(outbox.without_end_of(&agents), async { outbox.finish(agent(101), &batch) });
    }

    #[test]
    fn an_end_replaces_the_older_of_too_many_changes() {
        let outbox = Outbox::new(1000);
        for id in 0..1000 {
            outbox.add(agent(101), at(Timestamp(id as u64), cancelled(id))).unwrap();
        }
        let left = outbox.of(agent(101));
        assert!(left.len() <= MAX_CHANGES);
        assert_eq!(left[0].change, Some(Change::Ended));
        assert_eq!((left[0].at.0 + 1, &left.last().unwrap().change), (left[1].at.0, &Some(cancelled(999))));
    }

    #[test]
    fn previews_of_too_many_agents_are_refused_but_their_ends_are_kept() {
        let outbox = Outbox::new(10);
        let shown = || {
            let numbers = Vec::new();
            let shown = Vec::new();
            at(Timestamp(1), Change::Shown(Announcement { control_id: ControlId(1), numbers, shown }))
        };
        for number in 101..111 {
            outbox.add(agent(number), shown()).unwrap();
        }
        assert_eq!(outbox.add(agent(999), shown()), Err(Full));
        for (number, end) in [(201, Change::Ended), (202, cancelled(1)), (203, Change::EndedBefore(Timestamp(5)))] {
            outbox.add(agent(number), at(Timestamp(1), end)).unwrap();
        }
        assert_eq!((outbox.len(), outbox.add(agent(101), shown())), (13, Ok(())));
    }
}
