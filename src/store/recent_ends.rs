//! Ends of previews that were recorded a moment ago.
//!
//! Two polls of one agent can be answered at the same time, one with a preview and the other with its release, and be
//! recorded in either order. Where the platform says when it made an event (`eventGenTime`, newer releases), a preview
//! that was made before an end that has just been recorded is over already.

use std::time::Duration;

use moka::sync::Cache;

use crate::preview::AgentId;

/// How long an end is remembered: far longer than two answers of one agent can overtake each other, and short enough
/// that a platform whose clock was set back does not lose previews for long.
const MEMORY: Duration = Duration::from_secs(5);

/// When the platform made the latest end of an agent's previews, for a moment after it was recorded.
pub struct RecentEnds(Cache<AgentId, u64>);

impl RecentEnds {
    /// Remembers up to `max_agents` agents.
    pub fn new(max_agents: u64) -> Self {
        Self(Cache::builder().max_capacity(max_agents).time_to_live(MEMORY).build())
    }

    /// An end of the previews of `agent`, made at `generated_at`, was recorded.
    pub fn note(&self, agent: AgentId, generated_at: u64) {
        self.0.entry(agent).and_upsert_with(|known| known.map_or(generated_at, |k| k.into_value().max(generated_at)));
    }

    /// Whether something made at `generated_at` is older than an end that was just recorded.
    pub fn outdates(&self, agent: AgentId, generated_at: u64) -> bool {
        self.0.get(&agent).is_some_and(|end| generated_at < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_made_before_an_end_is_outdated_by_it() {
        let ends = RecentEnds::new(100);
        let agent = AgentId::try_from(101).unwrap();
        assert!(!ends.outdates(agent, 1000));
        ends.note(agent, 1000);
        ends.note(agent, 900);
        assert!(ends.outdates(agent, 999));
        assert!(!ends.outdates(agent, 1000), "made in the same millisecond: the order is not known, so it counts");
        assert!(!ends.outdates(agent, 1001));
        assert!(!ends.outdates(AgentId::try_from(102).unwrap(), 1));
    }
}
