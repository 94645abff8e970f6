//! Segments that were begun and never used: the disk failed when the gateway opened them.

use std::io;
use std::path::Path;

use super::lines::{Lines, RawLine};
use crate::audit::record::{Header, Kind};

/// Whether a segment has only the lines that every segment begins with.
pub(super) fn is_abandoned(path: &Path) -> io::Result<bool> {
    /// `open`, `config` and `checkpoint`.
    const MAX_OPENING: usize = 3;
    let mut lines = Lines::open(path)?;
    for _ in 0..=MAX_OPENING {
        let line = match lines.next()? {
            None | Some(RawLine::Torn(_)) => return Ok(true),
            Some(RawLine::TooLong) => return Ok(false),
            Some(RawLine::Whole(line)) => line,
        };
        let kind = serde_json::from_slice::<Header<'_>>(&line).ok().and_then(|header| Kind::parse(header.kind));
        if !matches!(kind, Some(Kind::Open | Kind::Config | Kind::Checkpoint)) {
            return Ok(false);
        }
    }
    Ok(false)
}
