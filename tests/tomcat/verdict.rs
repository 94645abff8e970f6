//! The check of the requests that have arrived.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use crate::corpus::{ATTACKER, Case, VICTIM};
use crate::send::{Heard, Said, Sent, number};
use crate::tomcat::ROUTERS;

/// The outcome of the cases of one class.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) sent: usize,
    /// Count of callouts that arrived without a preview.
    bypasses: Vec<String>,
    /// Count of behaving requests that did not arrive unchanged, or got another answer.
    refused: Vec<String>,
    /// Count of answers that went to the wrong request.
    confused: Vec<String>,
}

impl Counts {
    /// Exceptions of either kind.
    pub(crate) fn bad(&self) -> usize {
        self.bypasses.len() + self.refused.len()
    }
}

/// The outcome of a run, class by class.
pub(crate) struct Outcome {
    pub(crate) classes: BTreeMap<String, Counts>,
}

impl Outcome {
    /// A line for each class.
    pub(crate) fn table(&self) -> String {
        let row = |(class, counts): (&String, &Counts)| {
            let [bypasses, refused, confused] = [&counts.bypasses, &counts.refused, &counts.confused].map(Vec::len);
            format!(
                "  {class:<32} sent {:>4}  bypasses {bypasses}  refused {refused}  confused {confused}\n",
                counts.sent
            )
        };
        self.classes.iter().map(row).collect()
    }

    /// Fails with a list of all exceptions.
    pub(crate) fn assert_clean(&self) {
        let all = |of: fn(&Counts) -> &Vec<String>| self.classes.values().flat_map(of).cloned().collect::<Vec<_>>();
        let wrong = [
            ("bypasses", all(|counts| &counts.bypasses)),
            ("wrong refusals", all(|counts| &counts.refused)),
            ("answers to the wrong request", all(|counts| &counts.confused)),
        ];
        for (what, found) in &wrong {
            found.iter().for_each(|one| println!("{what}: {one}"));
        }
        for (what, found) in &wrong {
            assert!(found.is_empty(), "{} {what}", found.len());
        }
    }
}

/// Checks a run in which no callout without a preview may pass.
pub(crate) fn enforced(cases: &[&Case], sent: &Sent) -> Outcome {
    let Sent { heard, journal } = sent;
    let arrived = by_case(journal);
    let shown = shown(cases);
    let mut classes: BTreeMap<String, Counts> = BTreeMap::new();
    for case in cases {
        let entries = arrived.get(&Some(case.number)).map(Vec::as_slice).unwrap_or_default();
        let heard = &heard[&case.number];
        let counts = classes.entry(class_of(case)).or_default();
        counts.sent += 1;
        let told = |what: &str| format!("#{} {}: {what}: {}", case.number, case.class, beginning(&case.bytes));
        if let Some(entry) = entries.iter().find(|entry| slipped_past(entry, &shown)) {
            counts.bypasses.push(told(&entry.to_string()));
        } else if case.ends_session_of.is_some_and(|agent| outlived(entries, agent)) {
            counts.bypasses.push(told("the preview outlived its session"));
        }
        if let Some(wrong) = wrong_refusal(case, heard, entries) {
            counts.refused.push(told(&wrong));
        }
        counts.confused.extend(heard.confused.as_deref().map(told));
    }
    for entry in arrived.get(&None).into_iter().flatten().filter(|entry| slipped_past(entry, &shown)) {
        let counts = classes.entry("hostile, of no case".to_owned()).or_default();
        counts.bypasses.push(entry.to_string());
    }
    Outcome { classes }
}

/// The agents who have been shown a preview.
pub(crate) fn shown(cases: &[&Case]) -> BTreeSet<u32> {
    [ATTACKER, VICTIM].into_iter().chain(cases.iter().filter_map(|case| case.ends_session_of)).collect()
}

fn class_of(case: &Case) -> String {
    format!("{}{}", if case.is_hostile() { "hostile, " } else { "behaving, " }, case.class)
}

