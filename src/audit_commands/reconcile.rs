//! `previewgate audit reconcile`: the platform's own call records against the audit log. A call that no decision covers went
//! round the gateway.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use super::arguments::{self, Directories};
use super::checked::CheckOptions;
use super::error::Error;
use super::output::count;
use crate::audit::ShortList;
use crate::audit::number_keys::{NumberKey, NumberKeys, Subject};
use crate::audit::record::{KeyedMac, Record};
use crate::audit::verify::{Line, Scan};
use crate::audit::{Mac, Rfc3339};
use crate::preview::{DialedNumber, RecordId};

/// The command's options.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    directories: Directories,
    /// The platform's call records, with a row of headings.
    #[arg(long, value_name = "FILE")]
    cdr: PathBuf,
    /// The headings of its columns: call_id=CallID,agent=AgentNo,called=Callee; agent and called may be absent.
    #[arg(long, value_name = "NAMES")]
    columns: Columns,
    /// The character between columns.
    #[arg(long, default_value_t = ',', value_name = "CHAR")]
    delimiter: char,
    /// The keys of the numbers. With them numbers are compared whole, without them only their length and last two digits.
    #[arg(long, value_name = "DIR")]
    number_keys: Option<PathBuf>,
    /// Only decisions of this day (UTC) must have a call record.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = arguments::day)]
    day: Option<String>,
    #[command(flatten)]
    check: CheckOptions,
}

/// The headings of the columns that are compared.
#[derive(Clone, Debug)]
struct Columns {
    call_id: String,
    agent: Option<String>,
    called: Option<String>,
}

impl FromStr for Columns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut names: BTreeMap<&str, String> = BTreeMap::new();
        for pair in text.split(',') {
            let (name, heading) = pair.split_once('=').ok_or_else(|| format!("{pair:?} is not name=heading"))?;
            if !matches!(name, "call_id" | "agent" | "called") {
                return Err(format!("{name:?} is none of call_id, agent, called"));
            }
            names.insert(name, heading.to_owned());
        }
        let call_id = names.remove("call_id").ok_or("call_id=… is missing")?;
        Ok(Self { call_id, agent: names.remove("agent"), called: names.remove("called") })
    }
}

/// A callout that was sent.
struct Sent {
    at: String,
    place: String,
    agent: Option<u32>,
    masked: String,
    hmacs: ShortList<KeyedMac>,
    result: Option<String>,
    call_id: Option<String>,
    is_covered: bool,
}

/// A row of the platform's records.
struct Row {
    line: u64,
    call_id: String,
    agent: Option<String>,
    called: Option<String>,
}

pub(super) fn run(options: &Options, out: &mut impl Write) -> Result<u8, Error> {
    let keys = options.number_keys.as_deref().map(NumberKeys::read).transpose()?;
    let checked = options.check.check(&options.directories.directories)?;
    let mut sent = read_log(&options.directories.directories)?;
    let by_call: BTreeMap<String, RecordId> =
        sent.iter().filter_map(|(id, sent)| Some((sent.call_id.clone()?, *id))).collect();
    let (mut rows, mut differences, mut masks) = (0, 0, 0);
    for row in read_rows(&options.cdr, options)? {
        rows += 1;
        let row = row?;
        let covered = by_call.get(&row.call_id).and_then(|id| sent.get_mut(id));
        let difference = match covered {
            None => Some("no decision covers it: it went round the gateway".to_owned()),
            Some(sent) => {
                sent.is_covered = true;
                masks += u64::from(row.called.is_some() && hash_to_compare(sent, keys.as_ref()).is_none());
                compare(&row, sent, keys.as_ref())
            }
        };
        if let Some(difference) = difference {
            differences += 1;
            writeln!(out, "line {}: call {}: {difference}", row.line, row.call_id)?;
        }
    }
    let day = options.day.as_deref().unwrap_or_default();
    for sent in sent.values().filter(|sent| sent.at.starts_with(day) && sent.is_without_record()) {
        differences += 1;
        writeln!(out, "{}: {}", sent.place, sent.without_record())?;
    }
    writeln!(
        out,
        "{} compared with {}: {}",
        count(rows, "call record"),
        count(of_day(&sent, day), "callout"),
        count(differences, "difference")
    )?;
    if masks > 0 {
        let why = if keys.is_some() { "the keys of their months are gone" } else { "--number-keys was not given" };
        writeln!(out, "{} compared by length and last two digits only: {why}", count(masks, "number"))?;
    }
    writeln!(out, "audit log: {}", checked.sentence())?;
    Ok(checked.code().max(u8::from(differences > 0)))
}

fn of_day(sent: &BTreeMap<RecordId, Sent>, day: &str) -> u64 {
    sent.values().filter(|sent| sent.at.starts_with(day)).count().try_into().unwrap_or(u64::MAX)
}

