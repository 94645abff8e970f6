//! `previewgate report`: what decision logs say about monitor mode, and what to enforce next.
//!
//! It reads log files with JSON lines, rotated and compressed ones too, or the directories of audit logs. [`lines`] and [`audit`] find the
//! decisions, [`tally`] counts them, [`advice`] says for each reason whether to enforce it, [`text`] prints.

mod advice;
mod audit;
mod lines;
mod tally;
mod text;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};

use self::tally::Tally;

/// What to report on.
#[derive(Args, Debug)]
pub struct ReportOptions {
    /// Only the decisions of the last DURATION, as in "7d" or "12h".
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    since: Option<Duration>,
    /// Text for people, or JSON for programs.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Logs of the gateway in JSON, plain or as .gz ("-" is the standard input); or directories with audit logs.
    #[arg(required = true, value_name = "FILE|DIR")]
    files: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file cannot be read, or the report cannot be written.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// No line is a decision.
    #[error(
        "no decision on a previewCallout in {lines} lines{hint}; the report needs the gateway's log with log.format = \"json\", \
         or the directory of its audit log"
    )]
    NoDecision {
        /// Lines that were read.
        lines: u64,
        /// What may be the cause.
        hint: &'static str,
    },
    /// Each decision would count twice.
    #[error(
        "name either log files or audit directories ({}), not both: both hold the same decisions", directory.display()
    )]
    Mixed {
        /// One of the directories.
        directory: PathBuf,
    },
}

/// Reads the logs and writes the report to `out`.
///
/// # Errors
/// [`ReportError`]
pub fn report(options: &ReportOptions, out: &mut dyn Write) -> Result<(), ReportError> {
    let printed = render(options, SystemTime::now())?;
    let failed = |source| ReportError::Io { file: "standard output".into(), source };
    out.write_all(printed.as_bytes()).map_err(failed)
}

fn render(options: &ReportOptions, now: SystemTime) -> Result<String, ReportError> {
    let start = options.since.and_then(|since| now.checked_sub(since));
    let mut tally = Tally::default();
    let (directories, files): (Vec<PathBuf>, Vec<PathBuf>) =
        options.files.iter().cloned().partition(|file| file.is_dir());
    for file in &files {
        if let Some(directory) = directories.first() {
            return Err(ReportError::Mixed { directory: directory.clone() });
        }
        let failed = |source| ReportError::Io { file: file.clone(), source };
        lines::read(file, |line| tally.add(line, start)).map_err(failed)?;
    }
    if let Some(directory) = directories.first() {
        let failed = |source| ReportError::Io { file: directory.clone(), source };
        audit::read(&directories, start, &mut tally).map_err(failed)?;
    }
    if tally.callouts() == 0 {
        let hint = if tally.too_old > 0 { " that is not older than --since" } else { "" };
        return Err(ReportError::NoDecision { lines: tally.lines, hint });
    }
    Ok(match options.format {
        Format::Text => text::text(&tally),
        Format::Json => format!("{:#}\n", text::json(&tally)),
    })
}

#[cfg(test)]
mod tests;
