//! What the audit log knows of one callout: what it was evaluated by, its records, and its way to the upstream.

use std::sync::Arc;

use crate::audit::DecisionRef;
use crate::preview::{AgentPreviews, Timestamp};

/// What a callout was evaluated by.
#[derive(Clone)]
pub(super) struct Basis {
    /// The previews of the agent.
    pub(super) previews: Option<Arc<AgentPreviews>>,
    /// The moment.
    pub(super) at: Timestamp,
    /// Where the previews came from.
    pub(super) judged_by: &'static str,
    /// What was known of the GUID and the agent.
    pub(super) session: &'static str,
}

/// The records of a callout so far.
#[derive(Default)]
pub(super) struct Audited {
    /// The decision, if it has a record.
    pub(super) decision: Option<DecisionRef>,
    /// The callout was sent before its decision was confirmed.
    pub(super) unconfirmed: bool,
    /// It was refused because it could not be recorded.
    pub(super) refused: bool,
    /// What is known of its way to the upstream.
    pub(super) sent: Sent,
}

/// What is known of the callout's way to the upstream.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Sent {
    /// The upstream has received no byte of it.
    #[default]
    No,
    /// The telephone may ring.
    Maybe,
    /// The upstream has answered.
    Answered,
}

impl Audited {
    /// The upstream has received no byte of the callout.
    pub(super) fn was_not_sent(&mut self) {
        self.sent = Sent::No;
    }

    /// The answer has been read.
    pub(super) fn was_answered(&mut self) {
        self.sent = Sent::Answered;
    }
}
