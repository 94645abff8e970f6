//! The advice whether to enforce a reason, from the decisions in the log.

use super::tally::{OfReason, Tally};
use crate::config::ReasonModes;
use crate::preview::Reason;

/// A share of callouts that does not disturb a campaign: one in a thousand.
const FEW: f64 = 0.001;
/// If this few agents cause most objections, a supervisor can ask them.
const A_FEW_AGENTS: usize = 3;
const MOST: f64 = 0.8;

/// The recommended action for a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Advice {
    /// Enforce it now.
    pub(super) enforce: bool,
    /// The cause, and what to examine.
    pub(super) text: String,
}

/// The advice on a reason; `None` for one that no rule of `[validation]` decides about.
pub(super) fn advice(counts: &OfReason, tally: &Tally) -> Option<Advice> {
    if !ReasonModes::can_name(counts.reason) {
        return None;
    }
    if counts.unverified == 0 {
        return Some(Advice { enforce: true, text: "Enforce it: nothing that was forwarded would change.".to_owned() });
    }
    let share = ratio(counts.unverified, tally.callouts());
    if share <= FEW {
        let text = format!("Enforce it: {} callouts in all. {}", counts.unverified, cause(counts));
        return Some(Advice { enforce: true, text });
    }
    Some(Advice { enforce: false, text: format!("Not yet. {}{}", concentration(counts), cause(counts)) })
}

/// A sentence if few agents cause most objections, otherwise nothing.
fn concentration(counts: &OfReason) -> String {
    let mut agents: Vec<_> = counts.agents.iter().collect();
    agents.sort_by_key(|(_, number)| std::cmp::Reverse(**number));
    agents.truncate(A_FEW_AGENTS);
    let of_few: u64 = agents.iter().map(|(_, number)| **number).sum();
    if ratio(of_few, counts.unverified) < MOST || agents.len() >= counts.agents.len() && agents.len() == A_FEW_AGENTS {
        return String::new();
    }
    let names: Vec<_> = agents.iter().map(|(agent, _)| agent.to_string()).collect();
    format!("Most are of few agents ({}): ask them first. ", names.join(", "))
}

/// The likely cause, and the cure.
fn cause(counts: &OfReason) -> String {
    match counts.reason {
        Reason::UnknownPreview => {
            "Do all events of these agents pass this gateway (push, a second gateway, a restart without a snapshot)?"
                .into()
        }
        Reason::ControlIdMismatch => "Do applications keep old control IDs, or is previews.per_agent too low?".into(),
        Reason::NumberNotInPreview => {
            "Calls of other numbers, or numbers that the application spells in another way than the event?".into()
        }
        Reason::PreviewExpired => {
            let oldest =
                counts.oldest.map(|age| humantime::format_duration(std::time::Duration::from_secs(age.as_secs())));
            let oldest = oldest.map(|age| format!("The oldest preview was {age} old. ")).unwrap_or_default();
            format!("{oldest}Agents who rightly wait that long need a longer previews.ttl.")
        }
        Reason::NumberUsed => {
            "Do agents call a contact again who did not answer? That may be right: then raise previews.calls_per_number."
                .into()
        }
        Reason::SignedOut => "Which application calls after it has signed its agent out?".into(),
        _ => "Which application sends requests of this form? It must be mended first.".into(),
    }
}

#[allow(clippy::cast_precision_loss, reason = "a share for people")]
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
