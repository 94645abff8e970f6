//! Undoes the content coding of a body that passes in pieces (`content` does the same for whole bodies).
//!
//! What is undone goes to a writer at once: nothing that was fed stays behind in a buffer.

use std::io::{self, Write};

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use super::content::Coding;

/// Writes a coded body to `W` without its coding.
pub struct ContentStream<W: Write> {
    decoder: Decoder<W>,
    /// The coding is damaged, or the writer has refused to take more.
    failed: bool,
}

enum Decoder<W: Write> {
    Identity(W),
    Gzip(Box<MultiGzDecoder<W>>),
    /// `deflate` before its first byte: zlib data by the standard (RFC 9110 8.4.1.2), raw deflate by some servers.
    Deflate(Option<W>),
    Zlib(Box<ZlibDecoder<W>>),
    RawDeflate(Box<DeflateDecoder<W>>),
}

impl<W: Write> ContentStream<W> {
    /// Undoes `coding` and writes the result to `writer`.
    pub fn new(coding: Coding, writer: W) -> Self {
        let decoder = match coding {
            Coding::Identity => Decoder::Identity(writer),
            Coding::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(writer))),
            Coding::Deflate => Decoder::Deflate(Some(writer)),
        };
        Self { decoder, failed: false }
    }

    /// Undoes the next piece. After an error nothing more is written.
    pub fn feed(&mut self, piece: &[u8]) {
        if !self.failed {
            self.failed = self.decoder.feed(piece).is_err();
        }
    }

    /// The writer, with everything that could be undone so far.
    pub fn writer(&self) -> Option<&W> {
        match &self.decoder {
            Decoder::Identity(writer) => Some(writer),
            Decoder::Gzip(decoder) => Some(decoder.get_ref()),
            Decoder::Deflate(writer) => writer.as_ref(),
            Decoder::Zlib(decoder) => Some(decoder.get_ref()),
            Decoder::RawDeflate(decoder) => Some(decoder.get_ref()),
        }
    }

    /// The writer, if the body has ended as its coding demands.
    pub fn finish(self) -> Option<W> {
        match self.decoder {
            _ if self.failed => None,
            Decoder::Identity(writer) => Some(writer),
            Decoder::Gzip(decoder) => decoder.finish().ok(),
            Decoder::Zlib(decoder) => decoder.finish().ok(),
            Decoder::RawDeflate(decoder) => decoder.finish().ok(),
            Decoder::Deflate(_) => None,
        }
    }
}

impl<W: Write> Decoder<W> {
    fn feed(&mut self, piece: &[u8]) -> io::Result<()> {
        if let (Self::Deflate(writer), Some(first)) = (&mut *self, piece.first()) {
            let Some(writer) = writer.take() else { return Ok(()) };
            *self = if first & 0x0f == 8 {
                Self::Zlib(Box::new(ZlibDecoder::new(writer)))
            } else {
                Self::RawDeflate(Box::new(DeflateDecoder::new(writer)))
            };
        }
        match self {
            Self::Identity(writer) => writer.write_all(piece),
            Self::Gzip(decoder) => write_through(decoder, piece),
            Self::Zlib(decoder) => write_through(decoder, piece),
            Self::RawDeflate(decoder) => write_through(decoder, piece),
            Self::Deflate(_) => Ok(()),
        }
    }
}

/// Without the flush the decoder keeps what it has undone last until it is fed again.
fn write_through(decoder: &mut impl Write, piece: &[u8]) -> io::Result<()> {
    decoder.write_all(piece)?;
    decoder.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    /// Takes so many bytes.
    struct Bounded(Vec<u8>, usize);

    impl Write for Bounded {
        fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
            self.1 = self.1.checked_sub(piece.len()).ok_or(io::ErrorKind::FileTooLarge)?;
            self.0.extend_from_slice(piece);
            Ok(piece.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn coded() -> [(Coding, Vec<u8>); 4] {
        let (mut gzip, mut zlib, mut raw) = (
            GzEncoder::new(vec![], Compression::fast()),
            ZlibEncoder::new(vec![], Compression::fast()),
            DeflateEncoder::new(vec![], Compression::fast()),
        );
        for encoder in [&mut gzip as &mut dyn Write, &mut zlib, &mut raw] {
            encoder.write_all(b"text, text").unwrap();
        }
        [
            (Coding::Identity, b"text, text".to_vec()),
            (Coding::Gzip, gzip.finish().unwrap()),
            (Coding::Deflate, zlib.finish().unwrap()),
            (Coding::Deflate, raw.finish().unwrap()),
        ]
    }

    #[test]
    fn what_is_undone_is_with_the_writer_at_once() {
        for (coding, body) in coded() {
            let mut stream = ContentStream::new(coding, Bounded(vec![], 100));
            assert!(stream.writer().is_some_and(|writer| writer.0.is_empty()));
            stream.feed(b"");
            body.chunks(1).for_each(|piece| stream.feed(piece));
            assert_eq!(stream.writer().unwrap().0, b"text, text", "{coding:?} {body:x?}");
            assert_eq!(stream.finish().unwrap().0, b"text, text", "{coding:?}");
        }
    }

    #[test]
    fn what_is_damaged_or_refused_has_no_end() {
        for (coding, body) in coded() {
            let mut refused = ContentStream::new(coding, Bounded(vec![], 9));
            body.chunks(1).for_each(|piece| refused.feed(piece));
            refused.feed(b"");
            assert!(refused.finish().is_none(), "{coding:?}");
            if coding != Coding::Identity {
                let mut cut = ContentStream::new(coding, Bounded(vec![], 100));
                cut.feed(&body[..body.len() / 2]);
                assert!(cut.finish().is_none(), "{coding:?}");
            }
        }
        assert!(ContentStream::new(Coding::Deflate, Bounded(vec![], 9)).finish().is_none(), "nothing came");
    }
}
