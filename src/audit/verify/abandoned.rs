//! Segments that were begun, and of which no record counts: the disk failed when the gateway opened them.

use std::io;
use std::path::Path;

use super::lines::{Lines, RawLine};
use crate::audit::record::{Header, Kind};

/// Whether a segment holds nothing but what every segment begins with.
pub(super) fn is_abandoned(path: &Path) -> io::Result<bool> {
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
