//! The events of an answer that is too large to be held: read as it passes, with the same result as when it is read whole.
//!
//! Undoes content codings and charsets piece by piece (`content` does the same for whole bodies).

use std::io::{self, Write};

use encoding_rs::{Decoder, Encoding, UTF_8};
use http::header::HeaderMap;

use super::answer::AnswerReader;
use super::content::{Coding, charset, coding};
use super::content_stream::ContentStream;
use super::event::{EventError, Events};

/// Most bytes that are read of a compressed answer once it is decompressed: a small answer must not take seconds.
const MAX_DECOMPRESSED: usize = 64 * 1024 * 1024;

/// Reads events piece by piece.
pub struct EventStream(Option<ContentStream<Text>>);

impl EventStream {
    /// For an answer with these header fields.
    pub fn new(headers: &HeaderMap) -> Self {
        let charset = charset(headers);
        // UTF-8 is also what is declared by default: the reader finds out whether it is true.
        let decoder = (charset != UTF_8).then(|| charset.new_decoder());
        let start = decoder.is_none().then(Vec::new);
        Self(coding(headers).map(|coding| {
            let left = if coding == Coding::Identity { usize::MAX } else { MAX_DECOMPRESSED };
            ContentStream::new(coding, Text { decoder, start, reader: AnswerReader::new(), left })
        }))
    }

    /// Reads the next piece of the body.
    pub fn feed(&mut self, piece: &[u8]) {
        if let Some(content) = &mut self.0 {
            content.feed(piece);
        }
    }

    /// The events, once the body is complete.
    ///
    /// # Errors
    /// [`EventError::NotAnEnvelope`], also for damaged and unknown codings.
    pub fn finish(self) -> Result<Events, EventError> {
        let mut text = self.0.and_then(ContentStream::finish).ok_or(EventError::NotAnEnvelope)?;
        text.read(&[], true);
        text.reader.finish().map(|answer| answer.events()).ok_or(EventError::NotAnEnvelope)
    }
}

