//! References from a preview to the audit records that show its announcements.
//!
//! Opaque to the rule. They stay with the preview in memory, in a snapshot and in a shared store, so that a decision of
//! one gateway can name the record of another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Timestamp;
use crate::bounded_text::BoundedText;

/// The name of one audit record: unique among all instances and all starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// Random bits, chosen at each start of a gateway.
    pub run: u64,
    /// The position within that run.
    pub number: u64,
}

impl RecordId {
    /// As text, without the machinery of `format!`: each record names others.
    pub(crate) fn text(self) -> BoundedText<33> {
        let mut text = BoundedText::default();
        text.push_hex(self.run, 16);
        text.push(b'-');
        text.push_hex(self.number, self.number.checked_ilog2().unwrap_or_default() / 4 + 1);
        text
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

/// Text that names no record or key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a reference to an audit record")]
pub struct InvalidReference;

impl FromStr for RecordId {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let (run, number) = text.split_once('-').ok_or(InvalidReference)?;
        let hex = |text: &str| u64::from_str_radix(text, 16).map_err(|_| InvalidReference);
        let id = Self { run: hex(run)?, number: hex(number)? };
        // One spelling only: the text is compared as text elsewhere.
        if id.to_string() == text { Ok(id) } else { Err(InvalidReference) }
    }
}

/// The name of a number key: its month and a fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NumberKeyId {
    /// Year
    pub year: u16,
    /// Month, 1 to 12.
    pub month: u8,
    /// Tells two keys of one month apart.
    pub fingerprint: u32,
}

impl NumberKeyId {
    /// As text, without the machinery of `format!`: nearly each record names one.
    pub(crate) fn text(self) -> BoundedText<17> {
        let Self { year, month, fingerprint } = self;
        let digit = |number: u16| b'0' + (number % 10) as u8;
        let mut text = BoundedText::default();
        // A year beyond 9999 has no key.
        [year / 1000, year / 100, year / 10, year].iter().for_each(|number| text.push(digit(*number)));
        text.push(b'-');
        [month / 10, month].iter().for_each(|number| text.push(digit(u16::from(*number))));
        text.push(b':');
        text.push_hex(u64::from(fingerprint), 8);
        text
    }
}

impl fmt::Display for NumberKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

impl FromStr for NumberKeyId {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let parsed = || {
            let (month, fingerprint) = text.split_once(':')?;
            let (year, month) = month.split_once('-')?;
            let fingerprint = u32::from_str_radix(fingerprint, 16).ok()?;
            Some(Self { year: year.parse().ok()?, month: month.parse().ok()?, fingerprint })
        };
        parsed().filter(|id| id.to_string() == text && (1..=12).contains(&id.month)).ok_or(InvalidReference)
    }
}

/// In JSON they are text.
macro_rules! serde_as_text {
    ($($Type:ty),+) => {$(
        impl Serialize for $Type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.text().as_str())
            }
        }

        impl<'de> Deserialize<'de> for $Type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <&str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )+};
}

serde_as_text!(RecordId, NumberKeyId);

/// Where the audit log shows an announcement, and under which key it names the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShownRef {
    /// The record.
    pub record: RecordId,
    /// The key of the numbers in it.
    pub key: NumberKeyId,
    /// When the preview got it: the time of the numbers that it announces. `None` before that, and if an earlier version
    /// kept the preview.
    pub at: Option<Timestamp>,
}

impl fmt::Display for ShownRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.record, self.key)?;
        self.at.map_or(Ok(()), |Timestamp(at)| write!(f, "@{at}"))
    }
}

impl FromStr for ShownRef {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let (record, key) = text.split_once('@').ok_or(InvalidReference)?;
        let (key, at) = key.split_once('@').map_or((key, None), |(key, at)| (key, Some(at)));
        let at = at.map(|at| at.parse().map(Timestamp).map_err(|_| InvalidReference)).transpose()?;
        Ok(Self { record: record.parse()?, key: key.parse()?, at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_reference_reads_as_it_was_written(run: u64, number: u64, year in 1970u16..=9999, month in 1u8..=12, fingerprint: u32, at: Option<u64>) {
            let (record, key) = (RecordId { run, number }, NumberKeyId { year, month, fingerprint });
            let reference = ShownRef { record, key, at: at.map(Timestamp) };
            prop_assert_eq!(reference.to_string().parse::<ShownRef>(), Ok(reference));
        }
    }

    #[test]
    fn other_text_is_no_reference() {
        for bad in [
            "",
            "1-1",
            "0000000000000001-01",
            "0000000000000001-1@2026-13:00000000",
            "0000000000000001-1@2026-12:00000000@",
            "0000000000000001-1@2026-12:00000000@x",
            "x@y",
        ] {
            assert!(bad.parse::<RecordId>().is_err() && bad.parse::<ShownRef>().is_err(), "{bad}");
        }
    }
}
