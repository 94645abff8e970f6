//! Looks for records without checking the chain. Commands that ask about a few records use it.

use std::io;
use std::path::PathBuf;

use super::chain::Line;
use super::files::{self, Opening};
use super::finding::Findings;
use super::lines::{Lines, RawLine};
use crate::audit::record::{Header, Kind};
use crate::audit::segment::SegmentName;
use crate::audit::time;

/// Which segments are read, and which lines of them.
pub struct Scan<'s> {
    /// The directories.
    pub directories: &'s [PathBuf],
    /// The first and the last day whose records are wanted, spelled as in the names of segments.
    pub days: Option<(&'s str, &'s str)>,
    /// Only lines that contain one of these texts are read. If the list is empty, all lines are.
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
                if self.is_wanted(segment, names.get(position + 1)) {
                    let end = end(segment, files.segments.get(position + 1..).unwrap_or_default());
                    self.read(segment, end, |line| visit(chain, line))?;
                }
            }
        }
        Ok(())
    }

    /// A segment holds records from the day of its first line to the day on which the next one begins. Its name may have a
    /// later day than its first line: a clock that was set back does not change the order of the names.
    fn is_wanted(&self, segment: &files::Segment, next: Option<&SegmentName>) -> bool {
        let Some((first, last)) = self.days else { return true };
        let begins = segment.opened_at.map_or(segment.name.day.clone(), time::day).min(segment.name.day.clone());
        *begins <= *last && next.is_none_or(|next| *next.day >= *first)
    }

    fn read<E: From<io::Error>>(
        &self,
        segment: &files::Segment,
        end: Option<u64>,
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
            if end.is_some_and(|end| header.seq > end) {
                break;
            }
            let Some(kind) = Kind::parse(header.kind) else { continue };
            let (seq, at) = (header.seq, header.at);
            visit(Line { file: std::rc::Rc::clone(&file), index: position, seq, at, kind, text })?;
        }
        Ok(())
    }
}

/// The last line that counts, if a later segment says that it follows this one. Lines after it were written again in that
/// segment.
fn end(segment: &files::Segment, later: &[files::Segment]) -> Option<u64> {
    let name = segment.name.to_string();
    later.iter().find_map(|later| match &later.opening {
        Opening::After(before) if before.segment == name => Some(before.seq),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_were_written_again_in_the_next_segment_are_read_once() {
        let directory = tempfile::tempdir().unwrap();
        let zeros = "0".repeat(64);
        let line = |seq: u64, more: &str| {
            format!("{{\"seq\":{seq},\"prev\":\"{zeros}\",\"at\":\"2026-11-25T04:00:00.000Z\",{more}}}\n")
        };
        let close = |seq| line(seq, "\"kind\":\"close\",\"stop\":false");
        let open = |seq, number: u8, before: &str| {
            let segment = format!("\"segment\":\"2026-11-25.1a2b3c4d.00{number}\",\"cause\":\"start\"");
            let rest = "\"public_key\":\"k\",\"checkpoint_interval_ms\":1,\"retention_days\":1";
            let first = "\"kind\":\"open\",\"format\":1,\"version\":\"v\",\"instance\":\"1a2b3c4d\"";
            line(seq, &format!("{first},{segment},{rest}{before}"))
        };
        let before = format!(
            ",\"before\":{{\"segment\":\"2026-11-25.1a2b3c4d.001\",\"seq\":2,\"head\":\"{zeros}\",\"closed\":false}}"
        );
        let write = |number: u8, text: String| {
            std::fs::write(directory.path().join(format!("2026-11-25.1a2b3c4d.00{number}.jsonl")), text).unwrap();
        };
        write(1, [open(1, 1, ""), close(2), close(3), close(4)].concat());
        write(2, [open(3, 2, &before), close(4)].concat());
        let mut read = Vec::new();
        let directories = [directory.path().to_owned()];
        Scan { directories: &directories, days: None, needles: &[] }
            .each(|_, line| {
                read.push((line.seq, line.kind));
                Ok::<_, io::Error>(())
            })
            .unwrap();
        let expected = [(1, Kind::Open), (2, Kind::Close), (3, Kind::Open), (4, Kind::Close)];
        assert_eq!(read, expected);
    }
}
