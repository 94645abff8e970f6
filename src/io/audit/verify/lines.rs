//! The lines of a segment, one at a time: a file of any size takes the memory of its longest line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use crate::audit::digest::{Digest, DigestOfPieces};

/// Longest line that is read. The longest that is written lists every key of a configuration.
pub(super) const MAX_LINE: usize = 8 << 20;

/// A line as it is in the file.
#[derive(Debug, PartialEq)]
pub(super) enum RawLine {
    /// With its line feed, which is not part of it.
    Whole(Vec<u8>),
    /// The bytes after the last line feed.
    Torn(Vec<u8>),
    /// Longer than [`MAX_LINE`].
    TooLong,
}

/// The lines of one file.
pub(super) struct Lines {
    reader: BufReader<File>,
}

impl Lines {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { reader: BufReader::with_capacity(1 << 17, File::open(path)?) })
    }

    /// The next line; `None` at the end of the file.
    pub(super) fn next(&mut self) -> io::Result<Option<RawLine>> {
        let mut line = Vec::new();
        let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX) + 1;
        let read = (&mut self.reader).take(limit).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(None);
        }
        if line.last() == Some(&b'\n') {
            line.pop();
            return Ok(Some(RawLine::Whole(line)));
        }
        Ok(Some(if line.len() > MAX_LINE { RawLine::TooLong } else { RawLine::Torn(line) }))
    }

    /// The length and the digest of all bytes that follow.
    pub(super) fn rest(&mut self) -> io::Result<(u64, Digest)> {
        let (mut hash, mut buffer, mut bytes) = (DigestOfPieces::default(), vec![0; 1 << 16], 0);
        loop {
            let read = self.reader.read(&mut buffer)?;
            if read == 0 {
                return Ok((bytes, hash.finish()));
            }
            hash.feed(buffer.get(..read).unwrap_or_default());
            bytes += u64::try_from(read).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(content: &[u8]) -> Lines {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        Lines::open(file.path()).unwrap()
    }

    #[test]
    fn a_line_is_whole_with_its_line_feed_only() {
        let mut lines = lines_of(b"a\n\nbc");
        assert_eq!(lines.next().unwrap(), Some(RawLine::Whole(b"a".to_vec())));
        assert_eq!(lines.next().unwrap(), Some(RawLine::Whole(Vec::new())));
        assert_eq!(lines.next().unwrap(), Some(RawLine::Torn(b"bc".to_vec())));
        assert_eq!(lines.next().unwrap(), None);
    }

    #[test]
    fn a_file_without_line_feeds_takes_bounded_memory() {
        let mut lines = lines_of(&vec![b'x'; MAX_LINE + 10]);
        assert_eq!(lines.next().unwrap(), Some(RawLine::TooLong));
    }

    #[test]
    fn the_rest_is_everything_after_the_lines_that_were_read() {
        let mut lines = lines_of(b"a\nbc\nd");
        lines.next().unwrap();
        assert_eq!(lines.rest().unwrap(), (4, Digest::of(b"bc\nd")));
    }
}
