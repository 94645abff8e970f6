//! Changes that Redis does not have yet: for a moment in normal times, until it is back otherwise.
//!
//! Bounded: an agent with too many changes is given a fresh start (everything up to there is over, which refuses
//! callouts rather than allowing too many), and when too many agents wait, changes of further ones are not kept.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::record::Dated;
use crate::preview::{AgentId, Change, Timestamp};

/// Agents, and changes of one. Most have a few, of some hundred bytes each.
const MOST_AGENTS: usize = 10_000;
const MOST_CHANGES: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outbox(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    agents: HashMap<AgentId, Vec<Numbered>>,
    next: u64,
}

#[derive(Clone, Debug)]
struct Numbered {
    number: u64,
    dated: Dated,
}

/// Changes on their way to Redis.
#[derive(Debug)]
pub(super) struct Batch {
    /// In order.
    pub(super) changes: Vec<Dated>,
    last: u64,
}

/// There is no room for changes of yet another agent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Outbox {
    /// Puts a change in.
    pub(super) fn add(&self, agent: AgentId, change: Change, at: Timestamp) -> Result<(), Full> {
        let mut waiting = self.lock();
        if waiting.agents.len() >= MOST_AGENTS && !waiting.agents.contains_key(&agent) {
            return Err(Full);
        }
        waiting.next += 1;
        let number = waiting.next;
        let changes = waiting.agents.entry(agent).or_default();
        if change == Change::Ended {
            changes.clear();
        }
        changes.push(Numbered { number, dated: Dated { change, at, late: false } });
        if changes.len() > MOST_CHANGES {
            start_afresh(changes);
        }
        Ok(())
    }

    /// What waits for this agent, without touching it.
    pub(super) fn of(&self, agent: AgentId) -> Vec<Dated> {
        let waiting = self.lock();
        waiting.agents.get(&agent).into_iter().flatten().map(|numbered| numbered.dated.clone()).collect()
    }

    /// Begins to write what waits for this agent. Whatever becomes of the attempt, from now on these changes are late,
    /// because it may succeed without anybody learning of it.
    pub(super) fn begin(&self, agent: AgentId) -> Option<Batch> {
        let mut waiting = self.lock();
        let changes = waiting.agents.get_mut(&agent)?;
        let last = changes.last()?.number;
        let batch = changes.iter().map(|numbered| numbered.dated.clone()).collect();
        changes.iter_mut().for_each(|numbered| numbered.dated.late = true);
        Some(Batch { changes: batch, last })
    }

    /// A batch has been written. What was added in the meantime stays.
    pub(super) fn finish(&self, agent: AgentId, batch: &Batch) {
        let mut waiting = self.lock();
        if let Some(changes) = waiting.agents.get_mut(&agent) {
            changes.retain(|numbered| numbered.number > batch.last);
            if changes.is_empty() {
                waiting.agents.remove(&agent);
            }
        }
    }

    /// Every agent with changes.
    pub(super) fn agents(&self) -> Vec<AgentId> {
        self.lock().agents.keys().copied().collect()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.lock().agents.len()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Replaces the older half by an end.
fn start_afresh(changes: &mut Vec<Numbered>) {
    let newest_of_half = changes.drain(..MOST_CHANGES / 2).next_back();
    if let Some(Numbered { number, dated }) = newest_of_half {
        changes.insert(0, Numbered { number, dated: Dated { change: Change::Ended, ..dated } });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preview::ControlId;

    fn agent(number: u32) -> AgentId {
        AgentId::try_from(number).unwrap()
    }

    fn cancelled(id: i64) -> Change {
        Change::Cancelled(ControlId(id))
    }

    #[test]
    fn what_is_added_while_a_batch_is_written_stays() {
        let outbox = Outbox::default();
        assert!(outbox.begin(agent(101)).is_none());
        outbox.add(agent(101), cancelled(1), Timestamp(1)).unwrap();
        let batch = outbox.begin(agent(101)).unwrap();
        assert!(!batch.changes[0].late);
        outbox.add(agent(101), cancelled(2), Timestamp(2)).unwrap();
        outbox.finish(agent(101), &batch);
        let left = outbox.of(agent(101));
        assert_eq!((left.len(), &left[0].change, left[0].late), (1, &cancelled(2), false));
        let batch = outbox.begin(agent(101)).unwrap();
        assert!(outbox.of(agent(101))[0].late);
        outbox.finish(agent(101), &batch);
        assert_eq!(outbox.len(), 0);
    }

    #[test]
    fn an_end_replaces_what_was_before_it() {
        let outbox = Outbox::default();
        outbox.add(agent(101), cancelled(1), Timestamp(1)).unwrap();
        outbox.add(agent(101), Change::Ended, Timestamp(2)).unwrap();
        assert_eq!(outbox.begin(agent(101)).unwrap().changes.len(), 1);
    }

    #[test]
    fn too_many_changes_of_an_agent_end_in_an_end() {
        let outbox = Outbox::default();
        for id in 0..1000 {
            outbox.add(agent(101), cancelled(id), Timestamp(id as u64)).unwrap();
        }
        let left = outbox.of(agent(101));
        assert!(left.len() <= MOST_CHANGES);
        assert_eq!(left[0].change, Change::Ended);
        assert_eq!((left[0].at.0 + 1, &left.last().unwrap().change), (left[1].at.0, &cancelled(999)));
    }

    #[test]
    fn too_many_agents_are_refused() {
        let outbox = Outbox::default();
        for number in (101..).take(MOST_AGENTS) {
            outbox.add(agent(number), Change::Ended, Timestamp(1)).unwrap();
        }
        assert_eq!(outbox.add(agent(999_999), Change::Ended, Timestamp(1)), Err(Full));
        assert_eq!(outbox.add(agent(101), cancelled(1), Timestamp(1)), Ok(()));
        assert_eq!((outbox.len(), outbox.agents().len()), (MOST_AGENTS, MOST_AGENTS));
    }
}
