//! The lines of a log file, plain or compressed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

/// Maximum length of a line, in bytes. A longer one is not a decision: the gateway writes far shorter lines.
const MAX_LINE: u64 = 64 << 10;
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Calls `each` with every line. A compressed file is recognised by its first bytes, not by its name.
pub(super) fn read(file: &Path, each: impl FnMut(&[u8])) -> io::Result<()> {
    let source: Box<dyn Read> =
        if file == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(file)?) };
    let mut source = BufReader::new(source);
    if source.fill_buf()?.starts_with(&GZIP) {
        // Several compressed files in a row are one file.
        split(&mut BufReader::new(MultiGzDecoder::new(source)), each)
    } else {
        split(&mut source, each)
    }
}

fn split(source: &mut impl BufRead, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        source.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
        match line.last() {
            None => return Ok(()),
            Some(b'\n') => each(&line),
            Some(_) => {
                if source.skip_until(b'\n')? == 0 {
                    // The last line of a file may lack its end.
                    each(&line);
                } else {
                    // A line that is too long counts as a line without a decision.
                    each(b"");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn lines(content: &[u8]) -> Vec<usize> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        let mut lengths = Vec::new();
        read(file.path(), |line| lengths.push(line.len())).unwrap();
        lengths
    }

    #[test]
    fn lines_of_plain_and_compressed_files_are_read_and_long_ones_count() {
        let zip = |content: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        };
        let long = [vec![b'x'; 200_000], b"\nab\n".to_vec()].concat();
        assert_eq!(lines(b""), [0; 0]);
        assert_eq!(lines(b"a\n\nabc"), [2, 1, 3]);
        assert_eq!(lines(&long), [0, 3]);
        assert_eq!(lines(&[zip(b"a\n"), zip(b"bc\n")].concat()), [2, 3]);
        assert!(read(Path::new("/nowhere"), |_| ()).is_err());
    }
}
