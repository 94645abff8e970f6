//! Formats one event or one record of a request as one line: JSON for machines, text for people.
//!
//! A record writes its fields straight into the line. An event of `tracing` hands over each field as a value without a type,
//! which costs as much again.
//!
//! No value can end its line or begin another field: both formats escape the same characters in the same way, and no
//! value is longer than [`MAX_VALUE`].

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use super::line_kind::{LOG_SCHEMA_VERSION, LineKind};
use super::line_style::LineStyle;
use super::redact::{bounded, is_unprintable};
use super::writer::LineClass;
use crate::preview::millis;
use crate::rfc3339::digits;

/// Approximate maximum bytes of one value in a line. A longer value is cut and ends in `…`. Values of the gateway itself
/// are much shorter.
pub(super) const MAX_VALUE: usize = 8 << 10;

/// Nearly every line fits into so many bytes.
const USUAL_LENGTH: usize = 1024;

/// A line about one request, with level INFO.
pub(super) trait Record {
    /// What the line is about.
    fn kind(&self) -> LineKind;
    /// When the line may be dropped.
    fn class(&self) -> LineClass;
    /// Writes the message, which is the first field, and then the others.
    fn write(&self, fields: &mut impl FieldSink);
}

/// Appends the line of `event`, line feed included.
pub(super) fn append_event(line: &mut Vec<u8>, style: LineStyle, at: SystemTime, event: &Event<'_>) {
    let level = *event.metadata().level();
    if style == LineStyle::Json {
        start_json(line, at, level, LineKind::Operation);
        event.record(&mut JsonFields { line });
        line.extend_from_slice(b"}\n");
    } else {
        start_text(line, style, at, level);
        event.record(&mut TextFields::new(line, LineKind::Operation));
        line.push(b'\n');
    }
}

/// Appends the line of `record`, line feed included.
pub(super) fn append_record(line: &mut Vec<u8>, style: LineStyle, at: SystemTime, record: &impl Record) {
    if style == LineStyle::Json {
        start_json(line, at, Level::INFO, record.kind());
        record.write(&mut JsonFields { line });
        line.extend_from_slice(b"}\n");
    } else {
        start_text(line, style, at, Level::INFO);
        record.write(&mut TextFields::new(line, record.kind()));
        line.push(b'\n');
    }
}

/// The line that reports dropped lines.
pub(super) fn drop_notice(style: LineStyle, at: SystemTime, dropped: u64) -> Vec<u8> {
    let mut line = Vec::new();
    let level = Level::WARN;
    // Writing into a vector cannot fail, here and below.
    let _ = if style == LineStyle::Json {
        start_json(&mut line, at, level, LineKind::Operation);
        writeln!(line, r#","message":"{dropped} log lines dropped","dropped":{dropped}}}"#)
    } else {
        start_text(&mut line, style, at, level);
        writeln!(line, " {dropped} log lines dropped dropped={dropped}")
    };
    line
}

fn start_json(line: &mut Vec<u8>, at: SystemTime, level: Level, kind: LineKind) {
    line.reserve(USUAL_LENGTH);
    line.extend_from_slice(b"{\"ts\":\"");
    append_time(line, at);
    line.extend_from_slice(b"\",\"level\":\"");
    line.extend_from_slice(level.as_str().as_bytes());
    line.extend_from_slice(b"\",\"kind\":\"");
    line.extend_from_slice(kind.as_str().as_bytes());
    line.extend_from_slice(b"\",\"schema\":");
    append_number(line, LOG_SCHEMA_VERSION);
}

fn start_text(line: &mut Vec<u8>, style: LineStyle, at: SystemTime, level: Level) {
    let start = line.len();
    append_time(line, at);
    if style != LineStyle::Text {
        // `2026-11-22T09:20:37.123Z`
        line.drain(start..start + "2026-11-22T".len());
        line.pop();
    }
    let (colour, end) = if style == LineStyle::ColourTerminal { (colour_of(level), "\u{1b}[0m") } else { ("", "") };
    let _ = write!(line, " {colour}{}{end}", level.as_str());
    if level.as_str().len() < "ERROR".len() {
        line.push(b' ');
    }
}

fn colour_of(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\u{1b}[31m",
        Level::WARN => "\u{1b}[33m",
        Level::INFO => "\u{1b}[32m",
        Level::DEBUG => "\u{1b}[34m",
        Level::TRACE => "\u{1b}[2m",
    }
}

/// RFC 3339, UTC, milliseconds. A machine without a clock can be before 1970.
fn append_time(line: &mut Vec<u8>, at: SystemTime) {
    line.extend_from_slice(&digits(millis(at.duration_since(UNIX_EPOCH).unwrap_or_default())));
}

/// A number or boolean. A value that JSON does not have (NaN) becomes `null`.
fn append_number(line: &mut Vec<u8>, number: impl Serialize) {
    let _ = serde_json::to_writer(line, &number);
}

/// Milliseconds with one to three decimals: the number that `telemetry::millis` returns, without a `f64` to be formatted.
fn append_millis(line: &mut Vec<u8>, duration: Duration) {
    let micros = (u64::from(duration.subsec_nanos()) + 500) / 1000 + duration.as_secs().saturating_mul(1_000_000);
    append_number(line, micros / 1000);
    let digit = |number: u64| b'0' + (number % 10) as u8;
    let decimals = [b'.', digit(micros / 100), digit(micros / 10), digit(micros)];
    let shown = match micros % 1000 {
        rest if rest % 100 == 0 => 2,
        rest if rest % 10 == 0 => 3,
        _ => 4,
    };
    line.extend_from_slice(decimals.get(..shown).unwrap_or_default());
}

/// Fields as members of a JSON object. `tracing` records the message first.
struct JsonFields<'a> {
    line: &'a mut Vec<u8>,
}

