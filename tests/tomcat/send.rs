//! Sends cases, and records the response that each client gets.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::corpus::{ATTACKER, Case, VICTIM, request, valid_callout};
use crate::push::Pushes;
use crate::tomcat::Tomcat;
use crate::wire::{Connection, NoAnswer, Target};

/// Longer than any answer takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Enough for an answer, if there is one.
const GLANCE: Duration = Duration::from_millis(250);
/// Cases under way at once.
const CLIENTS: usize = 16;

/// How an agent gets the preview that follows from the agent's number.
pub(crate) enum Shows<'a> {
    /// In the answer to a poll that is sent to this address.
    Poll(&'a Target),
    /// By a push.
    Push(&'a Pushes<'a>),
}

impl Shows<'_> {
    fn show(&self, agent: u32) {
        match self {
            Self::Poll(target) => {
                let mut connection = Connection::open(target);
                let path = format!("/agentgateway/resource/agentevent/{agent}");
                connection.send(&request("GET", &path, "poll", "", b""));
                assert_eq!(connection.answer(PATIENCE, false).map(|answer| answer.status), Ok(200));
            }
            Self::Push(pushes) => pushes.show(agent),
        }
    }
}

/// The outcome of a run.
pub(crate) struct Sent {
    /// The response of each client, by the number of its case.
    pub(crate) heard: HashMap<usize, Heard>,
    /// The requests that arrived at the application.
    pub(crate) journal: Vec<Value>,
}

/// The response that the client of one case got.
#[derive(Default)]
pub(crate) struct Heard {
    /// The first answer.
    pub(crate) first: Option<Said>,
    /// Why the harmless request behind it was not answered correctly.
    pub(crate) confused: Option<String>,
}

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) status: u16,
    /// The case that the application took the request for.
    pub(crate) case: Option<String>,
    /// The gateway's reason.
    pub(crate) reason: Option<String>,
}

/// Shows both agents their previews, sends `cases` to `target` and reads what arrived at `tomcat`.
pub(crate) fn send(tomcat: &Tomcat, target: &Target, shows: &Shows<'_>, cases: &[&Case]) -> Sent {
    let already = tomcat.journal().lines().count();
    for agent in [ATTACKER, VICTIM] {
        shows.show(agent);
    }
    let (next, heard) = (AtomicUsize::new(0), Mutex::new(HashMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let one = send_one(target, shows, case);
                    heard.lock().unwrap().insert(case.number, one);
                }
            });
        }
    });
    let lines = tomcat.journal();
    let journal = lines.lines().skip(already).map(|line| serde_json::from_str(line).unwrap()).collect();
    Sent { heard: heard.into_inner().unwrap(), journal }
}

fn send_one(target: &Target, shows: &Shows<'_>, case: &Case) -> Heard {
    if let Some(agent) = case.ends_session_of {
        shows.show(agent);
    }
    let mut connection = Connection::open(target);
    // Some requests are sent in pieces, because the boundaries must not matter.
    let piece =
        if case.number.is_multiple_of(4) && case.bytes.len() < 2000 { 1 + case.number % 61 } else { case.bytes.len() };
    case.bytes.chunks(piece).for_each(|piece| connection.send(piece));
    let patience = if case.may_hang { GLANCE } else { PATIENCE };
    let first = connection.answer(patience, case.to_head);
    let mut heard = Heard::default();
    match first {
        Ok(answer) => {
            heard.first = Some(Said { status: answer.status, case: answer.case, reason: answer.reason });
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

/// A harmless request on the same connection gets its own answer, or the connection is closed.
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
pub(crate) fn number(marker: &str) -> Option<usize> {
    marker.split('-').next()?.parse().ok()
}
