//! Finds where one request ends and the next begins, and whether each head has only one reading.
//!
//! hyper is a lenient parser: it accepts bare line feeds, a missing or repeated `Host`, and `Content-Length` beside
//! `Transfer-Encoding`. Request smuggling depends on such heads, because another server may read them in another way.
//! So every byte passes the [`Framer`] first, which is strict: a request that passes has one reading (RFC 9112), and
//! hyper has the same. Pure: bytes in, positions out. [`ClientIo`](super::ClientIo) puts it in front of a socket.

use memchr::memchr;

pub use crate::failure::HeadFault;

/// A chunked body that has more than one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the chunked coding of the request body is broken")]
pub struct ChunkFault;

/// Why bytes do not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// In a head: a response is possible.
    Head(HeadFault),
    /// In a body: the connection can only be closed.
    Body(ChunkFault),
}

/// How many bytes at the start of the input pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Bytes that belong to the present message and have been checked.
    pub bytes: usize,
}

/// The largest number of header fields in one request; hyper's limit is the same.
pub const MAX_FIELDS: usize = 100;
/// The longest method name: `UNSUBSCRIBE` fits.
const MAX_METHOD: usize = 32;
/// The longest chunk-size line and the longest trailer section. Agent applications use neither.
const MAX_CHUNK_LINE: usize = 256;

/// Follows one connection from request to request.
#[derive(Debug)]
pub struct Framer {
    at: At,
    max_head_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before or within a head; `scanned` bytes of it hold no complete head yet.
    Head { scanned: usize },
    /// Within a body of known length.
    Body { left: u64 },
    /// Within a chunked body.
    Chunks(Chunk),
}

/// Places within a chunked body (RFC 9112 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    /// Within the size line.
    Size,
    /// Within the data.
    Data { left: u64 },
    /// Before the CR LF that ends the data.
    DataEnd,
    /// Within the trailer section, after the last chunk.
    Trailer { seen: usize },
}

impl Framer {
    /// At the start of a connection.
    pub fn new(max_head_bytes: usize) -> Self {
        Self { at: At::Head { scanned: 0 }, max_head_bytes }
    }

    /// Whether the next byte belongs to a request head.
    pub fn in_head(&self) -> bool {
        matches!(self.at, At::Head { .. })
    }

    /// Checks `input`, the bytes that have not passed yet, and returns how many of them pass now. Zero means that more
    /// bytes are needed: an incomplete head does not pass in part. At most one message passes in one call, so that the
    /// response to a refused request never overtakes the response to the request before it.
    ///
    /// # Errors
    /// [`Fault`]; the connection must not be read any further.
    pub fn advance(&mut self, input: &[u8]) -> Result<Passed, Fault> {
        let At::Head { scanned } = self.at else {
            return self.body(input).map_err(Fault::Body);
        };
        match head_end(input, scanned).map_err(Fault::Head)? {
            Some(end) if end <= self.max_head_bytes => {
                let head = input.get(..end).unwrap_or_default();
                self.at = check_head(head).map_err(Fault::Head)?;
                if self.in_head() {
                    return Ok(Passed { bytes: end });
                }
                let after_head = self.at;
                match self.body(input.get(end..).unwrap_or_default()) {
                    Ok(body) => Ok(Passed { bytes: end + body.bytes }),
                    // The head passes alone, so that the request is seen and recorded. The next call finds the fault.
                    Err(_) => {
                        self.at = after_head;
                        Ok(Passed { bytes: end })
                    }
                }
            }
            None if input.len() <= self.max_head_bytes => {
                self.at = At::Head { scanned: input.len() };
                Ok(Passed { bytes: 0 })
            }
            _ => Err(Fault::Head(HeadFault::TooLarge)),
        }
    }

    fn body(&mut self, input: &[u8]) -> Result<Passed, ChunkFault> {
        let mut rest = input;
        while !rest.is_empty() && !self.in_head() {
            let used = match self.at {
                At::Head { .. } => 0,
                At::Body { left } => {
                    let used = take(left, rest);
                    let left = left - used as u64;
                    self.at = if left == 0 { At::Head { scanned: 0 } } else { At::Body { left } };
                    used
                }
                At::Chunks(chunk) => {
                    let Some((used, next)) = chunk.advance(rest)? else { break };
                    self.at = next.map_or(At::Head { scanned: 0 }, At::Chunks);
                    used
                }
            };
            rest = rest.get(used..).unwrap_or_default();
        }
        Ok(Passed { bytes: input.len() - rest.len() })
    }
}

