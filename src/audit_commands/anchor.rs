//! `previewgate audit anchor`: the signed notes to keep elsewhere. They show later whether the end of the log was cut off,
//! or whether the whole log was made again with the signing key.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use super::arguments::Directories;
use super::error::Error;
use crate::audit::segment::chains;
use crate::audit::verify::{Findings, Grade, Log};

/// The command's options.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    directories: Directories,
}

pub(super) fn run(options: &Options, out: &mut impl Write) -> Result<u8, Error> {
    let mut findings = Findings::default();
    let mut log = Log::open(&options.directories.directories, &[], None, &mut findings)?;
    while log.next(&mut findings)?.is_some() {}
    if let Some(finding) = findings.of(Grade::Broken).next() {
        return Err(Error::Unusable(format!("the log is broken, and an anchor would hide it: {finding}")));
    }
    sync(&options.directories.directories)?;
    let notes: Vec<&str> = log.summaries().filter_map(|chain| chain.last_note.as_deref()).collect();
    if notes.is_empty() {
        return Ok(4);
    }
    write!(out, "{}", notes.join("\n"))?;
    Ok(0)
}

/// Waits until the disk has what was read. Otherwise a power failure could take away lines that the anchor names.
fn sync(directories: &[PathBuf]) -> io::Result<()> {
    for chain in chains(directories.iter().map(PathBuf::as_path))?.values() {
        if let Some(latest) = chain.segments.values().next_back() {
            File::open(latest)?.sync_data()?;
        }
    }
    Ok(())
}
