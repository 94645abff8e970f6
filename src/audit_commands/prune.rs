//! `previewgate audit prune`: removes old segments by hand. A running gateway does it by itself (`audit.retention`).

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use super::arguments::Directories;
use super::error::Error;
use super::output::count;
use crate::audit::prune::prune;
use crate::audit::verify::{Findings, Grade, Log};
use crate::preview::{Clock, SystemClock};

const DAY: u64 = 24 * 60 * 60;

/// The command's options.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    directories: Directories,
    /// Remove segments whose records are all older than this: `5y`, `400d`.
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
    older_than: Duration,
}

pub(super) fn run(options: &Options, out: &mut impl Write) -> Result<u8, Error> {
    let directories = &options.directories.directories;
    refuse_if_promised_or_broken(directories, options.older_than)?;
    let now = SystemClock::new().now();
    let mut removed = 0;
    for directory in directories {
        let segments = prune(directory, now, options.older_than).map_err(|error| Error::about(directory, error))?;
        removed += u64::try_from(segments).unwrap_or_default();
    }
    writeln!(out, "{} removed", count(removed, "segment"))?;
    Ok(0)
}

/// Refuses to remove segments earlier than the log promises: for `verify`, such a log is broken. Also refuses to prune a
/// broken log, because its segments are evidence.
fn refuse_if_promised_or_broken(directories: &[PathBuf], age: Duration) -> Result<(), Error> {
    let mut findings = Findings::default();
    let mut log = Log::open(directories, &[], None, &mut findings)?;
    while log.next(&mut findings)?.is_some() {}
    if let Some(finding) = findings.of(Grade::Broken).next() {
        return Err(Error::Unusable(format!("nothing was removed, because the log is broken: {finding}")));
    }
    for chain in log.summaries() {
        // The configuration counts whole days.
        if age.as_secs() / DAY < chain.retention_days {
            let (chain, days) = (&chain.instance, chain.retention_days);
            return Err(Error::Usage(format!(
                "nothing was removed: chain {chain} promises to keep its segments for {days} days (audit.retention)"
            )));
        }
    }
    Ok(())
}
