//! The report for a terminal.

use super::day::{Callout, Day};
use crate::audit_commands::words::seconds;

pub(super) fn page(day: &Day) -> String {
    let mut page = Page(String::new());
    let agent = day.agent.map_or(String::new(), |agent| format!(", agent {agent}"));
    page.line(&format!("{} (UTC){agent}", day.day));
    let instances: Vec<&str> = day.instances.iter().map(String::as_str).collect();
    page.line(&format!("gateways: {}", if instances.is_empty() { "none".to_owned() } else { instances.join(", ") }));
    page.counts("callouts", &day.verdicts);
    page.counts("refused, by reason", &day.refusals);
    page.counts("forwarded although the rule refused them", &day.unverified);
    page.list("monitor mode", day.monitor.iter().map(|p| format!("{} to {} at {}", p.from, p.to, p.instance)));
    let lost = day.lost.iter().map(|lost| {
        let counts: Vec<String> = lost.records.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        format!("{} to {} at {}: {}", lost.since, lost.until, lost.instance, counts.join(", "))
    });
    page.list("records that could not be written", lost);
    let open = day.callouts.iter().filter(|callout| callout.outcome.as_deref() == Some("open"));
    page.list("without outcome: a telephone may have rung", open.map(row));
    page.list("calls", day.callouts.iter().filter(|callout| callout.was_sent()).map(row));
    page.0
}

struct Page(String);

impl Page {
    fn line(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    fn counts(&mut self, title: &str, counts: &std::collections::BTreeMap<String, u64>) {
        self.list(title, counts.iter().map(|(name, count)| format!("{count:>8}  {name}")));
    }

    fn list(&mut self, title: &str, lines: impl Iterator<Item = String>) {
        let lines: Vec<String> = lines.collect();
        if lines.is_empty() {
            return;
        }
        self.line(&format!("\n{title}"));
        for line in lines {
            self.line(&format!("  {line}"));
        }
    }
}

fn row(callout: &Callout) -> String {
    let agent = callout.agent.map_or("?".to_owned(), |agent| agent.to_string());
    let number = callout.number.as_deref().unwrap_or("?");
    let mut text = format!("{}  agent {agent}  {number}  {} {}", callout.at, callout.verdict, callout.reason);
    if let Some(shown) = callout.shown_ms {
        text += &format!("  shown {} before", seconds(shown));
    }
    text += &format!("  {}", callout.outcome.as_deref().unwrap_or("refused"));
    for (name, value) in [("retcode", &callout.retcode), ("call", &callout.call_id), ("phase", &callout.phase)] {
        if let Some(value) = value {
            text += &format!("  {name} {value}");
        }
    }
    if let Some(talked) = callout.talked_ms {
        text += &format!("  talked {}", seconds(talked));
    }
    text
}
