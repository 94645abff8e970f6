//! The story of one refused callout, from what the gateway recorded of it.

use std::io::{self, Write};
use std::sync::Arc;

use super::style::{Colour, Style};
use crate::gateway::Decision;
use crate::preview::{Reason, Verdict};

/// Tells the first refusal of a number that the preview does not list. In monitor mode there is none.
pub(super) fn tell(out: &mut dyn Write, style: Style, decisions: &[Arc<Decision>]) -> io::Result<()> {
    let is_example = |decision: &&Arc<Decision>| {
        decision.verdict == Verdict::Rejected && decision.reason == Reason::NumberNotInPreview
    };
    // The newest comes first.
    let Some(decision) = decisions.iter().rev().find(is_example) else { return Ok(()) };
    let request_id = decision.request_id();
    let step = request_id.strip_prefix("demo-").unwrap_or_default().trim_start_matches('0');
    let heading = format!("One refusal in words: step {step}");
    writeln!(out, "\n{}", style.paint(Colour::Bold, &heading))?;
    for line in sentences(decision, style) {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

fn sentences(decision: &Decision, style: Style) -> Vec<String> {
    let agent = decision.agent_id.map(|agent| agent.to_string()).unwrap_or_default();
    let control_id = decision.control_id.map(|id| id.to_string()).unwrap_or_default();
    let shown = decision.previews.iter().find(|preview| Some(preview.control_id) == decision.control_id);
    let numbers: Vec<_> = shown.iter().flat_map(|preview| &preview.numbers).map(ToString::to_string).collect();
    let age = shown.map(|preview| preview.age.as_millis()).unwrap_or_default();
    let called = decision.called.map(|called| called.to_string()).unwrap_or_default();
    let green = |text: &str| style.paint(Colour::Green, text);
    let red = |text: &str| style.paint(Colour::Red, text);
    let retcode = decision.retcode.as_deref().unwrap_or_default();
    vec![
        format!(
            "CC-Gateway showed agent {agent} the number {} under control ID {control_id}.",
            green(&numbers.join(", "))
        ),
        format!("{age} ms later the agent's application asked to call {} under the same control ID.", red(&called)),
        format!("previewgate {} it ({}): the agent was never shown that number.", red("refused"), decision.reason),
        "CC-Gateway never received the request, so no telephone rang.".to_owned(),
        format!(
            "The application got retcode {retcode} and a sentence for the agent's screen, as from CC-Gateway itself."
        ),
    ]
}
