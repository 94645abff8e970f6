//! Looks for records without checking the chain: for questions about some of them.

use std::io;
use std::path::PathBuf;

use super::chain::Line;
use super::files;
use super::finding::Findings;
use super::lines::{Lines, RawLine};
use crate::audit::record::{Header, Kind};
use crate::audit::segment::SegmentName;

/// Which segments are read, and which lines of them.
pub struct Scan<'s> {
    /// The directories.
    pub directories: &'s [PathBuf],
    /// Days as in the names of segments: the first and the last whose records are wanted.
    pub days: Option<(&'s str, &'s str)>,
    /// Only lines that contain one of these; all lines if there is none.
    pub needles: &'s [String],
}

impl Scan<'_> {
    /// Hands out the lines, chain by chain, in their order. The number is the position of the chain.
    ///
    /// # Errors
    /// When a file cannot be read, or the visitor's.
    pub fn each<E: From<io::Error>>(&self, mut visit: impl FnMut(usize, Line) -> Result<(), E>) -> Result<(), E> {
        let chains = files::list(self.directories, &mut Findings::default())?;
        for (chain, files) in chains.into_values().enumerate() {
            let names: Vec<SegmentName> = files.segments.iter().map(|segment| segment.name.clone()).collect();
            for (position, segment) in files.segments.iter().enumerate() {
                if self.is_wanted(&segment.name, names.get(position + 1)) {
                    self.read(segment, |line| visit(chain, line))?;
                }
            }
        }
        Ok(())
    }

    /// A segment holds records from its own day to the day on which the next one begins.
    fn is_wanted(&self, name: &SegmentName, next: Option<&SegmentName>) -> bool {
        let Some((first, last)) = self.days else { return true };
        *name.day <= *last && next.is_none_or(|next| *next.day >= *first)
    }

    fn read<E: From<io::Error>>(
        &self,
        segment: &files::Segment,
        mut visit: impl FnMut(Line) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut lines, mut index) = (Lines::open(&segment.path)?, 0);
        let file: std::rc::Rc<str> = segment.name.file().into();
        while let Some(raw) = lines.next()? {
            let position = index;
            index += 1;
            let RawLine::Whole(line) = raw else { continue };
            let Ok(text) = String::from_utf8(line) else { continue };
            if !self.needles.is_empty() && !self.needles.iter().any(|needle| text.contains(needle)) {
                continue;
            }
            let Ok(header) = serde_json::from_str::<Header<'_>>(&text) else { continue };
            let Some(kind) = Kind::parse(header.kind) else { continue };
            let (seq, at) = (header.seq, header.at);
            visit(Line { file: std::rc::Rc::clone(&file), index: position, seq, at, kind, text })?;
        }
        Ok(())
    }
}
