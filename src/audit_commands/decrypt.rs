//! `previewgate audit decrypt`: the numbers that were encrypted to an auditor's key, as a table for the auditor.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;

use super::arguments::{self, Directories, start_of_day};
use super::error::Error;
use super::output::count;
use crate::audit::recipient::RecipientKey;
use crate::audit::record::{Decision, Record, Shown};
use crate::audit::verify::{Line, Scan};
use crate::audit::{Mac, Rfc3339};
use crate::preview::{NumberKeyId, RecordId};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const COLUMNS: [&str; 8] = ["time", "kind", "id", "agent", "control_id", "number", "file", "seq"];

/// The command's options.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    directories: Directories,
    /// The auditor's private key (`audit keygen --recipient`).
    #[arg(long, value_name = "FILE")]
    private_key: PathBuf,
    /// Only records of this day (UTC).
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = arguments::day)]
    day: Option<String>,
}

/// The numbers of a preview in clear, for the auditor.
struct Opened {
    key: NumberKeyId,
    numbers: Vec<(Mac, String)>,
}

struct Decryption {
    key: RecipientKey,
    shown: HashMap<RecordId, Opened>,
    /// Records that were encrypted to another key, or were changed.
    unreadable: u64,
    readable: u64,
}

pub(super) fn run(options: &Options, out: &mut impl Write) -> Result<u8, Error> {
    let path = &options.private_key;
    let key = RecipientKey::read(path).map_err(|error| Error::about(path, error))?;
    let mut decryption = Decryption { key, shown: HashMap::new(), unreadable: 0, readable: 0 };
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(COLUMNS).map_err(io::Error::from)?;
    let needles = ["shown", "decision"].map(|kind| format!("\"kind\":\"{kind}\""));
    let days = options.day.as_deref().map(|day| (day_before(day), day));
    let days = days.as_ref().map(|(first, last)| (first.as_str(), *last));
    Scan { directories: &options.directories.directories, days, needles: &needles }.each(|_, line| {
        // A number that was shown in the evening can be called after midnight.
        let is_wanted = options.day.as_ref().is_none_or(|day| Rfc3339(line.at).to_string().starts_with(day));
        for row in decryption.rows(&line) {
            if is_wanted {
                writer.write_record(row).map_err(io::Error::from)?;
            }
        }
        Ok::<_, Error>(())
    })?;
    writer.flush()?;
    drop(writer);
    decryption.result()
}

fn day_before(day: &str) -> String {
    let start = start_of_day(day).map_or(0, |start| start.0);
    let before = Rfc3339(crate::preview::Timestamp(start.saturating_sub(DAY_MS))).to_string();
    before.chars().take(day.len()).collect()
}

impl Decryption {
    /// One row for each number of a record.
    fn rows(&mut self, line: &Line) -> Vec<[String; 8]> {
        match line.record() {
            Some(Record::Shown(shown)) => {
                let numbers = self.shown(&shown);
                let row = |number| row(line, shown.id, Some(shown.agent), Some(shown.control_id), number);
                numbers.into_iter().map(row).collect()
            }
            Some(Record::Decision(decision)) => {
                let number = self.called(&decision);
                let row = |number| row(line, decision.id, decision.agent, decision.control_id, number);
                number.into_iter().map(row).collect()
            }
            _ => Vec::new(),
        }
    }

    fn shown(&mut self, shown: &Shown<'_>) -> Vec<String> {
        let Some(sealed) = &shown.sealed else { return Vec::new() };
        let numbers = self.open(shown.id, sealed);
        let with_hashes = shown.numbers.iter().map(|number| number.hmac).zip(numbers.iter().cloned()).collect();
        self.shown.insert(shown.id, Opened { key: shown.key, numbers: with_hashes });
        numbers
    }

    /// The number that a callout asked for: encrypted there, or in the record of the preview that has it.
    fn called(&mut self, decision: &Decision<'_>) -> Option<String> {
        let called = decision.called.as_ref()?;
        if let Some(sealed) = &called.sealed {
            return self.open(decision.id, sealed).into_iter().next();
        }
        let references = decision.previews.iter().flat_map(|preview| &preview.shown);
        references.filter_map(|id| self.shown.get(id)).find_map(|opened| {
            let hash = called.hmacs.iter().find(|hash| hash.key == opened.key)?.hmac;
            opened.numbers.iter().find(|(known, _)| *known == hash).map(|(_, number)| number.clone())
        })
    }

    fn open(&mut self, record: RecordId, sealed: &str) -> Vec<String> {
        let opened = self.key.open(record, sealed);
        *if opened.is_some() { &mut self.readable } else { &mut self.unreadable } += 1;
        opened.unwrap_or_default()
    }

    fn result(&self) -> Result<u8, Error> {
        match (self.readable, self.unreadable) {
            (0, 0) => {
                Err(Error::Unusable("no record holds numbers for an auditor: audit.recipient was not set".into()))
            }
            (_, 0) => Ok(0),
            (_, unreadable) => {
                let records = count(unreadable, "record");
                Err(Error::Unusable(format!("{records} cannot be read: encrypted to another key, or changed")))
            }
        }
    }
}

fn row(line: &Line, id: RecordId, agent: Option<u32>, control_id: Option<i64>, number: String) -> [String; 8] {
    [
        Rfc3339(line.at).to_string(),
        line.kind.to_string(),
        id.to_string(),
        agent.map(|agent| agent.to_string()).unwrap_or_default(),
        control_id.map(|id| id.to_string()).unwrap_or_default(),
        number,
        line.file.to_string(),
        line.seq.to_string(),
    ]
}