fn by_case(journal: &[Value]) -> HashMap<Option<usize>, Vec<&Value>> {
    let mut arrived: HashMap<_, Vec<_>> = HashMap::new();
    for entry in journal {
        arrived.entry(entry["case"].as_str().and_then(number)).or_default().push(entry);
    }
    arrived
}

/// Whether an arrival could be a callout without a preview, in any reading.
pub(crate) fn slipped_past(entry: &Value, shown: &BTreeSet<u32>) -> bool {
    let texts = |value: &Value| value.as_array().into_iter().flatten().cloned().collect::<Vec<_>>();
    let agents = texts(&entry["callouts"]);
    let bodies = texts(&entry["bodies"]);
    let valid = |agent: &Value, body: &Value| {
        let agent = agent.as_str().and_then(|agent| agent.parse::<u32>().ok()).filter(|agent| shown.contains(agent));
        agent.is_some_and(|agent| {
            let called = body[0].as_str().unwrap_or_default();
            let id = body[1].as_str().unwrap_or_default();
            id == format!("{agent}0") && (called == format!("7{agent}01") || called == format!("7{agent}02"))
        })
    };
    // Without a number no call is made. But an arrival without any number was not judged either.
    let calls: Vec<_> =
        bodies.iter().filter(|body| body[0].as_str().is_some_and(|called| !called.is_empty())).collect();
    agents.iter().any(|agent| calls.is_empty() || calls.iter().any(|body| !valid(agent, body)))
}

/// Whether the application took a request for the end of the session of `agent`, and a callout arrived afterwards.
fn outlived(entries: &[&Value], agent: u32) -> bool {
    let named = |entry: &Value, list: &str| {
        entry[list].as_array().into_iter().flatten().any(|one| one.as_str() == Some(&agent.to_string()))
    };
    let ended = entries.iter().position(|entry| named(entry, "ends"));
    ended.is_some_and(|at| entries.iter().skip(at + 1).any(|entry| named(entry, "callouts")))
}

fn wrong_refusal(case: &Case, heard: &Heard, entries: &[&Value]) -> Option<String> {
    let expected = case.expected.as_ref()?;
    let number = case.number.to_string();
    match &heard.first {
        Some(Said { status: 200, case: Some(answered), .. }) if *answered == number => {}
        other => return Some(format!("answered {other:?}")),
    }
    let Some(entry) = entries.iter().find(|entry| entry["case"] == number.as_str()) else {
        return Some("did not arrive".to_owned());
    };
    let (path, query) = expected.target.split_once('?').map_or((expected.target.as_str(), None), |(p, q)| (p, Some(q)));
    let same = entry["method"] == expected.method.as_str()
        && entry["uri"] == path
        && entry["query"].as_str() == query
        && entry["guid"] == "8f1c.AgentGateway1"
        && arrived_as(entry, &expected.body);
    if !same {
        return Some(format!("arrived changed: {entry}"));
    }
    // Otherwise the routers would not see the hostile requests either.
    let is_callout = case.class == "callout" && expected.method == "PUT";
    let routed = ROUTERS.iter().all(|(name, _)| entry["rest"][name].is_string());
    (is_callout && !routed).then(|| format!("a router did not find it: {entry}"))
}

/// Whether the body arrived byte for byte or, if it was not plain ASCII, with the same meaning in plain ASCII.
fn arrived_as(entry: &Value, expected: &[u8]) -> bool {
    let mut crc = flate2::Crc::new();
    crc.update(expected);
    let rewritten = || {
        let arrived = entry["body"].as_str().filter(|arrived| arrived.is_ascii())?;
        let [arrived, expected] = [arrived.as_bytes(), expected].map(serde_json::from_slice::<Value>);
        Some(arrived.ok()? == expected.ok()?)
    };
    let may_be_rewritten = !expected.is_ascii() || expected.contains(&b'\\');
    entry["crc"] == crc.sum() || (may_be_rewritten && rewritten() == Some(true))
}

fn beginning(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(700)]).escape_debug().to_string()
}
