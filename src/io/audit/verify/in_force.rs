//! Which configuration was in force: a decision must name the one that the log shows for its time.

use std::collections::VecDeque;

use super::facts::DecisionFact;
use crate::audit::record::ConfigInForce;
use crate::preview::Timestamp;

/// Tolerance, in milliseconds: a request that came before a reload may still be judged by the old configuration.
const GRACE_MS: u64 = 60_000;

/// The configurations of one chain that matter at the moment.
#[derive(Debug, Default)]
pub(super) struct InForce {
    configurations: VecDeque<Configuration>,
    /// The last one that was read.
    latest: Option<Configuration>,
    calls_per_number: Option<u32>,
}

#[derive(Clone, Debug)]
struct Configuration {
    since: Timestamp,
    mode: String,
    ttl_ms: Option<u64>,
}

impl InForce {
    /// A configuration is in force from now on; returns `previews.ttl` in milliseconds, if it is known.
    pub(super) fn change(&mut self, at: Timestamp, config: &ConfigInForce<'_>) -> Option<u64> {
        let ttl = config.changes.iter().find(|change| change.key == "previews.ttl");
        let ttl = ttl.and_then(|change| change.new.as_ref()).and_then(|value| duration_ms(value));
        let ttl_ms = ttl.or(self.latest.as_ref().and_then(|latest| latest.ttl_ms));
        let calls = config.changes.iter().find(|change| change.key == "previews.calls_per_number");
        let calls = calls.and_then(|change| change.new.as_ref()).and_then(|value| value.parse().ok());
        // Each start names every key. A gateway that does not know this one has no limit.
        let unlimited = (config.trigger == "start").then_some(0);
        self.calls_per_number = calls.or(unlimited).or(self.calls_per_number);
        let configuration = Configuration { since: at, mode: config.mode.to_string(), ttl_ms };
        self.configurations.push_back(configuration.clone());
        self.latest = Some(configuration);
        // A new segment begins with the configuration in force, before records that still waited to be written.
        self.configurations.make_contiguous().sort_by_key(|config| config.since);
        ttl_ms
    }

    /// `previews.calls_per_number`, if it is known. It changes with a start only, so it is that of the records before.
    pub(super) fn calls_per_number(&self) -> Option<u32> {
        self.calls_per_number
    }

    /// Whether a decision that was just read agrees with the configuration before it in the chain. Otherwise
    /// [`Self::contradiction`] compares their times: a clock that was set back between two starts proves nothing.
    pub(super) fn agrees(&self, decision: &DecisionFact) -> bool {
        self.latest.as_ref().is_some_and(|latest| {
            latest.mode == decision.mode && latest.ttl_ms.is_none_or(|ttl_ms| ttl_ms == decision.ttl_ms)
        })
    }

    /// What a decision says about the configuration, if no configuration of its time agrees.
    pub(super) fn contradiction(&mut self, decision: &DecisionFact) -> Option<String> {
        let at = decision.place.at;
        // A configuration is over when the next one has been in force for longer than the tolerance.
        while self.configurations.get(1).is_some_and(|next| next.since.0.saturating_add(GRACE_MS) < at.0) {
            self.configurations.pop_front();
        }
        let candidates = || self.configurations.iter().filter(|config| config.since.0 <= at.0.saturating_add(GRACE_MS));
        candidates().next()?;
        if candidates().all(|config| config.mode != decision.mode) {
            return Some(format!("was judged in mode {}, which was not in force", decision.mode));
        }
        if candidates().all(|config| config.ttl_ms.is_some_and(|ttl| ttl != decision.ttl_ms)) {
            return Some(format!("was judged with previews.ttl = {} ms, which was not in force", decision.ttl_ms));
        }
        None
    }
}

/// A value of the configuration, as TOML: `"30m"`.
fn duration_ms(toml: &str) -> Option<u64> {
    let duration = humantime::parse_duration(toml.trim_matches('"')).ok()?;
    u64::try_from(duration.as_millis()).ok()
}
