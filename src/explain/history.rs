//! What the agents had been shown when the request was made: captured events, recorded by the live path's own
//! [`Ledger`], with a report of what each event did.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::report::{Report, Show};
use crate::config::{Config, Previews, StoreKind};
use crate::preview::{AgentId, AgentPreviews, Change, ControlId, ManualClock, RecordId, Timestamp};
use crate::protocol::envelope::says_signed_out;
use crate::protocol::{Delivery, Event, Events, ParsedCallout, parse_callout, parse_events};
use crate::store::{Ledger, Outcome, Ownership, Recorded, Source};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::DropCause;

/// The GUID of polls whose line names none: such a poll counts as the agent's own.
const ASSUMED_GUID: &[u8] = b"assumed";

/// The previews of every agent, and the lines that they come from.
pub(super) struct History {
    /// When the request was made. Without a given time this is the moment of every event, too.
    pub(super) now: Timestamp,
    ledger: Ledger,
    clock: Arc<ManualClock>,
    agents: BTreeMap<AgentId, Lines>,
    timed: bool,
}

/// What one agent was shown.
#[derive(Default)]
pub(super) struct Shown {
    pub(super) previews: Arc<AgentPreviews>,
    lines: Lines,
}

/// Where one agent's previews began and ended.
#[derive(Clone, Default)]
struct Lines {
    /// The line of each control ID's last announcement.
    announced: BTreeMap<ControlId, usize>,
    /// The line at which all previews ended last, and the cause.
    ended: Option<(usize, String)>,
}

impl Shown {
    /// The line that announced `control_id` last.
    pub(super) fn line(&self, control_id: ControlId) -> usize {
        self.lines.announced.get(&control_id).copied().unwrap_or_default()
    }

    /// The line at which all previews ended last, and the cause.
    pub(super) fn ended(&self) -> Option<&(usize, String)> {
        self.lines.ended.as_ref()
    }
}

struct Replay<'a> {
    history: History,
    per_agent: usize,
    calls_per_number: u32,
    show: Show,
    report: &'a mut Report,
    line: usize,
}

impl History {
    /// Records the events in a file, oldest first, and reports what each did.
    pub(super) fn replay(
        file: &[u8],
        now: Option<Timestamp>,
        config: &Config,
        show: Show,
        report: &mut Report,
    ) -> Self {
        let clock = Arc::new(ManualClock::new(now.unwrap_or(Timestamp(0))));
        let history = Self {
            now: now.unwrap_or(Timestamp(0)),
            ledger: offline(config, &clock),
            clock,
            agents: BTreeMap::new(),
            timed: now.is_some(),
        };
        let Previews { per_agent, calls_per_number, .. } = config.previews;
        let mut replay = Replay { history, per_agent, calls_per_number, show, report, line: 0 };
        // A single answer may have been saved in a form for people, over several lines.
        let one_document = parse_events(file).is_ok();
        let pieces = file.split(|byte| *byte == b'\n' && !one_document);
        for (number, piece) in (1..).zip(pieces) {
            let piece = piece.trim_ascii();
            if !piece.is_empty() && !piece.starts_with(b"#") {
                replay.line = number;
                replay.answer(piece);
            }
        }
        replay.history.clock.set(replay.history.now);
        replay.history
    }

    /// What `agent` was shown.
    pub(super) fn of(&self, agent: AgentId) -> Shown {
        Shown {
            previews: self.ledger.local().previews(agent).unwrap_or_default(),
            lines: self.agents.get(&agent).cloned().unwrap_or_default(),
        }
    }

    /// What is known about the GUID of a request. Captured polls without a GUID say nothing about it, and a request that
    /// is a body alone counts as the agent's own.
    pub(super) fn session_of(&self, guid: &[u8], agent: AgentId) -> Ownership {
        let assumed = guid == ASSUMED_GUID || self.ledger.session_of(ASSUMED_GUID, agent).speaks_for_agent();
        if assumed { Ownership::Own } else { self.ledger.session_of(guid, agent) }
    }

    /// Whether the last answer said that `agent` has no session, and no preview came since.
    pub(super) fn is_signed_out(&self, agent: AgentId) -> bool {
        self.ledger.is_signed_out(agent)
    }