fn read_log(directories: &[PathBuf]) -> Result<BTreeMap<RecordId, Sent>, Error> {
    let mut sent = BTreeMap::new();
    let needles = ["decision".to_owned()];
    Scan { directories, days: None, needles: &needles }.each(|_, line| {
        match line.record() {
            Some(Record::Decision(decision)) if decision.verdict != "rejected" => {
                let called = decision.called.as_ref();
                let new = Sent {
                    at: Rfc3339(line.at).to_string(),
                    place: place(&line),
                    agent: decision.agent,
                    masked: called.map(|called| called.masked.to_string()).unwrap_or_default(),
                    hmacs: called.map(|called| called.hmacs.clone()).unwrap_or_default(),
                    result: None,
                    call_id: None,
                    is_covered: false,
                };
                sent.insert(decision.id, new);
            }
            Some(Record::Outcome(outcome)) => {
                if let Some(sent) = sent.get_mut(&outcome.decision) {
                    sent.result = Some(outcome.result.to_string());
                    sent.call_id = outcome.call_id.map(std::borrow::Cow::into_owned);
                }
            }
            _ => {}
        }
        Ok::<_, Error>(())
    })?;
    Ok(sent)
}

fn place(line: &Line) -> String {
    format!("{} seq {}", line.file, line.seq)
}

impl Sent {
    /// Whether the platform should have a record, and has none.
    fn is_without_record(&self) -> bool {
        let rang = self.call_id.is_some() || matches!(self.result.as_deref(), None | Some("failed"));
        rang && !self.is_covered
    }

    fn without_record(&self) -> String {
        let agent = self.agent.map_or("?".to_owned(), |agent| agent.to_string());
        let called = format!("agent {agent} called {} at {}", self.masked, self.at);
        match (&self.call_id, self.result.as_deref()) {
            (Some(call), _) => format!("call {call} has no call record: {called}"),
            (None, None) => format!("no outcome is recorded, so this may be a call without its name: {called}"),
            (None, Some(_)) => format!("the callout failed after it was sent, so it may have rung: {called}"),
        }
    }
}

/// The difference between a call record and the decision.
fn compare(row: &Row, sent: &Sent, keys: Option<&NumberKeys>) -> Option<String> {
    if let (Some(theirs), Some(ours)) = (&row.agent, sent.agent)
        && theirs.trim() != ours.to_string()
    {
        return Some(format!("its agent is {}, and agent {ours} asked for it ({})", theirs.trim(), sent.place));
    }
    let called = DialedNumber::new(row.called.as_deref()?.trim());
    if is_same(&called, sent, keys) {
        None
    } else {
        Some(format!("it went to {}, and the decision was about {} ({})", called.masked(), sent.masked, sent.place))
    }
}

/// A hash of the number that was asked for, whose key is still there.
fn hash_to_compare(sent: &Sent, keys: Option<&NumberKeys>) -> Option<(Arc<NumberKey>, Mac)> {
    let keys = keys?;
    sent.hmacs.iter().find_map(|hmac| Some((keys.find(hmac.key)?, hmac.hmac)))
}

fn is_same(called: &DialedNumber, sent: &Sent, keys: Option<&NumberKeys>) -> bool {
    match hash_to_compare(sent, keys) {
        Some((key, hmac)) => key.mac(Subject::Number, called.reveal().as_bytes()) == hmac,
        // Without the month's key only the mask is left to compare.
        None => called.masked().to_string() == sent.masked,
    }
}

/// The rows of the file, one at a time.
fn read_rows(path: &Path, options: &Options) -> Result<impl Iterator<Item = Result<Row, Error>>, Error> {
    let about = |error: csv::Error| Error::Usage(format!("{}: {error}", options.cdr.display()));
    let delimiter =
        u8::try_from(options.delimiter).map_err(|_| Error::Usage("--delimiter must be ASCII".to_owned()))?;
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_path(path).map_err(about)?;
    let headings = reader.headers().map_err(about)?.clone();
    let column = |heading: &String| {
        // Spreadsheets put a byte order mark before the first heading.
        let found = headings.iter().position(|found| found.trim_start_matches('\u{feff}').trim() == heading);
        found.ok_or_else(|| Error::Usage(format!("{} has no column {heading:?}", path.display())))
    };
    let call_id = column(&options.columns.call_id)?;
    let agent = options.columns.agent.as_ref().map(column).transpose()?;
    let called = options.columns.called.as_ref().map(column).transpose()?;
    Ok(reader.into_records().map(move |record| {
        let record = record.map_err(|error| Error::Usage(error.to_string()))?;
        let cell = |column: usize| record.get(column).map(str::to_owned);
        Ok(Row {
            line: record.position().map_or(0, csv::Position::line),
            call_id: cell(call_id).unwrap_or_default().trim().to_owned(),
            agent: agent.and_then(cell),
            called: called.and_then(cell),
        })
    }))
}