fn take(left: u64, input: &[u8]) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(input.len())
}

impl Chunk {
    /// The number of used bytes of `input` and the next place, which is `None` after the last chunk. `None` in all if a
    /// line is not complete yet.
    fn advance(self, input: &[u8]) -> Result<Option<(usize, Option<Self>)>, ChunkFault> {
        match self {
            Self::Data { left } => {
                let used = take(left, input);
                let left = left - used as u64;
                Ok(Some((used, Some(if left == 0 { Self::DataEnd } else { Self::Data { left } }))))
            }
            Self::DataEnd => match line(input)? {
                Some([]) => Ok(Some((2, Some(Self::Size)))),
                Some(_) => Err(ChunkFault),
                None => Ok(None),
            },
            Self::Size => {
                let Some(line) = line(input)? else { return Ok(None) };
                let next = match chunk_size(line)? {
                    0 => Self::Trailer { seen: 0 },
                    left => Self::Data { left },
                };
                Ok(Some((line.len() + 2, Some(next))))
            }
            Self::Trailer { seen } => {
                let Some(line) = line(input)? else { return Ok(None) };
                let seen = seen + line.len();
                match line {
                    [] => Ok(Some((2, None))),
                    _ if seen > MAX_CHUNK_LINE || field(line).is_err() => Err(ChunkFault),
                    _ => Ok(Some((line.len() + 2, Some(Self::Trailer { seen })))),
                }
            }
        }
    }
}

/// The line at the start of `input` without its CR LF; `None` if it is not complete.
fn line(input: &[u8]) -> Result<Option<&[u8]>, ChunkFault> {
    let window = input.get(..MAX_CHUNK_LINE + 2).unwrap_or(input);
    match memchr(b'\n', window) {
        Some(end) => {
            let line = window.get(..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r").ok_or(ChunkFault)?;
            if line.contains(&b'\r') { Err(ChunkFault) } else { Ok(Some(line)) }
        }
        None if input.len() > window.len() => Err(ChunkFault),
        None => Ok(None),
    }
}

/// One to sixteen hexadecimal digits and nothing else: parsers disagree about chunk extensions, and no application
/// needs them.
fn chunk_size(line: &[u8]) -> Result<u64, ChunkFault> {
    let digits = std::str::from_utf8(line).map_err(|_| ChunkFault)?;
    let plain = (1..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !plain {
        return Err(ChunkFault);
    }
    u64::from_str_radix(digits, 16).map_err(|_| ChunkFault)
}

/// The position behind the empty line that ends the head. Every line must end in CR LF.
fn head_end(input: &[u8], scanned: usize) -> Result<Option<usize>, HeadFault> {
    // A line end may lie across the border between scanned and new bytes.
    let mut from = scanned.saturating_sub(3);
    while let Some(offset) = input.get(from..).and_then(|rest| memchr(b'\n', rest)) {
        let at = from + offset;
        let before = input.get(..at).unwrap_or_default();
        let Some(line) = before.strip_suffix(b"\r") else { return Err(HeadFault::LineEnd) };
        if line.ends_with(b"\n") {
            return Ok(Some(at + 1));
        }
        if line.is_empty() {
            return Err(HeadFault::RequestLine);
        }
        from = at + 1;
    }
    Ok(None)
}

/// Checks a complete head and returns where the framer is after it.
fn check_head(head: &[u8]) -> Result<At, HeadFault> {
    let head = head.strip_suffix(b"\r\n").ok_or(HeadFault::LineEnd)?;
    let mut lines = Lines(head);
    let version = request_line(lines.next().unwrap_or_default())?;
    let mut seen = Seen::default();
    for (count, line) in lines.enumerate() {
        if count >= MAX_FIELDS {
            return Err(HeadFault::TooManyFields);
        }
        let (name, value) = field(line)?;
        seen.note(name, value)?;
    }
    seen.framing(version)
}

/// The lines of a head, each without the CR LF that [`head_end`] has found at its end.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let (line, rest) = match memchr(b'\n', self.0) {
            Some(end) => self.0.split_at_checked(end + 1)?,
            None => (self.0, &[][..]),
        };
        self.0 = rest;
        Some(line.strip_suffix(b"\r\n").unwrap_or(line))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

fn request_line(line: &[u8]) -> Result<Version, HeadFault> {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(HeadFault::RequestLine);
    };
    if !is_token(method) || method.len() > MAX_METHOD {
        return Err(HeadFault::RequestLine);
    }
    check_target(target)?;
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        _ => Err(HeadFault::RequestLine),
    }
}

