//! `previewgate audit show`: what happened to one call, in words.

use std::io::Write;

use super::arguments::Directories;
use super::error::Error;
use super::story::{self, Name, Story};
use super::words;
use crate::audit::Rfc3339;
use crate::audit::record::Record;
use crate::audit::verify::{Derived, derive_again};

/// The command's options.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    directories: Directories,
    #[command(flatten)]
    name: Name,
}

pub(super) fn run(options: &Options, out: &mut impl Write) -> Result<u8, Error> {
    let stories = story::find(&options.directories.directories, &options.name)?;
    if stories.is_empty() {
        writeln!(out, "nothing is recorded about it in these directories")?;
        return Ok(1);
    }
    let mut code = 0;
    for (position, story) in stories.iter().enumerate() {
        if position > 0 {
            writeln!(out)?;
        }
        code = code.max(tell(story, out)?);
    }
    Ok(code)
}

/// Tells a story; returns the exit code.
pub(super) fn tell(story: &Story, out: &mut impl Write) -> Result<u8, Error> {
    for line in story.lines() {
        let mut told = words::tell(line).into_iter();
        writeln!(out, "{}  {}", Rfc3339(line.at), told.next().unwrap_or_default())?;
        for detail in told {
            writeln!(out, "{:24}    {detail}", "")?;
        }
    }
    if let Some(duration) = talking_time(story) {
        writeln!(out, "duration: {}", words::seconds(duration))?;
    }
    if is_open(story) {
        writeln!(out, "no outcome is recorded: a telephone may have rung")?;
    }
    let derived = derive_again(&story.decision, &story.shown);
    writeln!(out, "{}", words::derived(&derived))?;
    Ok(u8::from(matches!(derived, Derived::Contradiction(_))))
}

/// From the answer of the called person to the end of the call.
pub(super) fn talking_time(story: &Story) -> Option<u64> {
    let at = |wanted: &str| {
        story.others.iter().find_map(|line| match line.record() {
            Some(Record::Call(call)) if call.phase == wanted => Some(line.at),
            _ => None,
        })
    };
    let duration = at("released")?.since(at("talking")?);
    u64::try_from(duration.as_millis()).ok()
}

fn is_open(story: &Story) -> bool {
    let rejected = story.record().is_some_and(|decision| decision.verdict == "rejected");
    !rejected && !story.others.iter().any(|line| matches!(line.record(), Some(Record::Outcome(_))))
}
