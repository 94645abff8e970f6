//! The files of an audit directory: their names, and the chain that each belongs to.
//!
//! ```text
//! 2026-11-25.1a2b3c4d.001.jsonl       a segment
//! 2021-11-25.1a2b3c4d.001.checkpoint  the last signed note of a segment that was pruned
//! 1a2b3c4d.lock                       locked by the gateway that writes this chain
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The name of a segment. Names of one chain sort in the order in which the segments were written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// The day on which it began, in UTC: `2026-11-25`.
    pub day: String,
    /// The position within the day, from 1.
    pub number: u32,
    /// Eight hexadecimal digits.
    pub instance: String,
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{:03}", self.day, self.instance, self.number)
    }
}

impl SegmentName {
    /// Reads a name without its extension.
    pub fn parse(stem: &str) -> Option<Self> {
        let mut parts = stem.split('.');
        let (day, instance, number) = (parts.next()?, parts.next()?, parts.next()?);
        super::time::start_of_day(day)?;
        let name = Self { day: day.to_owned(), number: number.parse().ok()?, instance: instance.to_owned() };
        (is_instance(instance) && name.to_string() == stem).then_some(name)
    }

    /// The file that holds its lines.
    pub fn file(&self) -> String {
        format!("{self}.jsonl")
    }

    /// The file that remains when it is pruned.
    pub fn checkpoint_file(&self) -> String {
        format!("{self}.checkpoint")
    }
}

/// Whether `text` is the name of an instance.
pub(super) fn is_instance(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The files of one instance, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chain {
    /// Segments whose lines are there.
    pub segments: BTreeMap<SegmentName, PathBuf>,
    /// Segments of which only the last checkpoint is there.
    pub pruned: BTreeMap<SegmentName, PathBuf>,
    /// The lock files.
    pub locks: Vec<PathBuf>,
}

/// The chains in some directories, by instance.
///
/// # Errors
/// When a directory cannot be read.
pub fn chains<'p>(directories: impl IntoIterator<Item = &'p Path>) -> io::Result<BTreeMap<String, Chain>> {
    let mut chains: BTreeMap<String, Chain> = BTreeMap::new();
    for directory in directories {
        let about = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", directory.display()));
        for entry in fs::read_dir(directory).map_err(about)? {
            let path = entry.map_err(about)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let Some(segment) = name.strip_suffix(".jsonl").and_then(SegmentName::parse) {
                chains.entry(segment.instance.clone()).or_default().segments.insert(segment, path);
            } else if let Some(segment) = name.strip_suffix(".checkpoint").and_then(SegmentName::parse) {
                chains.entry(segment.instance.clone()).or_default().pruned.insert(segment, path);
            } else if let Some(instance) = name.strip_suffix(".lock").filter(|instance| is_instance(instance)) {
                chains.entry(instance.to_owned()).or_default().locks.push(path);
            }
        }
    }
    Ok(chains)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_names_that_are_written_are_read() {
        let name = SegmentName::parse("2026-11-25.1a2b3c4d.001").unwrap();
        assert_eq!(name.file(), "2026-11-25.1a2b3c4d.001.jsonl");
        for bad in ["", "2026-11-25.1a2b3c4d.1", "2026-13-25.1a2b3c4d.001", "2026-11-25.1A2b3c4d.001", "a.b.c"] {
            assert_eq!(SegmentName::parse(bad), None, "{bad}");
        }
        let next = |stem| SegmentName::parse(stem).unwrap();
        assert!(
            name < next("2026-11-25.1a2b3c4d.002")
                && next("2026-11-25.1a2b3c4d.1000") < next("2026-11-26.1a2b3c4d.001")
        );
    }
}
