//! The kinds of values: how each is read, which problem a wrong value causes, how a value is written.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::document::ValueRef;
use super::entry::Kind;
use super::reference::ValueKind;
use super::toml_text::{bytes_of, duration_text, quoted, size_text};

/// `true` or `false`.
pub(super) struct Flag;

impl Kind for Flag {
    type Value = bool;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<bool> {
        match value.toml() {
            DeValue::Boolean(truth) => Some(*truth),
            _ => value.wrong_type("true or false, without quotes"),
        }
    }

    fn write(&self, value: &bool) -> String {
        value.to_string()
    }

    fn describe(&self) -> ValueKind {
        ValueKind::Boolean
    }
}

/// A whole number within a range.
pub(super) struct Number<N>(RangeInclusive<N>);

/// See [`Number`].
pub(super) fn number<N>(range: RangeInclusive<N>) -> Number<N> {
    Number(range)
}

impl<N: Copy + TryFrom<u64> + TryInto<u64> + PartialOrd + ToString> Kind for Number<N> {
    type Value = N;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<N> {
        let (least, most) = (self.0.start().to_string(), self.0.end().to_string());
        let wanted = format!("a whole number from {least} to {most}, without quotes");
        let DeValue::Integer(integer) = value.toml() else { return value.wrong_type(&wanted) };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok().and_then(|n| N::try_from(n).ok());
        match number.filter(|number| self.0.contains(number)) {
            Some(number) => Some(number),
            None => value.wrong(&format!("is not within {least} to {most}"), &format!("write {wanted}")),
        }
    }

    fn write(&self, value: &N) -> String {
        value.to_string()
    }

    fn describe(&self) -> ValueKind {
        let integer = |number: N| number.try_into().unwrap_or(u64::MAX);
        ValueKind::Integer { min: integer(*self.0.start()), max: integer(*self.0.end()) }
    }
}

/// One of several words.
pub(super) struct Word<T: 'static>(&'static [T], fn(T) -> &'static str);

/// See [`Word`].
pub(super) fn word<T>(all: &'static [T], spelling: fn(T) -> &'static str) -> Word<T> {
    Word(all, spelling)
}

impl<T: Copy> Kind for Word<T> {
    type Value = T;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<T> {
        let words: Vec<_> = self.0.iter().map(|word| quoted((self.1)(*word))).collect();
        let wanted = words.join(" or ");
        let text = value.text(&wanted)?;
        match self.0.iter().find(|word| (self.1)(**word) == text) {
            Some(word) => Some(*word),
            None => value.wrong("is not an allowed value", &format!("write {wanted}")),
        }
    }

    fn write(&self, value: &T) -> String {
        quoted((self.1)(*value))
    }

    fn describe(&self) -> ValueKind {
        ValueKind::Word(self.0.iter().map(|word| (self.1)(*word)).collect())
    }
}

/// An IP address with a port.
pub(super) struct Address;

impl Kind for Address {
    type Value = SocketAddr;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<SocketAddr> {
        const CURE: &str = "write an IP address and a port, such as \"0.0.0.0:8043\" or \"[::]:8043\"";
        let text = value.text("an IP address and a port, such as \"0.0.0.0:8043\"")?;
        match text.parse() {
            Ok(address) => Some(address),
            Err(_) if text.parse::<std::net::IpAddr>().is_ok() => value.wrong("has no port", CURE),
            Err(_) => value.wrong("is not an IP address with a port; names are not resolved here", CURE),
        }
    }

    fn write(&self, value: &SocketAddr) -> String {
        quoted(&value.to_string())
    }

    fn describe(&self) -> ValueKind {
        ValueKind::Text("IP address and port")
    }
}

/// A duration within a range.
pub(super) struct Span {
    range: RangeInclusive<Duration>,
    why: Option<&'static str>,
}

/// See [`Span`].
pub(super) fn span(range: RangeInclusive<Duration>) -> Span {
    Span { range, why: None }
}

