//! What the records of one day say.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use serde::Serialize;

use crate::audit::Rfc3339;
use crate::audit::record::{Call, ConfigInForce, Decision, Outcome, Record};
use crate::audit::verify::{Line, Scan};
use crate::audit_commands::error::Error;
use crate::preview::{RecordId, Timestamp};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Checks the spelling of a day.
pub(super) fn parse(text: &str) -> Result<String, String> {
    start(text).map(|_| text.to_owned()).ok_or_else(|| "a day is written 2026-11-25".to_owned())
}

fn start(day: &str) -> Option<Timestamp> {
    let at = humantime::parse_rfc3339(&format!("{day}T00:00:00Z")).ok()?;
    let at = at.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis().try_into().ok()?;
    (Rfc3339(Timestamp(at)).to_string().starts_with(day) && day.len() == 10).then_some(Timestamp(at))
}

/// One day, in UTC.
#[derive(Debug, Default, Serialize)]
pub(super) struct Day {
    pub(super) day: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) agent: Option<u32>,
    pub(super) instances: BTreeSet<String>,
    /// Callouts by verdict.
    pub(super) verdicts: BTreeMap<String, u64>,
    /// Refusals by reason, with those that were only counted.
    pub(super) refusals: BTreeMap<String, u64>,
    /// Callouts that were forwarded although the rule refused them, by reason and permission.
    pub(super) unverified: BTreeMap<String, u64>,
    /// Times in which a gateway only watched.
    pub(super) monitor: Vec<Period>,
    /// Records that could not be written.
    pub(super) lost: Vec<Lost>,
    pub(super) callouts: Vec<Callout>,
}

/// A time of monitor mode.
#[derive(Debug, Serialize)]
pub(super) struct Period {
    pub(super) instance: String,
    pub(super) from: String,
    pub(super) to: String,
}

/// Records that could not be written.
#[derive(Debug, Serialize)]
pub(super) struct Lost {
    pub(super) instance: String,
    pub(super) since: String,
    pub(super) until: String,
    pub(super) records: BTreeMap<String, u64>,
}

/// One callout.
#[derive(Debug, Default, Serialize)]
pub(super) struct Callout {
    pub(super) at: String,
    pub(super) agent: Option<u32>,
    pub(super) verdict: String,
    pub(super) reason: String,
    pub(super) mode: String,
    pub(super) allowed_by: Option<String>,
    pub(super) number: Option<String>,
    pub(super) control_id: Option<i64>,
    /// The time between preview and callout.
    pub(super) shown_ms: Option<u64>,
    /// `answered`, `failed`, `not_sent`, `open`; absent for a refusal.
    pub(super) outcome: Option<String>,
    pub(super) retcode: Option<String>,
    pub(super) call_id: Option<String>,
    /// The last phase that the platform reported.
    pub(super) phase: Option<String>,
    pub(super) talked_ms: Option<u64>,
    pub(super) decision: String,
    pub(super) file: String,
    pub(super) seq: u64,
    #[serde(skip)]
    talking_since: Option<Timestamp>,
}

impl Callout {
    /// Whether a telephone may have rung.
    pub(super) fn was_sent(&self) -> bool {
        self.outcome.as_deref().is_some_and(|outcome| outcome != "not_sent")
    }

    fn new(line: &Line, record: &Decision<'_>) -> Self {
        let text = |text: &Option<std::borrow::Cow<'_, str>>| text.as_ref().map(ToString::to_string);
        Self {
            at: Rfc3339(line.at).to_string(),
            agent: record.agent,
            verdict: record.verdict.to_string(),
            reason: record.reason.to_string(),
            mode: record.mode.to_string(),
            allowed_by: text(&record.allowed_by),
            number: record.called.as_ref().map(|called| called.masked.to_string()),
            control_id: record.control_id,
            shown_ms: record.previews.iter().find_map(|preview| preview.number_age_ms),
            outcome: (record.verdict != "rejected").then(|| "open".to_owned()),
            decision: record.id.to_string(),
            file: line.file.to_string(),
            seq: line.seq,
            ..Self::default()
        }
    }

    fn outcome(&mut self, record: &Outcome<'_>) {
        self.outcome = Some(record.result.to_string());
        self.retcode = record.retcode.as_ref().map(ToString::to_string);
        self.call_id = record.call_id.as_ref().map(ToString::to_string);
    }

    fn call(&mut self, at: Timestamp, record: &Call<'_>) {
        match &*record.phase {
            "talking" => self.talking_since = self.talking_since.or(Some(at)),
            "released" => {
                let talked = self.talking_since.map(|since| at.since(since).as_millis());
                self.talked_ms = talked.and_then(|talked| talked.try_into().ok());
            }
            _ => {}
        }
        self.phase = Some(record.phase.to_string());
    }
}

