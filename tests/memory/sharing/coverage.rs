//! Which awkward places a run of the simulation has met, and how often.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// A place at which a fault, or another gateway, is awkward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// Between read and write: another gateway wrote the same agent.
    WriteLost,
    /// Before the first byte of an answer to a client: the answer was held for more than a second.
    AnswerHeld,
    /// A callout was forwarded by a gateway that could not reach Redis at that moment, or not quickly.
    JudgedWithoutRedis,
    /// A callout of a preview was forwarded by a gateway that started after the preview was shown.
    JudgedByOneThatJoined,
    /// A gateway wrote an event to a Redis that had lost the agent.
    WrittenAfterLoss,
    /// A replica became the master without the last write of an agent.
    WriteRolledBack,
    /// A gateway found that Redis had lost data.
    LossHealed,
    /// The wall clock of a gateway's machine was set.
    ClockSet,
    /// A gateway crashed, and was started again.
    Crashed,
    /// A callout of a preview was forwarded by a gateway that had crashed after the preview was shown.
    JudgedAfterCrash,
}

impl Place {
    pub(super) const ALL: [Self; 10] = [
        Self::WriteLost,
        Self::AnswerHeld,
        Self::JudgedWithoutRedis,
        Self::JudgedByOneThatJoined,
        Self::WrittenAfterLoss,
        Self::WriteRolledBack,
        Self::LossHealed,
        Self::ClockSet,
        Self::Crashed,
        Self::JudgedAfterCrash,
    ];
}

/// Counts of places. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage(Arc<Mutex<BTreeMap<Place, usize>>>);

impl Coverage {
    pub(super) fn note(&self, place: Place) {
        *self.0.lock().unwrap().entry(place).or_default() += 1;
    }

    /// How often the run was there.
    pub(super) fn of(&self, place: Place) -> usize {
        self.0.lock().unwrap().get(&place).copied().unwrap_or_default()
    }
}
