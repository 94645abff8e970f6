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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_masked_and_the_first_ones_are_shown() {
        let logged = |numbers: &[&str]| {
            MaskedNumbers(&numbers.iter().copied().map(DialedNumber::new).collect::<Vec<_>>()).to_string()
        };
        let eight = ["*"; MAX_LOGGED_NUMBERS].join(",");
        for (numbers, expected) in [
            (&[][..], ""),
            (&["05712345"], "******45"),
            (&["05712345", "112"], "******45,***"),
            (&["1"; MAX_LOGGED_NUMBERS], &eight),
            (&["1"; MAX_LOGGED_NUMBERS + 1], &format!("{eight},…")),
            (&["1"; MAX_LOGGED_NUMBERS + 2], &format!("{eight},…")),
        ] {
            assert_eq!(logged(numbers), expected, "{}", numbers.len());
        }
    }
}