/// Reads the lines of a day.
struct Reader {
    day: Day,
    start: Timestamp,
    end: Timestamp,
    places: HashMap<RecordId, usize>,
    calls: HashMap<String, RecordId>,
    /// The mode of each chain, and since when.
    modes: BTreeMap<usize, (String, String, Timestamp)>,
}

impl Day {
    /// Reads the segments of a day, and that of the next one: a call of 23:59 ends tomorrow.
    pub(super) fn read(directories: &[PathBuf], day: &str, agent: Option<u32>) -> Result<Self, Error> {
        let start = start(day).ok_or_else(|| Error::Usage("a day is written 2026-11-25".to_owned()))?;
        let end = Timestamp(start.0 + DAY_MS);
        let report = Day { day: day.to_owned(), agent, ..Self::default() };
        let mut reader =
            Reader { day: report, start, end, places: HashMap::new(), calls: HashMap::new(), modes: BTreeMap::new() };
        let next = Rfc3339(end).to_string();
        let days = Some((day, next.get(..10).unwrap_or(day)));
        Scan { directories, days, needles: &[] }.each(|chain, line| {
            reader.read(chain, &line);
            Ok::<_, Error>(())
        })?;
        Ok(reader.finish())
    }
}

impl Reader {
    fn read(&mut self, chain: usize, line: &Line) {
        let today = (self.start..self.end).contains(&line.at);
        match line.record() {
            Some(Record::Open(open)) => drop(self.day.instances.insert(open.instance.into_owned())),
            Some(Record::Config(config)) => self.config(chain, line, &config),
            Some(Record::Close(close)) if close.stop => self.end_mode(chain, line.at),
            Some(Record::Decision(record)) if today && self.is_wanted(record.agent) => self.decision(line, &record),
            Some(Record::Outcome(record)) => {
                if let Some(call_id) = &record.call_id {
                    self.calls.insert(call_id.to_string(), record.decision);
                }
                if let Some(callout) = self.callout(record.decision) {
                    callout.outcome(&record);
                }
            }
            Some(Record::Call(record)) => {
                // Another gateway than the one that forwarded the callout knows the call's name only.
                let id = record.decision.or_else(|| self.calls.get(&*record.call_id).copied());
                if let Some(callout) = id.and_then(|id| self.callout(id)) {
                    callout.call(line.at, &record);
                }
            }
            Some(Record::Refusals(record)) if today && self.day.agent.is_none() => {
                for (reason, count) in record.reasons {
                    *self.day.refusals.entry(reason).or_default() += count;
                    *self.day.verdicts.entry("rejected".to_owned()).or_default() += count;
                }
            }
            Some(Record::Lost(record)) if today => self.day.lost.push(Lost {
                instance: instance(line),
                since: Rfc3339(record.since).to_string(),
                until: Rfc3339(line.at).to_string(),
                records: record.records,
            }),
            _ => {}
        }
    }

    fn is_wanted(&self, agent: Option<u32>) -> bool {
        self.day.agent.is_none() || self.day.agent == agent
    }

    fn callout(&mut self, id: RecordId) -> Option<&mut Callout> {
        self.day.callouts.get_mut(*self.places.get(&id)?)
    }

    fn decision(&mut self, line: &Line, record: &Decision<'_>) {
        *self.day.verdicts.entry(record.verdict.to_string()).or_default() += 1;
        match &*record.verdict {
            "rejected" => *self.day.refusals.entry(record.reason.to_string()).or_default() += 1,
            "unverified" => {
                let permission = record.allowed_by.as_deref().unwrap_or("mode monitor");
                *self.day.unverified.entry(format!("{} ({permission})", record.reason)).or_default() += 1;
            }
            _ => {}
        }
        self.places.insert(record.id, self.day.callouts.len());
        self.day.callouts.push(Callout::new(line, record));
    }

    fn config(&mut self, chain: usize, line: &Line, config: &ConfigInForce<'_>) {
        if self.modes.get(&chain).is_some_and(|(_, mode, _)| *mode == config.mode) {
            return;
        }
        self.end_mode(chain, line.at);
        self.modes.insert(chain, (instance(line), config.mode.to_string(), line.at));
    }

    /// The mode of a chain ends: by another one, or with the gateway.
    fn end_mode(&mut self, chain: usize, at: Timestamp) {
        let Some((instance, mode, since)) = self.modes.remove(&chain) else { return };
        let (from, to) = (since.max(self.start), at.min(self.end));
        if mode == "monitor" && from < to {
            let (from, to) = (Rfc3339(from).to_string(), Rfc3339(to).to_string());
            self.day.monitor.push(Period { instance, from, to });
        }
    }

    fn finish(mut self) -> Day {
        for chain in self.modes.keys().copied().collect::<Vec<_>>() {
            self.end_mode(chain, self.end);
        }
        self.day.callouts.sort_by(|a, b| a.at.cmp(&b.at));
        self.day
    }
}

fn instance(line: &Line) -> String {
    line.file.split('.').nth(1).unwrap_or_default().to_owned()
}
