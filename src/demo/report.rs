//! What the demo prints: the table of steps, the decision log, the count.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use super::play::Outcome;
use super::proof::prove;
use super::script::Step;
use super::story::tell;
use super::style::{Colour, Style, wrapped};
use crate::gateway::Decision;
use crate::preview::Verdict;

/// Log lines are wrapped to this many columns.
const WIDTH: usize = 116;

/// Prints the report, and counts for its last line.
pub(super) struct Report<'a> {
    out: &'a mut dyn Write,
    style: Style,
    lines: Vec<(usize, String)>,
    steps: usize,
    deviating: Vec<usize>,
    /// What is wrong with the audit log.
    unproved: Vec<String>,
}

impl<'a> Report<'a> {
    /// A report on `out`.
    pub(super) fn new(out: &'a mut dyn Write, style: Style) -> Self {
        Self { out, style, lines: Vec::new(), steps: 0, deviating: Vec::new(), unproved: Vec::new() }
    }

    /// The table's head.
    pub(super) fn head(&mut self) -> io::Result<()> {
        let head = row(["#", "what was sent", "verdict", "reason", "what the client got", "upstream", "ok"]);
        writeln!(self.out, "{}", self.style.paint(Colour::Bold, head.trim_end()))
    }

    /// One row, and below it every difference from the expected result.
    pub(super) fn step(&mut self, number: usize, step: &Step, outcome: &Outcome) -> io::Result<()> {
        let (verdict, reason) = outcome.decision().unwrap_or(("-", "-"));
        let deviations = outcome.deviations(&step.expected);
        let ok = if deviations.is_empty() { "ok" } else { "NO" };
        let cells = [&number.to_string(), step.what, verdict, reason, &got(outcome), outcome.upstream.as_str(), ok];
        let row = row(cells);
        writeln!(self.out, "{}", self.painted(row.trim_end(), verdict, deviations.is_empty()))?;
        for deviation in &deviations {
            writeln!(self.out, "    {}", self.style.paint(Colour::Red, deviation))?;
        }
        self.out.flush()?;
        self.steps += 1;
        self.deviating.extend((!deviations.is_empty()).then_some(number));
        self.lines.extend(outcome.log_line.clone().map(|line| (number, line)));
        Ok(())
    }

    /// The row in the colour of its verdict.
    fn painted(&self, row: &str, verdict: &str, as_expected: bool) -> String {
        let of = |known: Verdict| verdict == known.as_str();
        let colour = match () {
            () if !as_expected => Colour::Red,
            () if of(Verdict::Forwarded) => Colour::Green,
            () if of(Verdict::Rejected) => Colour::Yellow,
            () => return row.to_owned(),
        };
        self.style.paint(colour, row)
    }

    /// The first refusal, in words.
    pub(super) fn story(&mut self, decisions: &[Arc<Decision>]) -> io::Result<()> {
        tell(self.out, self.style, decisions)
    }

    /// The decision log, each line with the number of its step.
    pub(super) fn log(&mut self) -> io::Result<()> {
        writeln!(self.out, "\n{}", self.style.paint(Colour::Bold, "Decision log"))?;
        let explanation = "One line for each callout, after the number of its step. This is log.format = \"text\", \
                           wrapped; the default is JSON.";
        writeln!(self.out, "{explanation}\n")?;
        for (number, line) in &self.lines {
            for (position, part) in wrapped(line, WIDTH - 4).iter().enumerate() {
                let margin = if position == 0 { format!("{number:>2}") } else { "  ".to_owned() };
                let part = if position == 0 { part.clone() } else { self.style.paint(Colour::Dim, part) };
                writeln!(self.out, "{margin}  {part}")?;
            }
        }
        Ok(())
    }

    /// What the audit log proves.
    pub(super) async fn proof(&mut self, scratch: &Path, call_id: Option<&str>) -> io::Result<()> {
        self.unproved = prove(scratch, call_id, self.out, self.style).await?;
        Ok(())
    }

    /// How many steps, and proofs, did not end as expected.
    pub(super) fn count(self) -> io::Result<usize> {
        let (steps, deviating) = (self.steps, self.deviating.len());
        if deviating == 0 {
            let line = format!("{steps} steps, all as expected.");
            writeln!(self.out, "\n{}", self.style.paint(Colour::Bold, &line))?;
        } else {
            let numbers: Vec<_> = self.deviating.iter().map(ToString::to_string).collect();
            let line = format!("{deviating} of {steps} steps NOT as expected: {}.", numbers.join(", "));
            writeln!(self.out, "\n{}", self.style.paint(Colour::Red, &line))?;
        }
        for wrong in &self.unproved {
            writeln!(self.out, "{}", self.style.paint(Colour::Red, &format!("NOT as expected: {wrong}.")))?;
        }
        Ok(deviating + self.unproved.len())
    }
}

/// Status, retcode, and events or call ID.
fn got(outcome: &Outcome) -> String {
    let Ok(answer) = &outcome.answer else { return "nothing".to_owned() };
    let mut got = format!("{} {}", answer.status, answer.retcode);
    for event in &answer.events {
        got.push(' ');
        got.push_str(event.strip_prefix("AgentEvent_").unwrap_or(event));
    }
    if let Some(call_id) = &answer.call_id {
        got.push_str(" call ");
        got.push_str(call_id);
    }
    got
}

fn row([number, what, verdict, reason, got, upstream, ok]: [&str; 7]) -> String {
    format!("{number:>2}  {what:<35}  {verdict:<10}  {reason:<21}  {got:<26}  {upstream:<8}  {ok}")
}
