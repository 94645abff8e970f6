//! Nothing slips past: a corpus of requests through the gateway to a real Tomcat with forgiving layers behind it.
//!
//! For every hostile request: whatever reached the application and could be a `previewCallout` to *any* of its layers
//! and mappers must have been shown. For every behaving one: it arrived as it was sent. See `corpus` and `app/`.
//!
//! `PREVIEWGATE_COMPARE=1` sends the same through nginx and HAProxy as well and prints the table.

// A test may fail loudly; clippy takes only the functions marked as tests for one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::string_slice)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod corpus;
mod proxies;
mod tomcat;
mod wire;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use corpus::{ATTACKER, Case, VICTIM, corpus, request, valid_callout};
use proxies::{Gate, Proxy};
use tomcat::{ROUTERS, Tomcat, Version};
use wire::{Connection, NoAnswer, Target};

/// More than any answer takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// Enough for an answer, if there is one.
const GLANCE: Duration = Duration::from_millis(250);
/// Cases under way at once.
const CLIENTS: usize = 16;

#[test]
fn nothing_slips_past_to_tomcat_9() {
    nothing_slips_past(Version::Nine);
}

#[test]
fn nothing_slips_past_to_tomcat_10() {
    nothing_slips_past(Version::Ten);
}

fn nothing_slips_past(version: Version) {
    let Some(tomcat) = Tomcat::start(version) else { return };
    let all = corpus();
    assert!(all.len() >= 4000, "{}", all.len());
    let cases: Vec<_> = all.iter().collect();
    let found = Outcome::of(&tomcat, &Gate::start(tomcat.lenient, None).target, &cases);
    let passing = Outcome::of(&tomcat, &Gate::start(tomcat.passing, None).target, &cases);
    let identity = previewgate::simulator::self_signed(&["localhost"]).unwrap();
    // Tomcat as it comes refuses characters that no URI has, whoever sends them.
    let is_uri = |case: &&Case| case.is_hostile() || !case.bytes.contains(&b'|');
    let some: Vec<_> = all.iter().step_by(9).filter(is_uri).collect();
    let over_tls = Outcome::of(&tomcat, &Gate::start(tomcat.standard, Some(&identity)).target, &some);
    for (way, outcome) in [("plain HTTP", found), ("encoded slashes as they are", passing), ("over TLS", over_tls)] {
        println!("{version:?}, {way}\n{}", outcome.table());
        outcome.assert_clean();
    }
}

#[test]
fn compared_with_transparent_proxies() {
    if std::env::var_os("PREVIEWGATE_COMPARE").is_none() {
        return;
    }
    let Some(tomcat) = Tomcat::start(Version::Nine) else { return };
    let all = corpus();
    let cases: Vec<_> = all.iter().collect();
    let nginx = Outcome::of(&tomcat, &Proxy::nginx(tomcat.lenient).target, &cases);
    let haproxy = Outcome::of(&tomcat, &Proxy::haproxy(tomcat.lenient).target, &cases);
    let gate = Gate::start(tomcat.lenient, None);
    let previewgate = Outcome::of(&tomcat, &gate.target, &cases);
    println!("| class | requests | nginx | HAProxy | previewgate |\n|---|---:|---:|---:|---:|");
    for (class, counts) in &nginx.classes {
        let of = |outcome: &Outcome| outcome.classes.get(class).map_or(0, Counts::bad);
        println!("| {class} | {} | {} | {} | {} |", counts.sent, of(&nginx), of(&haproxy), of(&previewgate));
    }
}

/// What became of the cases of one class.
#[derive(Default)]
struct Counts {
    sent: usize,
    /// Arrived as a callout that nobody was shown.
    bypasses: Vec<String>,
    /// Of behaving clients, not arrived as sent, or answered otherwise.
    refused: Vec<String>,
    /// An answer went to the wrong request.
    confused: Vec<String>,
}

impl Counts {
    fn bad(&self) -> usize {
        self.bypasses.len() + self.refused.len()
    }
}

struct Outcome {
    classes: BTreeMap<String, Counts>,
}

impl Outcome {
    /// Sends `cases` to `target` and reads what arrived.
    fn of(tomcat: &Tomcat, target: &Target, cases: &[&Case]) -> Self {
        let already = tomcat.journal().lines().count();
        for agent in [ATTACKER, VICTIM] {
            poll(target, agent);
        }
        let heard = send_all(target, cases);
        let journal: Vec<Value> =
            tomcat.journal().lines().skip(already).map(|line| serde_json::from_str(line).unwrap()).collect();
        judge(cases, &heard, &journal)
    }

    fn table(&self) -> String {
        let row = |(class, counts): (&String, &Counts)| {
            let [bypasses, refused, confused] = [&counts.bypasses, &counts.refused, &counts.confused].map(Vec::len);
            format!(
                "  {class:<32} sent {:>4}  bypasses {bypasses}  refused {refused}  confused {confused}\n",
                counts.sent
            )
        };
        self.classes.iter().map(row).collect()
    }