/// Allows a path, an `http(s)` URI or `*`. A fragment is refused because hyper would drop it silently. A target that
/// the `http` crate refuses is refused here, because hyper's refusal has no envelope.
fn check_target(target: &[u8]) -> Result<(), HeadFault> {
    let form = target.starts_with(b"/") || target == b"*" || has_scheme(target);
    let printable = || target.iter().all(|byte| matches!(byte, 0x21..=0x7e) && *byte != b'#');
    if form && (is_made_of(&PLAIN_IN_TARGET, target) || printable() && http::Uri::try_from(target).is_ok()) {
        Ok(())
    } else {
        Err(HeadFault::Target)
    }
}

fn has_scheme(target: &[u8]) -> bool {
    let starts = |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    (starts(b"http://") || starts(b"https://")) && http::Uri::try_from(target).is_ok()
}

/// Name and value of a field line, without the blanks around the value.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), HeadFault> {
    let colon = memchr(b':', line).ok_or(HeadFault::FieldName)?;
    let (name, value) = line.split_at_checked(colon).ok_or(HeadFault::FieldName)?;
    if !is_token(name) {
        return Err(HeadFault::FieldName);
    }
    let value = value.get(1..).unwrap_or_default();
    // No early exit, so that the compiler can check many bytes at once.
    if value.iter().fold(false, |found, byte| found | matches!(byte, 0..=8 | 10..=31 | 127)) {
        return Err(HeadFault::FieldValue);
    }
    Ok((name, value.trim_ascii()))
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && is_made_of(&TOKEN, text)
}

/// A set of bytes, as a table.
type ByteSet = [bool; 256];

/// RFC 9110 5.6.2.
const TOKEN: ByteSet = alphanumeric_and(b"!#$%&'*+-.^_`|~");
/// Names, addresses and ports.
const HOST: ByteSet = alphanumeric_and(b".-_:[]~%");
/// Bytes that every URI parser accepts.
const PLAIN_IN_TARGET: ByteSet = alphanumeric_and(b"/-._~%?=&:,;+!$'()*@");

#[allow(clippy::indexing_slicing, reason = "a byte is an index into 256 places; evaluated by the compiler")]
const fn alphanumeric_and(others: &[u8]) -> ByteSet {
    let mut set = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        set[byte as usize] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut rest = others;
    while let [byte, more @ ..] = rest {
        set[*byte as usize] = true;
        rest = more;
    }
    set
}

/// Looks at all bytes: without an early end there is no jump for each byte.
fn is_made_of(set: &ByteSet, text: &[u8]) -> bool {
    text.iter().fold(true, |all, byte| all & set.get(usize::from(*byte)).copied().unwrap_or_default())
}

/// The fields that decide about framing and identity, as far as they have come.
#[derive(Default)]
struct Seen<'a> {
    host: Option<&'a [u8]>,
    length: Option<&'a [u8]>,
    coding: Option<&'a [u8]>,
    /// `Guid`, `Content-Type`, `Expect`, `Content-Encoding`: at most once each.
    single: [bool; 4],
}

