//! The state of one callout for the audit log: what it was evaluated by, its records, and whether it was sent.

use std::sync::Arc;

use crate::audit::DecisionRef;
use crate::preview::{AgentPreviews, Timestamp};

/// What a callout was evaluated by.
#[derive(Clone)]
pub(super) struct Basis {
    /// The previews of the agent.
    pub(super) previews: Option<Arc<AgentPreviews>>,
    /// When it was evaluated.
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
    /// Whether it was sent.
    pub(super) sent: Sent,
}

/// Whether a callout was sent to the upstream.
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
    /// Records that the callout is being sent.
    pub(super) fn may_be_sent(&mut self) {
        self.sent = Sent::Maybe;
    }

    /// Records that the upstream has received no byte of the callout.
    pub(super) fn was_not_sent(&mut self) {
        self.sent = Sent::No;
    }

    /// Records that the upstream has answered.
    pub(super) fn was_answered(&mut self) {
        self.sent = Sent::Answered;
    }
}
