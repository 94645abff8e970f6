//! Monitor mode: everything except a broken head may pass, and everything that could be a callout has a decision line.

use std::collections::HashMap;

use serde_json::Value;

use crate::corpus::Case;
use crate::proxies::Gate;
use crate::send::{Said, Sent, Shows, number, send};
use crate::tomcat::Tomcat;
use crate::verdict::{shown, slipped_past};

/// Sends `cases` through a gateway in monitor mode, and compares its actions and its log with those of one in enforce mode.
///
/// - What could be a callout to any layer of the application has exactly one decision line, which never says `ok` of
///   what was not shown, and gives the reason for which the other gateway refused.
///   A preview that a request in an odd spelling may have ended stays valid here, because the application's reading is
///   not known.
/// - A request with a broken head arrives in neither mode.
pub(crate) fn assert_explained(tomcat: &Tomcat, cases: &[&Case], enforced: &Sent) {
    let gate = Gate::start(tomcat.lenient, "[validation]\nmode = \"monitor\"\n");
    let monitored = send(tomcat, &gate.target, &Shows::Poll(&gate.target), cases);
    let log = gate.log();
    let lines = decisions(&log);
    let shown = shown(cases);
    let by_number: HashMap<_, _> = cases.iter().map(|case| (case.number, *case)).collect();
    let mut markers: HashMap<_, usize> = HashMap::new();
    monitored.journal.iter().for_each(|entry| *markers.entry(entry["case"].as_str()).or_default() += 1);
    let marked = |entry: &Value| markers[&entry["case"].as_str()];
    let (mut callouts, mut unverified, mut wrong) = (0, 0, Vec::new());
    for entry in &monitored.journal {
        if entry["callouts"].as_array().is_none_or(Vec::is_empty) {
            continue;
        }
        callouts += 1;
        let case = entry["case"].as_str().and_then(number).and_then(|number| by_number.get(&number).copied());
        let said = lines.get(entry["id"].as_str().unwrap_or_default()).map(Vec::as_slice).unwrap_or_default();
        // Only the first request of the case counts: later ones have another history in the two runs. A mutation can put the
        // marker of another case into a request.
        let is_own = |case: &&Case| entry["case"] == case.number.to_string().as_str() && marked(entry) == 1;
        let refusal = case.filter(is_own).and_then(|case| refusal(enforced, case));
        let slipped = slipped_past(entry, &shown);
        unverified += usize::from(said.iter().any(|line| line["decision"] == "unverified"));
        if let Err(what) = explained(said, slipped, refusal) {
            let bytes = case.map(|case| String::from_utf8_lossy(&case.bytes[..case.bytes.len().min(500)]));
            wrong.push(format!("{what}: {said:?} {entry} {bytes:?}"));
        }
    }
    for case in cases {
        let arrived = || monitored.journal.iter().find(|entry| entry["case"] == case.number.to_string().as_str());
        if is_broken(enforced, case) && (!is_broken(&monitored, case) || arrived().is_some()) {
            wrong.push(format!("broken, and passed: #{} {:?}", case.number, monitored.heard[&case.number].first));
        }
    }
    println!("monitor mode: {callouts} arrivals that could be callouts, {unverified} of them unverified");
    wrong.iter().for_each(|one| println!("unexplained: {one}"));
    assert!(wrong.is_empty(), "{} unexplained", wrong.len());
    assert!(unverified > 500, "hardly anything was forwarded that should not have been: {unverified}");
}

fn explained(said: &[Value], slipped: bool, refusal: Option<&str>) -> Result<(), &'static str> {
    let [line] = said else { return Err("not exactly one decision") };
    match line["decision"].as_str() {
        Some("forwarded") if line["reason"] != "ok" => Err("forwarded for a reason"),
        Some("forwarded") if slipped => Err("said to be good, and was not shown"),
        Some("forwarded") if refusal.is_some() => Err("said to be good, and is refused elsewhere"),
        Some("forwarded") => Ok(()),
        Some("unverified") if line["reason"] == "ok" => Err("unverified without a reason"),
        Some("unverified") if refusal.is_some_and(|reason| line["reason"] != reason) => Err("another reason"),
        Some("unverified") => Ok(()),
        _ => Err("arrived although refused"),
    }
}

/// The decision lines of a log, by request ID.
fn decisions(log: &[Value]) -> HashMap<&str, Vec<Value>> {
    let mut lines: HashMap<_, Vec<_>> = HashMap::new();
    for line in log.iter().filter(|line| line["decision"].is_string()) {
        lines.entry(line["request_id"].as_str().unwrap()).or_default().push(line.clone());
    }
    lines
}

/// Why the gateway that enforces has refused the request, if it has.
fn refusal<'s>(enforced: &'s Sent, case: &Case) -> Option<&'s str> {
    enforced.heard[&case.number].first.as_ref()?.reason.as_deref()
}

/// The gateway or Tomcat refused the request for a reason that does not concern callouts.
fn is_broken(sent: &Sent, case: &Case) -> bool {
    matches!(sent.heard[&case.number].first, Some(Said { status: 400, case: None, reason: None }))
}