    /// The agents that have previews.
    pub(super) fn agents_with_previews(&self) -> Vec<String> {
        let mut agents: Vec<_> = self.ledger.local().agents().into_iter().map(|(agent, _)| agent).collect();
        agents.sort_unstable();
        agents.iter().map(ToString::to_string).collect()
    }
}

/// A ledger that shares nothing and saves nothing.
fn offline(config: &Config, clock: &Arc<ManualClock>) -> Ledger {
    let previews = Previews { store: StoreKind::Memory, snapshot: None, ..config.previews.clone() };
    Ledger::new(&previews, clock.clone(), Arc::new(Metrics::new()))
}

impl Replay<'_> {
    fn say(&mut self, words: &str) {
        self.report.line(&format!("line {}: {words}", self.line));
    }

    fn answer(&mut self, text: &[u8]) {
        let Captured { polled, guid, body } = match unwrapped(text) {
            Line::Answer(captured) => captured,
            Line::Callout(agent, body) => return self.called(agent, &body),
        };
        let Ok(found) = parse_events(&body) else {
            return self.say("cannot be read: not JSON of a documented shape; the gateway would learn nothing from it");
        };
        let guid = guid.unwrap_or_else(|| {
            if let Some(agent) = polled {
                self.history.ledger.learn_session(agent, ASSUMED_GUID);
            }
            ASSUMED_GUID.to_vec()
        });
        self.retcode(found.retcode.as_deref(), polled, &guid);
        if found.events.is_empty() && found.unreadable == 0 && !found.retcode.as_deref().is_some_and(says_signed_out) {
            self.say("no event");
        }
        self.events(&found, polled, &guid);
        if found.unreadable > 0 {
            let unreadable = found.unreadable;
            self.say(&format!(
                "{unreadable} event(s) cannot be read: control ID or numbers are missing or not as documented"
            ));
        }
    }

    /// An earlier callout that was forwarded.
    fn called(&mut self, agent: Option<AgentId>, body: &[u8]) {
        let (Some(agent), Ok(ParsedCallout { callout, .. })) = (agent, parse_callout(body)) else {
            return self.say("cannot be read: the callout or its agent is not as documented");
        };
        let (id, called) = (callout.control_id, self.show.number(&callout.called));
        if self.calls_per_number == 0 {
            return self.say(&format!("agent {agent} called {called}: does not count, previews.calls_per_number is 0"));
        }
        let name = RecordId { run: 0, number: self.line as u64 };
        self.history.ledger.note_call(agent, &callout, name);
        self.say(&format!("agent {agent} called {called} of control ID {id}: counts"));
    }

    /// Reports what the `retcode` of a polling answer means for the agent's previews.
    fn retcode(&mut self, retcode: Option<&str>, polled: Option<AgentId>, guid: &[u8]) {
        let Some(retcode) = retcode.filter(|retcode| says_signed_out(retcode)) else { return };
        let Some(agent) = polled else {
            return self.say(&format!(
                "retcode {retcode} ends the previews of the agent that was polled; {{\"agent\":…,\"body\":…}} names it"
            ));
        };
        if self.history.ledger.session_of(guid, agent).speaks_for_agent() {
            self.end(agent, &format!("retcode {retcode}: the agent has no session"));
        } else {
            self.say(&format!("retcode {retcode}: not the agent's own GUID, so no preview of agent {agent} ends"));
        }
    }

    /// Records each event by itself, because each has a time of its own, and reports what it did.
    fn events(&mut self, found: &Events, polled: Option<AgentId>, guid: &[u8]) {
        let delivery = if polled.is_some() { Delivery::Poll } else { Delivery::PollAll };
        if found.events.is_empty() {
            let nothing = Events { unreadable: 0, ..found.clone() };
            self.record(nothing, polled, delivery, guid);
        }
        for event in &found.events {
            let at = event.generated_at.filter(|_| self.history.timed).map(Timestamp);
            self.history.clock.set(at.unwrap_or(self.history.now));
            let retcode = found.retcode.clone();
            let alone = Events { events: vec![event.clone()], retcode, ..Events::default() };
            let outcome = self.record(alone, polled, delivery, guid).outcomes.pop().unwrap_or(Outcome::Irrelevant);
            self.outcome(event, outcome, at.is_some());
        }
    }

    fn record(&mut self, found: Events, meant_for: Option<AgentId>, delivery: Delivery, guid: &[u8]) -> Recorded {
        let ledger = &self.history.ledger;
        ledger.record(
            found,
            &Source { meant_for, delivery, session: Some(guid), began: ledger.moment(), at: ledger.clock().now() },
        )
    }

    fn outcome(&mut self, event: &Event, outcome: Outcome, has_time: bool) {
        let name = event.event_type.as_str();
        match outcome {
            Outcome::Irrelevant => self.say(&format!("{name} event: changes no preview")),
            Outcome::NoAgent => {
                self.say(&format!("{name}: names no agent, or another one than polled; the gateway cannot use it"));
            }
            Outcome::Ended(agent, None) => self.end(agent, name),
            Outcome::Ended(agent, Some(control_id)) => {
                self.say(&format!("{name}: the preview of agent {agent} with control ID {control_id} is over"));
            }
            Outcome::Shown { agent, evicted } => self.shown(agent, event, evicted, has_time),
            Outcome::Dropped(agent, DropCause::Outdated) => self.say(&format!(
                "{name}: not recorded for agent {agent}, because its eventGenTime is before that of an end that came first"
            )),
            Outcome::Dropped(agent, DropCause::EarlierSession) => {
                self.say(&format!("{name}: not recorded for agent {agent}, because its session is over"));
            }
            Outcome::Dropped(agent, DropCause::FailedAnswer) => {
                self.say(&format!("{name}: not recorded for agent {agent}, because the retcode is not a success"));
            }
        }
    }

    fn end(&mut self, agent: AgentId, why: &str) {
        self.say(&format!("{why}: all previews of agent {agent} are over"));
        self.history.agents.entry(agent).or_default().ended = Some((self.line, why.to_owned()));
    }

    fn shown(&mut self, agent: AgentId, event: &Event, evicted: usize, has_time: bool) {
        if let Some(Change::Shown(announcement)) = &event.change {
            let (name, id) = (event.event_type.as_str(), announcement.control_id);
            let numbers = self.show.list(&announcement.numbers);
            let untimed = if self.history.timed && !has_time { " (no eventGenTime: taken as just now)" } else { "" };
            self.say(&format!("{name}: agent {agent} is shown control ID {id} with {numbers}{untimed}"));
            self.history.agents.entry(agent).or_default().announced.insert(id, self.line);
        }
        if evicted > 0 {
            let per_agent = self.per_agent;
            self.say(&format!("the oldest preview of agent {agent} made room: previews.per_agent is {per_agent}"));
        }
    }
}

