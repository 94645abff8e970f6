//! The ends among the events of one answer, and the previews that they end.

use super::recent_ends::EndCause;
use crate::preview::{AgentPreviews, Bounds, Change, Preview, Timestamp};

/// An end among the events of one answer, and the previews that it ends.
pub(super) struct FoundEnd {
    pub(super) change: Change,
    pub(super) cause: EndCause,
    pub(super) ended: Vec<Preview>,
}

/// Finds out what the ends of one answer end. Its events count in their order, and they are applied together: a preview may
/// be shown and ended by the same answer.
pub(super) struct FoundEnds {
    pub(super) found: Vec<FoundEnd>,
    /// The previews of the agent after the events so far. Most answers have no end, and need it not.
    previews: Option<AgentPreviews>,
    at: Timestamp,
    bounds: Bounds,
}

impl FoundEnds {
    pub(super) fn new(at: Timestamp, bounds: Bounds) -> Self {
        Self { found: Vec::new(), previews: None, at, bounds }
    }

    /// The next event shows a preview.
    pub(super) fn shown(&mut self, change: &Change) {
        if let Some(previews) = &mut self.previews {
            previews.apply(change.clone(), self.at, self.bounds);
        }
    }

    /// The next event ends previews; `known` are those before the answer, and `earlier` the events of the answer before it.
    pub(super) fn ended(
        &mut self,
        known: impl FnOnce() -> AgentPreviews,
        earlier: &[Change],
        change: &Change,
        cause: EndCause,
    ) {
        let (at, bounds) = (self.at, self.bounds);
        let previews = self.previews.get_or_insert_with(|| {
            let mut previews = known();
            earlier.iter().for_each(|earlier| _ = previews.apply(earlier.clone(), at, bounds));
            previews
        });
        let ended = previews.iter().filter(|known| change.ends(known)).cloned().collect();
        previews.apply(change.clone(), at, bounds);
        self.found.push(FoundEnd { change: change.clone(), cause, ended });
    }
}
