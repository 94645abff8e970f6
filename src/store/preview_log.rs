//! The debug lines of a preview that reached its agent, its numbers masked, and of one that ended.

use std::fmt;

use crate::preview::{AgentId, Announcement, ControlId, DialedNumber};
use crate::protocol::Delivery;
use crate::telemetry::sanitized;

/// Numbers of one preview that a debug line shows.
const MAX_LOGGED_NUMBERS: usize = 8;
/// Characters of one number that a debug line shows.
const MAX_LOGGED_NUMBER: usize = 64;

/// Logs that a preview reached `agent`.
pub(super) fn log_shown(agent: AgentId, announcement: &Announcement, delivery: Delivery) {
    tracing::debug!(
        target: "previewgate::previews",
        agent_id = agent.as_u32(), control_id = announcement.control_id.0, delivery = delivery.as_str(),
        numbers = %MaskedNumbers(&announcement.numbers),
        "preview {} reached agent {agent}", announcement.control_id
    );
}

/// Logs that a preview of `agent` ended, or was forgotten.
pub(super) fn log_ended(agent: AgentId, control_id: ControlId, cause: &'static str) {
    tracing::debug!(
        target: "previewgate::previews",
        agent_id = agent.as_u32(), control_id = control_id.0, cause,
        "preview ended"
    );
}

/// Some numbers, masked and bounded.
struct MaskedNumbers<'a>(&'a [DialedNumber]);

impl fmt::Display for MaskedNumbers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, number) in self.0.iter().take(MAX_LOGGED_NUMBERS).enumerate() {
            let separator = if position == 0 { "" } else { "," };
            write!(f, "{separator}{}", sanitized(number.masked(), MAX_LOGGED_NUMBER))?;
        }
        if self.0.len() > MAX_LOGGED_NUMBERS { f.write_str(",…") } else { Ok(()) }
    }
}
