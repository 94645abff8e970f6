//! `previewgate audit show`: what happened to one call, in words.

use std::io::Write;
use std::path::PathBuf;

use super::checked::CheckOptions;
use super::course::Course;
use super::error::Error;
use super::story::{CallOptions, Story};
use super::words;
use crate::audit::recipient::RecipientKey;
use crate::audit::record::{Record, Shown};
use crate::audit::verify::{Derived, Line, derive_again};
use crate::audit::{Mac, Rfc3339};

/// The command's options.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    call: CallOptions,
    /// The auditor's private key (`audit.recipient`). With it numbers are shown whole.
    #[arg(long, value_name = "FILE")]
    private_key: Option<PathBuf>,
    #[command(flatten)]
    check: CheckOptions,
}

pub(super) fn run(options: &Options, out: &mut impl Write) -> Result<u8, Error> {
    let key = options.private_key.as_deref();
    let key = key.map(|path| RecipientKey::read(path).map_err(|error| Error::about(path, error))).transpose()?;
    let checked = options.check.check(&options.call.directories.directories)?;
    let stories = options.call.find()?;
    let mut code = checked.code();
    if stories.is_empty() {
        writeln!(out, "nothing is recorded about it in these directories")?;
        code = code.max(1);
    }
    for (position, story) in stories.iter().enumerate() {
        if position > 0 {
            writeln!(out)?;
        }
        let derived = tell(story, key.as_ref(), out)?;
        code = code.max(u8::from(matches!(derived, Derived::Contradiction(_))));
    }
    if !stories.is_empty() {
        writeln!(out)?;
    }
    writeln!(out, "audit log: {}", checked.sentence())?;
    Ok(code)
}

/// Prints a story. Returns whether the verdict follows from its records.
pub(super) fn tell(story: &Story, key: Option<&RecipientKey>, out: &mut impl Write) -> Result<Derived, Error> {
    for line in story.lines() {
        let mut told = words::tell(line).into_iter();
        let is_earlier = story.earlier.iter().any(|earlier| std::ptr::eq(earlier, line));
        let about = if is_earlier { "an earlier call that counts: " } else { "" };
        writeln!(out, "{}  {about}{}", Rfc3339(line.at), told.next().unwrap_or_default())?;
        let numbers = key.and_then(|key| numbers(story, line, key));
        for detail in told.chain(numbers) {
            writeln!(out, "{:24}    {detail}", "")?;
        }
    }
    if let Some(course) = words::course(&course(story)) {
        writeln!(out, "{course}")?;
    }
    if is_open(story) {
        writeln!(out, "no outcome is recorded: a telephone may have rung")?;
    }
    let derived = derive_again(&story.decision, &story.shown, &story.earlier);
    writeln!(out, "{}", words::derived(&derived))?;
    Ok(derived)
}

/// The numbers of a line, as the auditor can read them.
fn numbers(story: &Story, line: &Line, key: &RecipientKey) -> Option<String> {
    const UNREADABLE: &str = "the numbers are not encrypted to this key";
    match line.record()? {
        Record::Shown(shown) => {
            let sealed = shown.sealed.as_ref()?;
            let numbers = key.open(shown.id, sealed).map(|numbers| format!("numbers: {}", numbers.join(", ")));
            Some(numbers.unwrap_or_else(|| UNREADABLE.to_owned()))
        }
        Record::Decision(decision) => {
            let called = decision.called?;
            let opened = match &called.sealed {
                Some(sealed) => key.open(decision.id, sealed).and_then(|numbers| numbers.into_iter().next()),
                // It is one of those that the agent was shown.
                None => story.shown.iter().find_map(|line| match line.record() {
                    Some(Record::Shown(shown)) => {
                        let hmac = called.hmacs.iter().find(|hmac| hmac.key == shown.key)?.hmac;
                        number_with_hash(&shown, hmac, key)
                    }
                    _ => None,
                }),
            };
            opened.map(|number| format!("number: {number}"))
        }
        _ => None,
    }
}

fn number_with_hash(shown: &Shown<'_>, hmac: Mac, key: &RecipientKey) -> Option<String> {
    let position = shown.numbers.iter().position(|number| number.hmac == hmac)?;
    key.open(shown.id, shown.sealed.as_ref()?)?.into_iter().nth(position)
}

/// The course of the call, by the platform's reports.
fn course(story: &Story) -> Course {
    let mut course = Course::default();
    for line in &story.others {
        if let Some(Record::Call(call)) = line.record() {
            course.add(line.at, &call);
        }
    }
    course
}

fn is_open(story: &Story) -> bool {
    let rejected = story.record().is_some_and(|decision| decision.verdict == "rejected");
    !rejected && !story.others.iter().any(|line| matches!(line.record(), Some(Record::Outcome(_))))
}