impl<'a> Seen<'a> {
    fn note(&mut self, name: &[u8], value: &'a [u8]) -> Result<(), HeadFault> {
        let is = |word: &[u8]| name.eq_ignore_ascii_case(word);
        // Names by length first: nearly every field is none of these.
        let place = match name.len() {
            4 if is(b"host") => return once(&mut self.host, value, HeadFault::Host),
            14 if is(b"content-length") => return once(&mut self.length, value, HeadFault::Length),
            17 if is(b"transfer-encoding") => return once(&mut self.coding, value, HeadFault::Coding),
            4 if is(b"guid") => 0,
            12 if is(b"content-type") => 1,
            6 if is(b"expect") => 2,
            16 if is(b"content-encoding") => 3,
            10 if is(b"connection") => return ascii(value),
            _ => return Ok(()),
        };
        if self.single.get_mut(place).is_some_and(|seen| std::mem::replace(seen, true)) {
            return Err(HeadFault::Repeated);
        }
        ascii(value)
    }

    fn framing(&self, version: Version) -> Result<At, HeadFault> {
        match self.host {
            Some(host) if is_host(host) => {}
            // Load balancers probe with HTTP/1.0, which knows no Host.
            None if version == Version::Http10 => {}
            _ => return Err(HeadFault::Host),
        }
        match (self.length, self.coding) {
            (None, None) => Ok(At::Head { scanned: 0 }),
            (Some(length), None) => match content_length(length)? {
                0 => Ok(At::Head { scanned: 0 }),
                left => Ok(At::Body { left }),
            },
            (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") && version == Version::Http11 => {
                Ok(At::Chunks(Chunk::Size))
            }
            (None, Some(_)) => Err(HeadFault::Coding),
            (Some(_), Some(_)) => Err(HeadFault::Length),
        }
    }
}

fn once<'a>(place: &mut Option<&'a [u8]>, value: &'a [u8], fault: HeadFault) -> Result<(), HeadFault> {
    if place.replace(value).is_some() { Err(fault) } else { ascii(value) }
}

fn ascii(value: &[u8]) -> Result<(), HeadFault> {
    if value.is_ascii() { Ok(()) } else { Err(HeadFault::FieldValue) }
}

fn is_host(value: &[u8]) -> bool {
    !value.is_empty() && is_made_of(&HOST, value)
}