    fn assert_clean(&self) {
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

/// What the client of one case heard.
#[derive(Default)]
struct Heard {
    /// The status of the first answer, and the case it names.
    first: Option<(u16, Option<String>)>,
    /// Why the innocent request behind it was not answered as it should.
    confused: Option<String>,
}

fn poll(target: &Target, agent: u32) {
    let mut connection = Connection::open(target);
    connection.send(&request("GET", &format!("/agentgateway/resource/agentevent/{agent}"), "poll", "", b""));
    assert_eq!(connection.answer(PATIENCE, false).map(|answer| answer.status), Ok(200));
}

fn send_all(target: &Target, cases: &[&Case]) -> HashMap<usize, Heard> {
    let (next, heard) = (AtomicUsize::new(0), Mutex::new(HashMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let one = send(target, case);
                    heard.lock().unwrap().insert(case.number, one);
                }
            });
        }
    });
    heard.into_inner().unwrap()
}

fn send(target: &Target, case: &Case) -> Heard {
    if let Some(agent) = case.ends_session_of {
        poll(target, agent);
    }
    let mut connection = Connection::open(target);
    // Some in pieces: where they end must not matter.
    let piece =
        if case.number.is_multiple_of(4) && case.bytes.len() < 2000 { 1 + case.number % 61 } else { case.bytes.len() };
    case.bytes.chunks(piece).for_each(|piece| connection.send(piece));
    let patience = if case.may_hang { GLANCE } else { PATIENCE };
    let first = connection.answer(patience, case.to_head);
    let mut heard = Heard::default();
    match first {
        Ok(answer) => {
            heard.first = Some((answer.status, answer.case));
            heard.confused = follow(&mut connection, case, patience);
        }
        Err(NoAnswer::Silence) if !case.may_hang => heard.confused = Some("no answer".to_owned()),
        Err(_) => {}
    }
    if let Some(agent) = case.ends_session_of {
        let mut connection = Connection::open(target);
        connection.send(&valid_callout(agent, &format!("{}-then", case.number)));
        let _ = connection.answer(PATIENCE, false);
    }
    heard
}

/// An innocent request on the same connection gets its own answer, or the connection is closed.
fn follow(connection: &mut Connection, case: &Case, patience: Duration) -> Option<String> {
    let marker = format!("{}-f", case.number);
    connection.send(&request("GET", "/agentgateway/resource/voicecall/101/status", &marker, "", b""));
    for _ in 0..4 {
        match connection.answer(patience, false) {
            Ok(answer) if answer.case.as_ref() == Some(&marker) => return None,
            // Its own further requests.
            Ok(answer) if answer.case.as_ref().is_none_or(|other| number(other) == Some(case.number)) => {}
            Ok(answer) => return Some(format!("got the answer to {:?}", answer.case)),
            Err(NoAnswer::Closed) => return None,
            Err(NoAnswer::Silence) if case.may_hang => return None,
            Err(NoAnswer::Silence) => return Some("the next request was not answered".to_owned()),
        }
    }
    Some("too many answers".to_owned())
}

/// The case that a marker belongs to.
fn number(marker: &str) -> Option<usize> {
    marker.split('-').next()?.parse().ok()
}

fn judge(cases: &[&Case], heard: &HashMap<usize, Heard>, journal: &[Value]) -> Outcome {
    let arrived = by_case(journal);
    let shown: BTreeSet<u32> =
        [ATTACKER, VICTIM].into_iter().chain(cases.iter().filter_map(|case| case.ends_session_of)).collect();
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

/// Whether an arrival could be a callout, and not one that was shown in every reading.
fn slipped_past(entry: &Value, shown: &BTreeSet<u32>) -> bool {
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
    // Without a number nobody is called; but an arrival without any number was not judged either.
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
        Some((200, Some(answered))) if *answered == number => {}
        other => return Some(format!("answered {other:?}")),
    }
    let Some(entry) = entries.iter().find(|entry| entry["case"] == number.as_str()) else {
        return Some("did not arrive".to_owned());
    };
    let (path, query) = expected.target.split_once('?').map_or((expected.target.as_str(), None), |(p, q)| (p, Some(q)));
    let mut crc = flate2::Crc::new();
    crc.update(&expected.body);
    let same = entry["method"] == expected.method.as_str()
        && entry["uri"] == path
        && entry["query"].as_str() == query
        && entry["guid"] == "8f1c.AgentGateway1"
        && entry["crc"] == crc.sum();
    if !same {
        return Some(format!("arrived changed: {entry}"));
    }
    // Or the routers would have nothing to say about the hostile ones either.
    let is_callout = case.class == "callout" && expected.method == "PUT";
    let routed = ROUTERS.iter().all(|(name, _)| entry["rest"][name].is_string());
    (is_callout && !routed).then(|| format!("a router did not find it: {entry}"))
}

fn beginning(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(700)]).escape_debug().to_string()
}
