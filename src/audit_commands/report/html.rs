//! The report as one page that needs nothing else: no script, no font, no picture. It is made to be printed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::day::{Callout, Day};
use crate::audit_commands::checked::Checked;
use crate::audit_commands::words::{disposition, seconds};

const STYLE: &str = include_str!("style.css");

pub(super) fn page(day: &Day) -> String {
    let mut body = String::new();
    heading(day, &mut body);
    tiles(day, &mut body);
    attention(day, &mut body);
    counts("Refused", "No telephone rang.", "reason", &day.refusals, &mut body);
    let why = "The gateway forwarded these calls although they did not follow from a preview.";
    counts("Not verified", why, "reason and permission", &day.unverified, &mut body);
    by_tenant(day, &mut body);
    by_agent(day, &mut body);
    calls(day, &mut body);
    let title = format!("Calls of {}", day.day);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n",
        escape(&title)
    )
}

fn heading(day: &Day, body: &mut String) {
    let agent = day.agent.map_or("All agents".to_owned(), |agent| format!("Agent {agent}"));
    let tenant = day.tenant.as_ref().map_or(String::new(), |tenant| format!(" of tenant {tenant}"));
    let instances: Vec<&str> = day.instances.iter().map(String::as_str).collect();
    let gateways = if instances.is_empty() { "none".to_owned() } else { instances.join(", ") };
    let _ = write!(
        body,
        "<header>\n<h1>Calls of {}</h1>\n<p>{}{}. All times are UTC. Gateways: {}. Made by previewgate {} from its audit \
         log.</p>\n<p class=\"{}\">Audit log: {}</p>\n</header>\n",
        escape(&day.day),
        escape(&agent),
        escape(&tenant),
        escape(&gateways),
        env!("CARGO_PKG_VERSION"),
        day.verification.as_ref().map_or("doubt", Checked::class),
        escape(&day.verification.as_ref().map(Checked::sentence).unwrap_or_default()),
    );
}

fn tiles(day: &Day, body: &mut String) {
    let verdict = |name: &str| day.verdicts.get(name).copied().unwrap_or_default();
    let open = day.callouts.iter().filter(|callout| callout.outcome.as_deref() == Some("open")).count();
    let talked: u64 = day.callouts.iter().filter_map(|callout| callout.talked_ms).sum();
    let tiles = [
        ("follow from a preview", verdict("forwarded").to_string(), "good"),
        ("refused", verdict("rejected").to_string(), "plain"),
        ("not verified", verdict("unverified").to_string(), if verdict("unverified") > 0 { "warn" } else { "plain" }),
        ("without outcome", open.to_string(), if open > 0 { "bad" } else { "plain" }),
        ("talking time", if talked == 0 { "\u{2013}".to_owned() } else { seconds(talked / 1000 * 1000) }, "plain"),
    ];
    body.push_str("<ul class=\"tiles\">\n");
    for (name, value, class) in tiles {
        let _ = writeln!(body, "<li class=\"{class}\"><b>{}</b> {}</li>", escape(&value), escape(name));
    }
    body.push_str("</ul>\n");
}

/// The callouts that a supervisor must look at.
fn attention(day: &Day, body: &mut String) {
    let mut points = Vec::new();
    for period in &day.monitor {
        let text =
            format!("{} to {}: gateway {} only watched (monitor mode).", period.from, period.to, period.instance);
        points.push(text);
    }
    for lost in &day.lost {
        let counts: Vec<String> = lost.records.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        points.push(format!(
            "{} to {}: gateway {} could not write records: {}.",
            lost.since,
            lost.until,
            lost.instance,
            counts.join(", ")
        ));
    }
    for callout in day.callouts.iter().filter(|callout| callout.outcome.as_deref() == Some("open")) {
        points.push(format!(
            "{}: agent {} called {}; no outcome is recorded, so a telephone may have rung.",
            callout.at,
            agent(callout),
            callout.number.as_deref().unwrap_or("?")
        ));
    }
    if points.is_empty() {
        return;
    }
    body.push_str("<section class=\"attention\">\n<h2>Needs attention</h2>\n<ul>\n");
    for point in points {
        let _ = writeln!(body, "<li>{}</li>", escape(&point));
    }
    body.push_str("</ul>\n</section>\n");
}

fn counts(title: &str, explanation: &str, column: &str, counts: &BTreeMap<String, u64>, body: &mut String) {
    if counts.is_empty() {
        return;
    }
    let _ = write!(body, "<section>\n<h2>{title}</h2>\n<p>{explanation}</p>\n");
    let rows = counts.iter().map(|(name, count)| vec![name.clone(), count.to_string()]);
    table(&[(column, ""), ("callouts", "number")], rows, body);
    body.push_str("</section>\n");
}