impl Span {
    /// Explains the lower bound in problems.
    pub(super) fn because(self, why: &'static str) -> Self {
        Self { why: Some(why), ..self }
    }

    fn bounded(&self, value: &mut ValueRef<'_, '_>, time: Duration) -> Option<Duration> {
        if self.range.contains(&time) {
            return Some(time);
        }
        let why = self.why.filter(|_| time < *self.range.start()).map(|why| format!(": {why}")).unwrap_or_default();
        let (too, end) = if time < *self.range.start() { ("short", "at least") } else { ("long", "at most") };
        let bound = if time < *self.range.start() { self.range.start() } else { self.range.end() };
        value.wrong(&format!("is too {too}{why}"), &format!("write {end} {}", self.write(bound)))
    }
}

impl Kind for Span {
    type Value = Duration;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<Duration> {
        const WANTED: &str = "a duration with its unit in quotes, such as \"10s\", \"250ms\" or \"2m30s\"";
        if let DeValue::Integer(number) = value.toml() {
            let cure = format!("write \"{}s\" if seconds are meant", number.as_str());
            return value.wrong("is a duration without a unit", &cure);
        }
        match humantime::parse_duration(value.text(WANTED)?) {
            Ok(time) => self.bounded(value, time),
            Err(_) => value.wrong("is not a duration", &format!("write {WANTED}")),
        }
    }

    fn write(&self, value: &Duration) -> String {
        quoted(&duration_text(*value))
    }

    fn describe(&self) -> ValueKind {
        ValueKind::Duration { min: *self.range.start(), max: *self.range.end() }
    }
}

/// A number of bytes within a range.
pub(super) struct Size(RangeInclusive<usize>);

/// See [`Size`].
pub(super) fn size(range: RangeInclusive<usize>) -> Size {
    Size(range)
}

impl Kind for Size {
    type Value = usize;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<usize> {
        const WANTED: &str = "a size such as \"32KiB\" or \"1MiB\", or a plain number of bytes";
        let bytes = match value.toml() {
            DeValue::Integer(integer) => usize::from_str_radix(integer.as_str(), integer.radix()).ok(),
            _ => bytes_of(value.text(WANTED)?),
        };
        let range = format!("from {} to {}", size_text(*self.0.start()), size_text(*self.0.end()));
        match bytes {
            Some(bytes) if self.0.contains(&bytes) => Some(bytes),
            Some(_) => value.wrong("is out of range", &format!("write a size {range}")),
            None => value.wrong("is not a size", &format!("write {WANTED}, {range}")),
        }
    }

    fn write(&self, value: &usize) -> String {
        quoted(&size_text(*value))
    }

    fn describe(&self) -> ValueKind {
        ValueKind::Size { min: *self.0.start(), max: *self.0.end() }
    }
}

/// A list of at least one value, without repetitions.
pub(super) struct List<K>(K, &'static str);

/// See [`List`]; `wanted` describes the list in problems.
pub(super) fn list<K>(kind: K, wanted: &'static str) -> List<K> {
    List(kind, wanted)
}

impl<K: Kind<Value: PartialEq>> Kind for List<K> {
    type Value = Vec<K::Value>;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<Vec<K::Value>> {
        let length = value.list(self.1)?;
        if length == 0 {
            return value.wrong("is empty", &format!("write {}", self.1));
        }
        let mut values = Vec::new();
        for index in 0..length {
            let Some(mut element) = value.element(index) else { continue };
            match self.0.read(&mut element) {
                Some(value) if values.contains(&value) => element.report("is in the list twice", "remove it here"),
                Some(value) => values.push(value),
                None => {}
            }
        }
        // Returns the valid elements, so that conflicts with other keys are found. The problems of the others are recorded.
        Some(values)
    }

    fn write(&self, values: &Vec<K::Value>) -> String {
        let values: Vec<_> = values.iter().map(|value| self.0.write(value)).collect();
        format!("[{}]", values.join(", "))
    }

    fn describe(&self) -> ValueKind {
        ValueKind::List(Box::new(self.0.describe()))
    }
}