impl FieldSink for JsonFields<'_> {
    fn plain(&mut self, name: &str, append: impl FnOnce(&mut Vec<u8>)) {
        self.name(name);
        append(self.line);
    }

    fn text(&mut self, name: &str, text: impl FnOnce(&mut Escaping<'_>) -> fmt::Result) {
        self.name(name);
        self.line.push(b'"');
        Escaping::append(self.line, Quotes::Escaped, text);
        self.line.push(b'"');
    }

    fn string(&mut self, name: &str, value: &str) {
        // The common case: nothing to escape.
        if value.len() > MAX_VALUE || is_odd(value) {
            return self.text(name, |out| out.write_str(value));
        }
        self.name(name);
        self.line.push(b'"');
        self.line.extend_from_slice(value.as_bytes());
        self.line.push(b'"');
    }
}

impl JsonFields<'_> {
    /// Field names are identifiers in this program and need no escapes.
    fn name(&mut self, name: &str) {
        self.line.extend_from_slice(b",\"");
        self.line.extend_from_slice(name.as_bytes());
        self.line.extend_from_slice(b"\":");
    }
}

/// The message, then `name=value`. A value is quoted if its end would be ambiguous.
struct TextFields<'a> {
    line: &'a mut Vec<u8>,
    /// The position of the message, which may be recorded after other fields.
    message_at: usize,
    /// The names of fields that the line leaves out.
    omitted: &'static [&'static str],
}

impl FieldSink for TextFields<'_> {
    fn plain(&mut self, name: &str, append: impl FnOnce(&mut Vec<u8>)) {
        if self.omitted.contains(&name) {
            return;
        }
        self.name(name);
        append(self.line);
    }

    fn text(&mut self, name: &str, text: impl FnOnce(&mut Escaping<'_>) -> fmt::Result) {
        if name == "message" {
            return self.message(text);
        }
        if self.omitted.contains(&name) {
            return;
        }
        self.name(name);
        let start = self.line.len();
        self.line.push(b'"');
        if Escaping::append(self.line, Quotes::Escaped, text) == Extent::Plain {
            self.line.remove(start);
        } else {
            self.line.push(b'"');
        }
    }
}

impl<'a> TextFields<'a> {
    fn new(line: &'a mut Vec<u8>, kind: LineKind) -> Self {
        let message_at = line.len();
        Self { line, message_at, omitted: kind.only_in_json() }
    }

    fn name(&mut self, name: &str) {
        self.line.push(b' ');
        self.line.extend_from_slice(name.as_bytes());
        self.line.push(b'=');
    }

    fn message(&mut self, text: impl FnOnce(&mut Escaping<'_>) -> fmt::Result) {
        let fields = self.line.split_off(self.message_at);
        self.line.push(b' ');
        Escaping::append(self.line, Quotes::Verbatim, text);
        self.line.extend_from_slice(&fields);
    }
}

/// Receives the fields of a line.
pub(super) trait FieldSink {
    /// A value that needs no quotes.
    fn plain(&mut self, name: &str, append: impl FnOnce(&mut Vec<u8>));

