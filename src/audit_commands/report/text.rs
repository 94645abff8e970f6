//! The report for a terminal.

use std::collections::BTreeMap;

use super::day::{Callout, Day};
use crate::audit_commands::checked::Checked;
use crate::audit_commands::words::{disposition, seconds};

pub(super) fn page(day: &Day) -> String {
    let mut page = Page(String::new());
    let agent = day.agent.map_or(String::new(), |agent| format!(", agent {agent}"));
    let tenant = day.tenant.as_ref().map_or(String::new(), |tenant| format!(", tenant {tenant}"));
    page.line(&format!("{} (UTC){agent}{tenant}", day.day));
    let instances: Vec<&str> = day.instances.iter().map(String::as_str).collect();
    page.line(&format!("gateways: {}", if instances.is_empty() { "none".to_owned() } else { instances.join(", ") }));
    page.line(&format!("audit log: {}", day.verification.as_ref().map(Checked::sentence).unwrap_or_default()));
    page.counts("callouts", &day.verdicts);
    page.counts("refused, by reason", &day.refusals);
    page.counts("forwarded although the rule refused them", &day.unverified);
    page.list("by tenant", day.tenants.iter().map(|(name, counts)| format!("{name}: {}", list_of(counts))));
    let dispositions = day.dispositions.iter().map(|(name, count)| format!("{count:>8}  {}", disposition(name)));
    page.list("calls, as the platform reported them", dispositions);
    page.list("monitor mode", day.monitor.iter().map(|p| format!("{} to {} at {}", p.from, p.to, p.instance)));
    let lost = day
        .lost
        .iter()
        .map(|lost| format!("{} to {} at {}: {}", lost.since, lost.until, lost.instance, list_of(&lost.records)));
    page.list("records that could not be written", lost);
    let open = day.callouts.iter().filter(|callout| callout.outcome.as_deref() == Some("open"));
    page.list("without outcome: a telephone may have rung", open.map(row));
    page.list("calls", day.callouts.iter().filter(|callout| callout.was_sent()).map(row));
    page.0
}

fn list_of(counts: &BTreeMap<String, u64>) -> String {
    counts.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
}

struct Page(String);

impl Page {
    fn line(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    fn counts(&mut self, title: &str, counts: &BTreeMap<String, u64>) {
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
    for (name, value) in [("retcode", &callout.retcode), ("call", &callout.call_id), ("tenant", &callout.tenant)] {
        if let Some(value) = value {
            text += &format!("  {name} {value}");
        }
    }
    match (callout.disposition, callout.talked_ms) {
        (Some("talked"), Some(talked)) => text += &format!("  talked for {}", seconds(talked)),
        (Some(word), _) => text += &format!("  {}", disposition(word)),
        (None, _) => {}
    }
    text
}
