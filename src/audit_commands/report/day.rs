//! The content of a report: the records of one day.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use serde::Serialize;

use crate::audit::Rfc3339;
use crate::audit::record::{Call, ConfigInForce, Decision, Outcome, Record};
use crate::audit::verify::{Line, Scan};
use crate::audit_commands::arguments::start_of_day;
use crate::audit_commands::checked::Checked;
use crate::audit_commands::course::Course;
use crate::audit_commands::error::Error;
use crate::preview::{RecordId, Timestamp};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Which callouts of the day are wanted.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Selection {
    /// Only callouts of this agent.
    #[arg(long, value_name = "ID")]
    pub(super) agent: Option<u32>,
    /// Only callouts of this tenant (`[[tenants]]`).
    #[arg(long, value_name = "NAME")]
    pub(super) tenant: Option<String>,
}

impl Selection {
    fn has(&self, decision: &Decision<'_>) -> bool {
        let is_tenant = self.tenant.is_none() || self.tenant.as_deref() == decision.tenant.as_deref();
        is_tenant && (self.agent.is_none() || self.agent == decision.agent)
    }

    fn is_everything(&self) -> bool {
        self.agent.is_none() && self.tenant.is_none()
    }
}

/// One day, in UTC.
#[derive(Debug, Default, Serialize)]
pub(super) struct Day {
    pub(super) day: String,
    /// Whether the log can be believed.
    pub(super) verification: Option<Checked>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) agent: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tenant: Option<String>,
    pub(super) instances: BTreeSet<String>,
    /// Callouts by verdict.
    pub(super) verdicts: BTreeMap<String, u64>,
    /// Refusals by reason, with those that were only counted.
    pub(super) refusals: BTreeMap<String, u64>,
    /// Callouts that were forwarded although the rule refused them, by reason and permission.
    pub(super) unverified: BTreeMap<String, u64>,
    /// Callouts of each tenant by verdict, if the log names tenants.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) tenants: BTreeMap<String, BTreeMap<String, u64>>,
    /// Calls by how they went, as far as the platform reported it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) dispositions: BTreeMap<String, u64>,
    /// Times of monitor mode.
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
    pub(super) tenant: Option<String>,
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
    /// How the call went: `talked`, `talking`, `failed`, `not_answered`, `ringing`; absent if nothing was reported.
    pub(super) disposition: Option<&'static str>,
    pub(super) rang_ms: Option<u64>,
    pub(super) talked_ms: Option<u64>,
    pub(super) decision: String,
    pub(super) file: String,
    pub(super) seq: u64,
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
            tenant: text(&record.tenant),
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

    fn tell(&mut self, course: &Course) {
        self.phase = course.phase().map(str::to_owned);
        self.disposition = course.disposition().map(|disposition| disposition.as_str());
        self.rang_ms = course.rang_ms();
        self.talked_ms = course.talked_ms();
    }
}

/// Reads the lines of a day.
struct Reader {
    day: Day,
    selection: Selection,
    start: Timestamp,
    end: Timestamp,
    places: HashMap<RecordId, usize>,
    courses: Courses,
    /// The mode of each chain, and since when.
    modes: BTreeMap<usize, (String, String, Timestamp)>,
}

/// The courses of calls. A gateway that did not forward the callout knows only the call's name.
#[derive(Default)]
struct Courses {
    by_decision: HashMap<RecordId, Course>,
    by_call: HashMap<String, Course>,
}

impl Courses {
    fn add(&mut self, at: Timestamp, call: &Call<'_>) {
        let course = match call.decision {
            Some(decision) => self.by_decision.entry(decision).or_default(),
            None => self.by_call.entry(call.call_id.to_string()).or_default(),
        };
        course.add(at, call);
    }

    fn of(&self, decision: RecordId, call_id: Option<&str>) -> Course {
        let mut course = self.by_decision.get(&decision).cloned().unwrap_or_default();
        if let Some(elsewhere) = call_id.and_then(|call_id| self.by_call.get(call_id)) {
            course.merge(elsewhere);
        }
        course
    }
}

impl Day {
    /// Reads the segments of a day, and that of the next one: a call of 23:59 ends tomorrow.
    pub(super) fn read(directories: &[PathBuf], day: &str, selection: &Selection) -> Result<Self, Error> {
        let start = start_of_day(day).ok_or_else(|| Error::Usage("a day is written 2026-11-25".to_owned()))?;
        let end = Timestamp(start.0 + DAY_MS);
        let Selection { agent, tenant } = selection.clone();
        let mut reader = Reader {
            day: Day { day: day.to_owned(), agent, tenant, ..Self::default() },
            selection: selection.clone(),
            start,
            end,
            places: HashMap::new(),
            courses: Courses::default(),
            modes: BTreeMap::new(),
        };
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
            Some(Record::Decision(record)) if today && self.selection.has(&record) => self.decision(line, &record),
            Some(Record::Outcome(record)) => {
                if let Some(callout) = self.callout(record.decision) {
                    callout.outcome(&record);
                }
            }
            Some(Record::Call(record)) => self.courses.add(line.at, &record),
            Some(Record::Refusals(record)) if today && self.selection.is_everything() => {
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

    fn callout(&mut self, id: RecordId) -> Option<&mut Callout> {
        self.day.callouts.get_mut(*self.places.get(&id)?)
    }

    fn decision(&mut self, line: &Line, record: &Decision<'_>) {
        *self.day.verdicts.entry(record.verdict.to_string()).or_default() += 1;
        if let Some(tenant) = &record.tenant {
            let of_tenant = self.day.tenants.entry(tenant.to_string()).or_default();
            *of_tenant.entry(record.verdict.to_string()).or_default() += 1;
        }
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

    /// The mode of a chain ends, because another mode begins or the gateway ends.
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
        for (id, place) in &self.places {
            let Some(callout) = self.day.callouts.get_mut(*place) else { continue };
            callout.tell(&self.courses.of(*id, callout.call_id.as_deref()));
        }
        for disposition in self.day.callouts.iter().filter_map(|callout| callout.disposition) {
            *self.day.dispositions.entry(disposition.to_owned()).or_default() += 1;
        }
        self.day.callouts.sort_by(|a, b| a.at.cmp(&b.at));
        self.day
    }
}

fn instance(line: &Line) -> String {
    line.file.split('.').nth(1).unwrap_or_default().to_owned()
}