fn by_tenant(day: &Day, body: &mut String) {
    if day.tenants.is_empty() {
        return;
    }
    body.push_str("<section>\n<h2>Tenants</h2>\n");
    let columns =
        [("tenant", ""), ("follow from a preview", "number"), ("not verified", "number"), ("refused", "number")];
    let rows = day.tenants.iter().map(|(tenant, counts)| {
        let count = |verdict: &str| counts.get(verdict).copied().unwrap_or_default().to_string();
        vec![tenant.clone(), count("forwarded"), count("unverified"), count("rejected")]
    });
    table(&columns, rows, body);
    body.push_str("</section>\n");
}

fn by_agent(day: &Day, body: &mut String) {
    let mut agents: BTreeMap<Option<u32>, [u64; 4]> = BTreeMap::new();
    for callout in &day.callouts {
        let [forwarded, unverified, rejected, talked] = agents.entry(callout.agent).or_default();
        match &*callout.verdict {
            "forwarded" => *forwarded += 1,
            "unverified" => *unverified += 1,
            _ => *rejected += 1,
        }
        *talked += callout.talked_ms.unwrap_or_default();
    }
    if agents.len() < 2 {
        return;
    }
    body.push_str("<section>\n<h2>Agents</h2>\n");
    let columns = [
        ("agent", ""),
        ("follow from a preview", "number"),
        ("not verified", "number"),
        ("refused", "number"),
        ("talking time", "number"),
    ];
    let rows = agents.into_iter().map(|(agent, [forwarded, unverified, rejected, talked])| {
        let agent = agent.map_or("unknown".to_owned(), |agent| agent.to_string());
        let talked = if talked == 0 { String::new() } else { seconds(talked / 1000 * 1000) };
        vec![agent, forwarded.to_string(), unverified.to_string(), rejected.to_string(), talked]
    });
    table(&columns, rows, body);
    body.push_str("</section>\n");
}

fn calls(day: &Day, body: &mut String) {
    body.push_str("<section>\n<h2>Callouts</h2>\n");
    if day.callouts.is_empty() {
        body.push_str("<p>None.</p>\n</section>\n");
        return;
    }
    let has_tenants = !day.tenants.is_empty();
    let columns: Vec<(&str, &str)> = COLUMNS.into_iter().filter(|(name, _)| has_tenants || *name != TENANT).collect();
    table(&columns, day.callouts.iter().map(|callout| call(callout, has_tenants)), body);
    body.push_str("</section>\n");
}

const TENANT: &str = "tenant";
const COLUMNS: [(&str, &str); 10] = [
    ("time", ""),
    (TENANT, ""),
    ("agent", ""),
    ("number", ""),
    ("preview", "number"),
    ("shown before", "number"),
    ("verdict", ""),
    ("result", ""),
    ("call", ""),
    ("talked", "number"),
];

fn call(callout: &Callout, has_tenants: bool) -> Vec<String> {
    let verdict = match &*callout.verdict {
        "forwarded" => "ok".to_owned(),
        "unverified" => {
            format!("not verified: {} ({})", callout.reason, callout.allowed_by.as_deref().unwrap_or("monitor"))
        }
        _ => format!("refused: {}", callout.reason),
    };
    let rounded = |ms: u64| seconds(if ms < 1000 { ms } else { ms / 1000 * 1000 });
    let result = match (callout.outcome.as_deref(), callout.disposition, callout.retcode.as_deref()) {
        (_, Some(word), _) => disposition(word).to_owned(),
        (Some("answered"), None, Some(retcode)) => format!("retcode {retcode}"),
        (Some("open"), ..) => "not recorded".to_owned(),
        (Some(outcome), ..) => outcome.replace('_', " "),
        (None, ..) => String::new(),
    };
    let mut cells = vec![callout.at.get(11..19).unwrap_or_default().to_owned()];
    cells.extend(has_tenants.then(|| callout.tenant.clone().unwrap_or_default()));
    cells.extend([
        agent(callout),
        callout.number.clone().unwrap_or_default(),
        callout.control_id.map(|id| id.to_string()).unwrap_or_default(),
        callout.shown_ms.map(rounded).unwrap_or_default(),
        verdict,
        result,
        callout.call_id.clone().unwrap_or_default(),
        callout.talked_ms.map(rounded).unwrap_or_default(),
    ]);
    cells
}

fn agent(callout: &Callout) -> String {
    callout.agent.map_or("unknown".to_owned(), |agent| agent.to_string())
}

fn table(columns: &[(&str, &str)], rows: impl Iterator<Item = Vec<String>>, body: &mut String) {
    let _ = write!(body, "<table class=\"{}\">\n<thead><tr>", if columns.len() < 3 { "short" } else { "" });
    for (name, class) in columns {
        let _ = write!(body, "<th class=\"{class}\">{}</th>", escape(name));
    }
    body.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        body.push_str("<tr>");
        for (cell, (_, class)) in row.iter().zip(columns) {
            let _ = write!(body, "<td class=\"{class}\">{}</td>", escape(cell));
        }
        body.push_str("</tr>\n");
    }
    body.push_str("</tbody>\n</table>\n");
}

/// Text for HTML. Names of calls come from the platform, so nothing in them may become markup.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