    fn text(&mut self, name: &str, text: impl FnOnce(&mut Escaping<'_>) -> fmt::Result);

    /// A text that is there as a whole.
    fn string(&mut self, name: &str, value: &str) {
        self.text(name, |out| out.write_str(value));
    }

    /// A number or boolean.
    fn number(&mut self, name: &str, number: impl Serialize) {
        self.plain(name, |line| append_number(line, number));
    }

    /// A number, if there is one.
    fn some_number(&mut self, name: &str, number: Option<impl Serialize>) {
        if let Some(number) = number {
            self.number(name, number);
        }
    }

    /// Milliseconds, if there are any.
    fn some_millis(&mut self, name: &str, duration: Option<Duration>) {
        if let Some(duration) = duration {
            self.plain(name, |line| append_millis(line, duration));
        }
    }

    /// A text, if there is one.
    fn some_string(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.string(name, value);
        }
    }

    /// A value that is formatted as a text, if there is one.
    fn some_display(&mut self, name: &str, value: Option<impl fmt::Display>) {
        if let Some(value) = value {
            self.text(name, |out| write!(out, "{value}"));
        }
    }

    /// Text that a client or the upstream chose, if there is some: at most `max` characters of it.
    fn some_chosen(&mut self, name: &str, value: Option<&str>, max: usize) {
        self.some_string(name, value.map(|value| bounded(value, max)).as_deref());
    }
}

macro_rules! visit_fields {
    ($Fields:ident) => {
        impl Visit for $Fields<'_> {
            fn record_f64(&mut self, field: &Field, value: f64) {
                self.number(field.name(), value);
            }
            fn record_i64(&mut self, field: &Field, value: i64) {
                self.number(field.name(), value);
            }
            fn record_u64(&mut self, field: &Field, value: u64) {
                self.number(field.name(), value);
            }
            fn record_bool(&mut self, field: &Field, value: bool) {
                self.number(field.name(), value);
            }
            fn record_str(&mut self, field: &Field, value: &str) {
                self.string(field.name(), value);
            }
            fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                self.text(field.name(), |out| write!(out, "{value:?}"));
            }
        }
    };
}

visit_fields!(JsonFields);
visit_fields!(TextFields);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    Escaped,
    Verbatim,
}

/// Whether a value is unambiguous without quotes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Plain,
    NeedsQuotes,
}

/// Writes text with JSON's escapes, up to [`MAX_VALUE`].
pub(super) struct Escaping<'a> {
    line: &'a mut Vec<u8>,
    quotes: Quotes,
    extent: Extent,
    /// The length of the line at which the value is cut.
    end: usize,
    cut: bool,
}

impl Escaping<'_> {
    fn append(line: &mut Vec<u8>, quotes: Quotes, text: impl FnOnce(&mut Escaping<'_>) -> fmt::Result) -> Extent {
        let start = line.len();
        let end = start.saturating_add(MAX_VALUE);
        let mut escaping = Escaping { line, quotes, extent: Extent::Plain, end, cut: false };
        // An error means that the value was cut, or that its `Display` failed. The text so far stays.
        let _ = text(&mut escaping);
        if escaping.cut {
            escaping.line.extend_from_slice("…".as_bytes());
        }
        if escaping.line.len() == start { Extent::NeedsQuotes } else { escaping.extent }
    }

    fn character(&mut self, character: char) {
        match character {
            '"' if self.quotes == Quotes::Verbatim => self.line.push(b'"'),
            '"' => self.escape(b"\\\""),
            '\\' => self.escape(b"\\\\"),
            '\n' => self.escape(b"\\n"),
            '\r' => self.escape(b"\\r"),
            '\t' => self.escape(b"\\t"),
            other if is_unprintable(other) => {
                self.extent = Extent::NeedsQuotes;
                // All of these are in the basic multilingual plane: one UTF-16 unit each.
                let _ = write!(self.line, "\\u{:04x}", u32::from(other));
            }
            other => self.line.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }

    fn escape(&mut self, escape: &[u8]) {
        self.extent = Extent::NeedsQuotes;
        self.line.extend_from_slice(escape);
    }
}

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if ends_value(text) {
            self.extent = Extent::NeedsQuotes;
        }
        // The common case: printable ASCII that fits.
        let fits = self.line.len().saturating_add(text.len()) <= self.end;
        if fits && !is_odd(text) {
            self.line.extend_from_slice(text.as_bytes());
            return Ok(());
        }
        for character in text.chars() {
            if self.line.len() >= self.end {
                self.cut = true;
                // Stops formatting the rest of the value.
                return Err(fmt::Error);
            }
            self.character(character);
        }
        Ok(())
    }
}

/// Whether the text would end a value in a line for people.
fn ends_value(text: &str) -> bool {
    any_byte(text, |byte| (byte == b' ') | (byte == b'='))
}

/// Whether the text must be looked at: it is not printable ASCII, or some of it is escaped.
fn is_odd(text: &str) -> bool {
    any_byte(text, |byte| !(b' '..=b'~').contains(&byte) | (byte == b'"') | (byte == b'\\'))
}

/// Looks at all bytes: without an early end, the compiler takes many at a time.
fn any_byte(text: &str, is: impl Fn(u8) -> bool) -> bool {
    text.bytes().fold(false, |found, byte| found | is(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_written_as_the_number_that_they_are() {
        for nanos in [0, 1, 499, 500, 1_499, 12_345_678, 99_999_999, 3_000_000, 2_500_000_000, 10_200_000, 10_010_000] {
            let (mut line, duration) = (Vec::new(), Duration::from_nanos(nanos));
            append_millis(&mut line, duration);
            let expected = serde_json::to_string(&crate::telemetry::millis(duration)).unwrap();
            assert_eq!(str::from_utf8(&line).unwrap(), expected, "{nanos}");
        }
    }
}