/// Byte order marks of UTF-8 and UTF-16. A mark counts more than what is declared, as in a whole body.
const MARKS: [&[u8]; 3] = [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"];

/// The text without content coding.
struct Text {
    /// For a charset that is not UTF-8, declared or shown by its mark.
    decoder: Option<Decoder>,
    /// The first bytes, as long as they may become a mark.
    start: Option<Vec<u8>>,
    reader: AnswerReader,
    left: usize,
}

impl Text {
    fn read(&mut self, piece: &[u8], last: bool) {
        let Some(mut start) = self.start.take() else { return self.decode(piece, last) };
        start.extend_from_slice(piece);
        if !last && MARKS.iter().any(|mark| mark.len() > start.len() && mark.starts_with(&start)) {
            self.start = Some(start);
            return;
        }
        let marked = Encoding::for_bom(&start).filter(|(charset, _)| *charset != UTF_8);
        self.decoder = marked.map(|(charset, _)| charset.new_decoder());
        self.decode(&start, last);
    }

    fn decode(&mut self, piece: &[u8], last: bool) {
        let Some(decoder) = &mut self.decoder else { return self.reader.feed(piece) };
        let room = decoder.max_utf8_buffer_length(piece.len()).unwrap_or_default();
        let mut text = String::with_capacity(room);
        let _ = decoder.decode_to_string(piece, &mut text, last);
        self.reader.feed(text.as_bytes());
    }
}

impl Write for Text {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(piece.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        self.read(piece, false);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use encoding_rs::{GBK, UTF_16LE};
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};

    /// 2,000 events of 2,000 agents, more than a megabyte.
    fn text() -> String {
        let event = |n: u32| {
            let data = "王\\\"".repeat(100);
            format!(
                r#"{{"eventType":"AgentEvent_Preview_CallOut","workNo":"{}","content":{{"callData":"{data}","controlid":{n},"dialeddigits":"{n}"}}}}"#,
                1000 + n
            )
        };
        let events: Vec<_> = (0..2000).map(event).collect();
        format!(r#"{{"message":"","retcode":"0","event":[{}]}}"#, events.join(","))
    }

    fn read(fields: &[(HeaderName, &'static str)], body: &[u8], piece: usize) -> Result<Events, EventError> {
        let headers = fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        let mut stream = EventStream::new(&headers);
        body.chunks(piece).for_each(|piece| stream.feed(piece));
        stream.finish()
    }

    #[test]
    fn a_large_answer_has_the_same_events_as_a_small_one() {
        let text = text();
        let whole = super::super::answer::parse_events(text.as_bytes()).unwrap();
        assert_eq!((whole.events.len(), whole.unreadable), (2000, 0));
        let (mut gzip, mut zlib, mut raw) = (
            GzEncoder::new(vec![], Compression::fast()),
            ZlibEncoder::new(vec![], Compression::fast()),
            DeflateEncoder::new(vec![], Compression::fast()),
        );
        gzip.write_all(text.as_bytes()).unwrap();
        zlib.write_all(text.as_bytes()).unwrap();
        raw.write_all(text.as_bytes()).unwrap();
        let (gzip, zlib, raw) = (gzip.finish().unwrap(), zlib.finish().unwrap(), raw.finish().unwrap());
        let gbk = GBK.encode(&text).0.into_owned();
        let utf_16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(UTF_16LE.name(), "UTF-16LE");
        for piece in [1009, 16 * 1024, usize::MAX] {
            for (fields, body) in [
                (&[][..], text.as_bytes()),
                (&[(CONTENT_ENCODING, "gzip")], &gzip[..]),
                (&[(CONTENT_ENCODING, "deflate")], &zlib),
                (&[(CONTENT_ENCODING, "deflate")], &raw),
                (&[(CONTENT_TYPE, "application/json;charset=GBK")], &gbk),
                (&[], &gbk),
                (&[(CONTENT_TYPE, "application/json;charset=utf-16le")], &utf_16),
            ] {
                let found = read(fields, body, piece);
                assert!(
                    found.as_ref() == Ok(&whole),
                    "{fields:?} {piece}: {:?}",
                    found.map(|found| found.events.len())
                );
            }
        }
        assert!(read(&[(CONTENT_ENCODING, "gzip")], &gzip[..gzip.len() / 2], 1000).is_err());
        assert!(read(&[(CONTENT_ENCODING, "br")], &gzip, 1000).is_err());
        assert!(read(&[], &text.as_bytes()[..1000], 100).is_err());
    }

    #[test]
    fn a_byte_order_mark_counts_however_it_is_cut() {
        let text = r#"{"retcode":"0","event":{"eventType":"AgentEvent_Release_Preview","workNo":"101"}}"#;
        let whole = super::super::answer::parse_events(text.as_bytes()).unwrap();
        let marked = format!("\u{feff}{text}");
        let utf_16 = |unit: fn(u16) -> [u8; 2]| marked.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
        for body in [marked.clone().into_bytes(), utf_16(u16::to_le_bytes), utf_16(u16::to_be_bytes)] {
            for piece in [1, 2, 3, 4, usize::MAX] {
                for fields in [&[][..], &[(CONTENT_TYPE, "application/json;charset=utf-8")]] {
                    assert_eq!(read(fields, &body, piece).as_ref(), Ok(&whole), "{fields:?} {piece} {body:x?}");
                }
            }
        }
        // What only begins like a mark is text.
        for cut in [&b"\xef"[..], b"\xef\xbb", b"\xff", b"\xfe", b"\xef\xbb{}", b"\xff{}"] {
            assert!(read(&[], cut, 1).is_err(), "{cut:x?}");
        }
        assert_eq!(read(&[], b"{}", 1), Ok(Events::default()));
        assert!(read(&[], b"", 1).is_err());
    }

    #[test]
    fn a_small_answer_cannot_become_an_endless_one() {
        let mut bomb = GzEncoder::new(vec![], Compression::best());
        bomb.write_all(&vec![b' '; MAX_DECOMPRESSED + 1]).unwrap();
        bomb.write_all(b"{}").unwrap();
        assert!(read(&[(CONTENT_ENCODING, "gzip")], &bomb.finish().unwrap(), 4096).is_err());
    }
}