/// One line of the file of events.
enum Line {
    Answer(Captured),
    /// An earlier callout of this agent, as its JSON body.
    Callout(Option<AgentId>, Vec<u8>),
}

/// An answer to a poll, or a push.
struct Captured {
    polled: Option<AgentId>,
    guid: Option<Vec<u8>>,
    body: Vec<u8>,
}

/// The content of a line `{"agent":101,"guid":…,"body":…}`, in which `guid` is optional, or `{"agent":101,"callout":{…}}`;
/// any other line is a body itself.
fn unwrapped(line: &[u8]) -> Line {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Called<'a> {
        agent: u32,
        #[serde(borrow)]
        callout: &'a RawValue,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wrapped<'a> {
        agent: u32,
        #[serde(default)]
        guid: Option<String>,
        #[serde(borrow)]
        body: &'a RawValue,
    }

    if let Ok(Called { agent, callout }) = serde_json::from_slice(line) {
        return Line::Callout(AgentId::try_from(agent).ok(), callout.get().as_bytes().to_vec());
    }
    Line::Answer(match serde_json::from_slice::<Wrapped<'_>>(line) {
        Ok(Wrapped { agent, guid, body }) => {
            // The body as JSON, or as the text that was received.
            let text = serde_json::from_str::<String>(body.get()).unwrap_or_else(|_| body.get().to_owned());
            Captured {
                polled: AgentId::try_from(agent).ok(),
                guid: guid.map(String::into_bytes),
                body: text.into_bytes(),
            }
        }
        Err(_) => Captured { polled: None, guid: None, body: line.to_vec() },
    })
}
