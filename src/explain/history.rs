//! What the agents had been shown when the request was made.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Report, Show};
use crate::config::Config;
use crate::preview::{AgentId, AgentPreviews, Bounds, Change, ControlId, Timestamp};
use crate::protocol::envelope::says_signed_out;
use crate::protocol::{Event, Events, parse_events};

/// The previews of every agent, and where they come from.
pub(super) struct History {
    /// When the request was made. Without a given time this is the moment of every event, too.
    pub(super) now: Timestamp,
    agents: BTreeMap<AgentId, Shown>,
    timed: bool,
}

/// What one agent was shown.
#[derive(Default)]
pub(super) struct Shown {
    pub(super) previews: AgentPreviews,
    /// The line of each control ID's last announcement.
    lines: BTreeMap<ControlId, usize>,
    /// Where and by what all previews ended last.
    pub(super) ended: Option<(usize, String)>,
}

impl Shown {
    /// The line that announced `control_id` last.
    pub(super) fn line(&self, control_id: ControlId) -> usize {
        self.lines.get(&control_id).copied().unwrap_or_default()
    }
}

struct Replay<'a> {
    history: History,
    bounds: Bounds,
    show: Show,
    report: &'a mut Report,
    line: usize,
}

impl History {
    /// Applies the events in a file, oldest first, and tells what each did.
    pub(super) fn replay(
        file: &[u8],
        now: Option<Timestamp>,
        config: &Config,
        show: Show,
        report: &mut Report,
    ) -> Self {
        let history = Self { now: now.unwrap_or(Timestamp(0)), agents: BTreeMap::new(), timed: now.is_some() };
        let bounds = Bounds { per_agent: config.previews.per_agent };
        let mut replay = Replay { history, bounds, show, report, line: 0 };
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
        replay.history
    }

    /// What `agent` was shown.
    pub(super) fn of(&self, agent: AgentId) -> Option<&Shown> {
        self.agents.get(&agent)
    }

    /// The agents that have previews.
    pub(super) fn agents_with_previews(&self) -> Vec<String> {
        self.agents.iter().filter(|(_, shown)| !shown.previews.is_empty()).map(|(agent, _)| agent.to_string()).collect()
    }
}

impl Replay<'_> {
    fn say(&mut self, words: &str) {
        self.report.line(&format!("line {}: {words}", self.line));
    }

    fn answer(&mut self, text: &[u8]) {
        let (polled, body) = unwrapped(text);
        let Ok(Events { events, unreadable, retcode }) = parse_events(&body) else {
            return self.say("cannot be read: not JSON of a documented shape; the gateway would learn nothing from it");
        };
        let signed_out = retcode.filter(|retcode| says_signed_out(retcode));
        match (signed_out, polled) {
            (Some(retcode), Some(agent)) => self.end(agent, &format!("retcode {retcode}: the agent has no session")),
            (Some(retcode), None) => {
                self.say(&format!(
                    "retcode {retcode} ends the previews of whoever polled; {{\"agent\":…,\"body\":…}} says who"
                ));
            }
            (None, _) if events.is_empty() && unreadable == 0 => self.say("no event"),
            (None, _) => {}
        }
        for event in events {
            self.event(event, polled);
        }
        if unreadable > 0 {
            self.say(&format!(
                "{unreadable} event(s) cannot be read: control ID or numbers are missing or not as documented"
            ));
        }
    }

    fn event(&mut self, event: Event, polled: Option<AgentId>) {
        let name = event.event_type.as_str();
        let whose = event.whose(polled);
        match (event.change, whose) {
            (None, _) => self.say(&format!("{name} event: changes no preview")),
            (Some(_), None) => {
                self.say(&format!("{name}: names no agent, or another one than polled; the gateway cannot use it"));
            }
            (Some(Change::Ended | Change::EndedBefore(_)), Some(agent)) => self.end(agent, name),
            (Some(change @ (Change::Shown(_) | Change::Cancelled(_))), Some(agent)) => {
                let at = event.generated_at.filter(|_| self.history.timed).map(Timestamp);
                self.shown(agent, name, change, at);
            }
        }
    }

    fn end(&mut self, agent: AgentId, why: &str) {
        self.say(&format!("{why}: all previews of agent {agent} are over"));
        let (line, now, bounds) = (self.line, self.history.now, self.bounds);
        let shown = self.history.agents.entry(agent).or_default();
        shown.previews.apply(Change::Ended, now, bounds);
        shown.ended = Some((line, why.to_owned()));
    }

    fn shown(&mut self, agent: AgentId, name: &str, change: Change, at: Option<Timestamp>) {
        if let Change::Shown(announcement) = &change {
            let numbers = self.show.list(&announcement.numbers);
            let untimed = if self.history.timed && at.is_none() { " (no eventGenTime: taken as just now)" } else { "" };
            let id = announcement.control_id;
            self.say(&format!("{name}: agent {agent} is shown control ID {id} with {numbers}{untimed}"));
            self.history.agents.entry(agent).or_default().lines.insert(id, self.line);
        }
        let (now, bounds) = (self.history.now, self.bounds);
        let crowded_out =
            self.history.agents.entry(agent).or_default().previews.apply(change, at.unwrap_or(now), bounds);
        if crowded_out > 0 {
            self.say(&format!(
                "the oldest preview of agent {agent} made room: previews.per_agent is {}",
                bounds.per_agent
            ));
        }
    }
}

/// Body and agent of a line `{"agent":101,"body":…}`; any other line is a body itself.
fn unwrapped(line: &[u8]) -> (Option<AgentId>, Vec<u8>) {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wrapped<'a> {
        agent: u32,
        #[serde(borrow)]
        body: &'a RawValue,
    }

    match serde_json::from_slice::<Wrapped<'_>>(line) {
        Ok(Wrapped { agent, body }) => {
            // The body as JSON, or as the text that was received.
            let text = serde_json::from_str::<String>(body.get()).unwrap_or_else(|_| body.get().to_owned());
            (AgentId::try_from(agent).ok(), text.into_bytes())
        }
        Err(_) => (None, line.to_vec()),
    }
}
