//! A record in plain words.

use std::time::Duration;

use super::course::Course;
use crate::audit::Rfc3339;
use crate::audit::record::{Call, Decision, Delivered, Ended, Outcome, Record, Shown};
use crate::audit::verify::{Derived, Line};

/// One line in words; the first sentence, and details in further ones.
pub(super) fn tell(line: &Line) -> Vec<String> {
    let mut told = match line.record() {
        Some(Record::Shown(record)) => shown(&record),
        Some(Record::Delivered(record)) => vec![delivered(&record).to_owned()],
        Some(Record::Ended(record)) => vec![ended(&record)],
        Some(Record::Decision(record)) => decision(&record),
        Some(Record::Outcome(record)) => vec![outcome(&record)],
        Some(Record::Call(record)) => vec![call(&record)],
        _ => vec![format!("{} record", line.kind)],
    };
    told.push(format!("recorded in {} seq {}", line.file, line.seq));
    told
}

fn shown(record: &Shown<'_>) -> Vec<String> {
    let numbers: Vec<&str> = record.numbers.iter().map(|number| &*number.masked).collect();
    let numbers = match &numbers[..] {
        [] => "no number yet".to_owned(),
        [number] => format!("the number {number}"),
        numbers => format!("the numbers {}", numbers.join(", ")),
    };
    let mut told = vec![
        format!("agent {} is shown a preview: control ID {}, {numbers}", record.agent, record.control_id),
        format!("{} by {}; SHA-256 of its bytes {}", record.event_type, record.delivery, record.event),
    ];
    told.extend(record.evidence.iter().map(|(name, value)| format!("{name}: {value}")));
    told
}

fn delivered(record: &Delivered<'_>) -> &'static str {
    match &*record.result {
        "written" => "the agent's application has the preview",
        "unanswered" => "the agent's application did not answer the push, and may have the preview",
        _ => "the agent's application had gone before it got the preview",
    }
}

fn ended(record: &Ended<'_>) -> String {
    let what = match (record.control_id, record.before) {
        (Some(id), _) => format!("the preview with control ID {id} is"),
        (None, Some(before)) => format!("all previews of the agent that were shown before {} are", Rfc3339(before)),
        (None, None) => "all previews of the agent are".to_owned(),
    };
    format!("{what} over: {}", record.cause.replace('_', " "))
}

fn decision(record: &Decision<'_>) -> Vec<String> {
    let agent = record.agent.map_or("an unknown agent".to_owned(), |agent| format!("agent {agent}"));
    let number = record.called.as_ref().map_or("an unreadable number".to_owned(), |called| called.masked.to_string());
    let control = record.control_id.map_or(String::new(), |id| format!(", control ID {id}"));
    let verdict = match &*record.verdict {
        "forwarded" => "the gateway forwards the call, which follows from a preview".to_owned(),
        "unverified" => format!("the gateway forwards the call although: {}", record.reason),
        _ => format!("the gateway refuses the call: {}", record.reason),
    };
    let mut told = vec![format!("{agent} asks for a call to {number}{control}"), verdict];
    told.push(policy(record));
    let from = record.client.as_deref().unwrap_or("an unknown address");
    told.push(format!("asked from {from}, request {}; decision {}", record.request_id, record.id));
    told
}

fn policy(record: &Decision<'_>) -> String {
    let mut text = format!("mode {}", record.mode);
    if let Some(setting) = &record.allowed_by {
        text += &format!(", allowed by {setting}");
    }
    if let Some(source) = &record.judged_by {
        text += &format!(", previews from {source}");
    }
    let age = record.previews.iter().find_map(|preview| preview.number_age_ms);
    if let Some(age) = age {
        text += &format!("; the number was shown {} before, valid for {}", seconds(age), seconds(record.ttl_ms));
    }
    text
}

/// `10s`, `1m 30s`
pub(super) fn seconds(ms: u64) -> String {
    humantime::format_duration(Duration::from_millis(ms)).to_string()
}

/// How a call went: a disposition in plain words.
pub(super) fn disposition(word: &str) -> &str {
    match word {
        "talked" => "talked",
        "talking" => "talking, no end reported",
        "failed" => "failed",
        "not_answered" => "not answered",
        "ringing" => "rang, nothing else reported",
        other => other,
    }
}

/// The course of a call in one sentence; `None` if the platform reported nothing.
pub(super) fn course(course: &Course) -> Option<String> {
    let mut text = format!("course: {}", disposition(course.disposition()?.as_str()));
    if let Some(talked) = course.talked_ms() {
        text += &format!(" for {}", seconds(talked));
    }
    if let Some(rang) = course.rang_ms() {
        text += &format!(", after {} of ringing", seconds(rang));
    }
    Some(text)
}

fn outcome(record: &Outcome<'_>) -> String {
    let reason = record.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
    match &*record.result {
        "answered" => {
            let mut text = "the platform answers".to_owned();
            let mut add = |name: &str, value: Option<String>| {
                if let Some(value) = value {
                    text += &format!(", {name} {value}");
                }
            };
            add("status", record.status.map(|status| status.to_string()));
            add("retcode", record.retcode.as_ref().map(ToString::to_string));
            add("call", record.call_id.as_ref().map(ToString::to_string));
            text
        }
        "not_sent" => format!("the call was not sent{reason}: no telephone rang"),
        _ => format!("the call failed after it was sent{reason}: a telephone may have rung"),
    }
}

fn call(record: &Call<'_>) -> String {
    let phase = match &*record.phase {
        "alerting" => "the telephone rings",
        "talking" => "the called person answers",
        "released" => "the call is over",
        "failed" => "the call fails",
        other => other,
    };
    format!("{phase} ({})", record.event_type)
}

/// Whether the verdict follows from the records.
pub(super) fn derived(derived: &Derived) -> String {
    match derived {
        Derived::Same => "the rule, applied again to these records, gives the same verdict".to_owned(),
        Derived::NotByRule => "the rule was not applied to this callout".to_owned(),
        Derived::Unknown(reason) => format!("the rule cannot be applied again: {reason}"),
        Derived::Contradiction(reason) => format!("THE VERDICT DOES NOT FOLLOW: it {reason}"),
    }
}
