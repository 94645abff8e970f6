//! `previewgate audit certify`: the proof of one call, without the data of any other.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::output::public_keys;
use super::show;
use super::story::{CallOptions, Story, decision};
use crate::audit::certificate::Certificate;
use crate::audit::record::Record;
use crate::audit::verify::{Derived, Line};
use crate::preview::RecordId;

/// The command's options.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    call: CallOptions,
}

pub(super) fn run(options: &Options, out: &mut impl Write) -> Result<u8, Error> {
    let directories: &[PathBuf] = &options.call.directories.directories;
    let stories = options.call.find()?;
    let [story] = &stories[..] else {
        return Err(Error::Usage(match stories.len() {
            0 => "nothing is recorded about it in these directories".to_owned(),
            number => format!("{number} callouts match: name one decision with --id (`audit show` lists them)"),
        }));
    };
    let certificate =
        Certificate::make(directories, &story.lines()).map_err(|error| Error::Unusable(error.to_string()))?;
    serde_json::to_writer_pretty(&mut *out, &certificate).map_err(std::io::Error::from)?;
    writeln!(out)?;
    Ok(0)
}

/// `audit verify --certificate`: checks a certificate, and prints what it proves.
pub(super) fn verify(path: &Path, public_key: &Path, out: &mut impl Write) -> Result<u8, Error> {
    let keys = public_keys(public_key)?;
    let text = std::fs::read_to_string(path).map_err(|error| Error::Usage(format!("{}: {error}", path.display())))?;
    let certificate: Certificate =
        serde_json::from_str(&text).map_err(|error| Error::Usage(format!("{}: {error}", path.display())))?;
    let lines = match certificate.verify(&keys) {
        Ok(lines) => lines,
        Err(unproved) => {
            writeln!(out, "result: broken: {unproved}")?;
            return Ok(1);
        }
    };
    let Some(story) = as_story(lines) else {
        writeln!(out, "result: broken: the certificate holds no decision, or more than one")?;
        return Ok(1);
    };
    let (result, code) = match show::tell(&story, None, out)? {
        Derived::Same | Derived::NotByRule => ("proved: each record is in a log that the given key signed", 0),
        Derived::Contradiction(_) => ("broken: the verdict does not follow from these records", 1),
        Derived::Unknown(_) => (
            "incomplete: each record is in a log that the given key signed, but records are missing for the verdict",
            3,
        ),
    };
    writeln!(out, "result: {result}")?;
    Ok(code)
}

/// The certificate is about the one decision that no other decision in it counts as an earlier call.
fn as_story(lines: Vec<Line>) -> Option<Story> {
    let counted = lines.iter().filter_map(decision).flat_map(|decision| decision.calls);
    let counted: HashSet<RecordId> = counted.collect();
    let (mut decisions, mut shown, mut earlier, mut others) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for line in lines {
        let part = match line.record() {
            Some(Record::Decision(record)) if counted.contains(&record.id) => &mut earlier,
            Some(Record::Decision(_)) => &mut decisions,
            Some(Record::Shown(_)) => &mut shown,
            Some(Record::Outcome(record)) if counted.contains(&record.decision) => &mut earlier,
            _ => &mut others,
        };
        part.push(line);
    }
    let [decision] = <[Line; 1]>::try_from(decisions).ok()?;
    Some(Story { decision, shown, earlier, others })
}