fn content_length(value: &[u8]) -> Result<u64, HeadFault> {
    let digits = std::str::from_utf8(value).map_err(|_| HeadFault::Length)?;
    let plain = (1..=18).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !plain {
        return Err(HeadFault::Length);
    }
    digits.parse().map_err(|_| HeadFault::Length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The messages in `input`, as the framer cuts them when it arrives in pieces of the given size.
    fn cut(input: &[u8], piece: usize) -> Result<Vec<Vec<u8>>, Fault> {
        let mut framer = Framer::new(4096);
        let (mut messages, mut present, mut waiting) = (vec![], vec![], vec![]);
        for bytes in input.chunks(piece) {
            waiting.extend_from_slice(bytes);
            loop {
                let passed = framer.advance(&waiting)?.bytes;
                present.extend(waiting.drain(..passed));
                if passed > 0 && framer.in_head() {
                    messages.push(std::mem::take(&mut present));
                }
                if passed == 0 || waiting.is_empty() {
                    break;
                }
            }
        }
        Ok(messages)
    }

    fn fault(input: &str) -> HeadFault {
        match cut(input.as_bytes(), usize::MAX) {
            Err(Fault::Head(fault)) => fault,
            other => panic!("{input:?} gave {other:?}"),
        }
    }

    #[test]
    fn requests_are_cut_where_they_end_however_they_arrive() {
        let requests: [&[u8]; 6] = [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab\r\n\n",
            b"POST /x HTTP/1.1\r\nhOST:a\r\nTransfer-Encoding: Chunked\r\n\r\n4\r\nGET \r\n00A\r\n0123456789\r\n0\r\n\r\n",
            b"POST http://b/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\n\r\n",
            b"PUT /x HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 0\r\n\r\n",
            b"GET /x?a=b%20{c} HTTP/1.0\r\nX-Name: caf\xc3\xa9\t\r\n\r\n",
        ];
        let all = requests.concat();
        for piece in [1, 2, 3, 7, 64, all.len()] {
            assert_eq!(cut(&all, piece).unwrap(), requests, "pieces of {piece}");
        }
    }

    #[test]
    fn ambiguous_heads_are_refused() {
        for (head, expected) in [
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", HeadFault::LineEnd),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", HeadFault::LineEnd),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n", HeadFault::LineEnd),
            ("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", HeadFault::FieldValue),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\r\n\r\n", HeadFault::FieldValue),
            ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", HeadFault::RequestLine),
            ("GET /\r\n\r\n", HeadFault::RequestLine),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", HeadFault::RequestLine),
            ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", HeadFault::RequestLine),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", HeadFault::RequestLine),
            ("GET / http/1.1\r\nHost: a\r\n\r\n", HeadFault::RequestLine),
            ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", HeadFault::RequestLine),
            ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", HeadFault::RequestLine),
            ("GET x HTTP/1.1\r\nHost: a\r\n\r\n", HeadFault::Target),
            ("GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", HeadFault::Target),
            ("GET /é HTTP/1.1\r\nHost: a\r\n\r\n", HeadFault::Target),
            ("GET /<x> HTTP/1.1\r\nHost: a\r\n\r\n", HeadFault::Target),
            ("GET ftp://a/x HTTP/1.1\r\nHost: a\r\n\r\n", HeadFault::Target),
            ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", HeadFault::Target),
            ("GET / HTTP/1.1\r\n\r\n", HeadFault::Host),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", HeadFault::Host),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", HeadFault::Host),
            ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", HeadFault::Host),
            ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", HeadFault::Host),
            ("GET / HTTP/1.1\r\nHost: a\r\n X: b\r\n\r\n", HeadFault::FieldName),
            ("GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", HeadFault::FieldName),
            ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", HeadFault::FieldName),
            ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", HeadFault::FieldName),
            ("GET / HTTP/1.1\r\nHost: a\r\nX\u{0}: b\r\n\r\n", HeadFault::FieldName),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: b\u{0}\r\n\r\n", HeadFault::FieldValue),
            ("GET / HTTP/1.1\r\nHost: a\r\nGuid: é\r\n\r\n", HeadFault::FieldValue),
            ("GET / HTTP/1.1\r\nHost: a\r\nGuid: 1\r\ngUID: 1\r\n\r\n", HeadFault::Repeated),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Type: a\r\nContent-Type: a\r\n\r\n", HeadFault::Repeated),
            ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", HeadFault::Length),
            ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", HeadFault::Length),
            ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", HeadFault::Length),
            ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n", HeadFault::Length),
            ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", HeadFault::Length),
            ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999999\r\n\r\n", HeadFault::Length),
            ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", HeadFault::Length),
            ("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", HeadFault::Length),
            ("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", HeadFault::Coding),
            ("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n", HeadFault::FieldValue),
            ("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", HeadFault::Coding),
            (
                "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                HeadFault::Coding,
            ),
            ("PUT / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", HeadFault::Coding),
        ] {
            assert_eq!(fault(head), expected, "{head:?}");
        }
    }

    #[test]
    fn heads_are_bounded() {
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(5000));
        assert_eq!(fault(&long), HeadFault::TooLarge);
        assert_eq!(fault(long.get(..4097).unwrap()), HeadFault::TooLarge);
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100));
        assert_eq!(fault(&many), HeadFault::TooManyFields);
    }

    #[test]
    fn ambiguous_chunks_are_refused() {
        for body in [
            "5;x=y\r\nhello",
            "0x5\r\n",
            " 5\r\n",
            "5 \r\n",
            "\r\n",
            "5\nhello",
            "5\r\nhelloX\r\n",
            "5\r\nhello\n",
            "fffffffffffffffff\r\n",
            "0\r\nbad line\r\n\r\n",
            "0\r\n x: y\r\n\r\n",
            "-1\r\n",
        ] {
            let request = format!("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
            for piece in [1, request.len()] {
                assert_eq!(cut(request.as_bytes(), piece), Err(Fault::Body(ChunkFault)), "{body:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_pieces_make_no_difference(
            head in "(GET|PUT) /[a-z]{0,3} HTTP/1\\.[01]\r\n(Host: a\r\n|Content-Length: [0-9]\r\n|Transfer-Encoding: chunked\r\n|X: y\r\n){0,4}\r\n",
            body in prop::collection::vec(prop::sample::select(&b"0123\r\n;a"[..]), 0..40), piece in 1..9usize,
        ) {
            let input = [head.as_bytes(), &body].concat();
            prop_assert_eq!(cut(&input, piece), cut(&input, input.len()));
        }
    }
}
