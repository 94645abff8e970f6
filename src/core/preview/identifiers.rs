//! The vendor's identifiers as types: parsed once at the edge, never raw text afterwards.

use std::fmt;
use std::str::FromStr;

/// An agent ID: the plain decimal number 101 to 999999 (docs/protocol.md 1).
///
/// Only the canonical spelling parses. `0101`, `+101` and `101 ` might mean agent 101 to the upstream or might not;
/// what has two readings has none here.
///
/// ```
/// # use previewgate_core as previewgate;
/// use previewgate::preview::AgentId;
/// assert_eq!("101".parse::<AgentId>().unwrap().to_string(), "101");
/// assert!("0101".parse::<AgentId>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId(u32);

impl AgentId {
    /// The smallest agent ID.
    pub const MIN: u32 = 101;
    /// The largest agent ID (59999 in older releases).
    pub const MAX: u32 = 999_999;

    /// The number itself.
    pub fn as_u32(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for AgentId {
    type Error = InvalidAgentId;

    fn try_from(number: u32) -> Result<Self, InvalidAgentId> {
        if (Self::MIN..=Self::MAX).contains(&number) { Ok(Self(number)) } else { Err(InvalidAgentId) }
    }
}

impl FromStr for AgentId {
    type Err = InvalidAgentId;

    fn from_str(text: &str) -> Result<Self, InvalidAgentId> {
        let canonical = !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
        if !canonical {
            return Err(InvalidAgentId);
        }
        text.parse::<u32>().map_err(|_| InvalidAgentId).and_then(Self::try_from)
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AgentId({})", self.0)
    }
}

/// Not a plain decimal number from 101 to 999999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an agent ID is a plain decimal number from {} to {}", AgentId::MIN, AgentId::MAX)]
pub struct InvalidAgentId;

/// The control block ID of a preview: a 64-bit integer, 0 included (docs/protocol.md 4 and 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ControlId(pub i64);

impl FromStr for ControlId {
    type Err = InvalidControlId;

    /// Accepts the canonical decimal spelling only: no sign but `-`, no leading zero, no `-0`, no blanks.
    fn from_str(text: &str) -> Result<Self, InvalidControlId> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let canonical = match digits.as_bytes() {
            [b'0'] => text == "0",
            [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
            _ => false,
        };
        if !canonical {
            return Err(InvalidControlId);
        }
        text.parse().map(Self).map_err(|_| InvalidControlId)
    }
}

impl fmt::Display for ControlId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Not the canonical decimal spelling of a 64-bit integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a control ID is a 64-bit decimal integer")]
pub struct InvalidControlId;

/// A telephone number as the platform showed it or the client wants it called: compared whole, byte for byte.
///
/// A person's data: `Debug` shows only the last two characters and there is no `Display`, so that no format string
/// can leak one. Who needs the digits says so with [`DialedNumber::reveal`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialedNumber(Box<str>);

impl DialedNumber {
    /// Takes the number as it is; the parsers in `protocol` decide what may become one.
    pub fn new(number: impl Into<Box<str>>) -> Self {
        Self(number.into())
    }

    /// The number itself. Never for a log.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// `******39`: as many stars as characters, then the last two; all stars up to four characters.
    pub fn masked(&self) -> Masked {
        let mut last = self.0.chars().rev();
        let last = [last.next(), last.next()].map(Option::unwrap_or_default);
        // Nearly every number is ASCII: its characters need not be counted.
        let length = if self.0.is_ascii() { self.0.len() } else { self.0.chars().count() };
        Masked { length, last }
    }
}

impl fmt::Debug for DialedNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DialedNumber({})", self.masked())
    }
}

/// All that is left of a masked number: its length and its last two characters. It can be kept for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Masked {
    /// In characters.
    length: usize,
    /// The last one first.
    last: [char; 2],
}

impl fmt::Display for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const STARS: &str = "********************************";
        let shown = if self.length > 4 { self.last.len() } else { 0 };
        let mut stars = self.length - shown;
        while stars > 0 {
            let piece = STARS.get(..stars).unwrap_or(STARS);
            f.write_str(piece)?;
            stars -= piece.len();
        }
        self.last.iter().take(shown).rev().try_for_each(|character| fmt::Write::write_char(f, *character))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_decimals_in_range_are_agent_ids() {
        for good in ["101", "59999", "60000", "999999"] {
            let agent = good.parse::<AgentId>().unwrap();
            assert_eq!((agent.to_string().as_str(), agent.as_u32().to_string().as_str()), (good, good));
            assert_eq!(format!("{agent:?}"), format!("AgentId({good})"));
        }
        for bad in
            ["", "0", "100", "1000000", "0101", "+101", "-101", " 101", "101 ", "1e3", "101.0", "１０１", "99999999999"]
        {
            assert_eq!(bad.parse::<AgentId>(), Err(InvalidAgentId), "{bad:?}");
        }
    }

    #[test]
    fn only_canonical_decimals_are_control_ids() {
        for good in ["0", "1", "11776", "-5", "9223372036854775807", "-9223372036854775808"] {
            assert_eq!(good.parse::<ControlId>().unwrap().to_string(), good);
        }
        for bad in ["", "-", "-0", "00", "011776", "+1", " 1", "1 ", "1.0", "1e3", "0x10", "9223372036854775808", "１"]
        {
            assert_eq!(bad.parse::<ControlId>(), Err(InvalidControlId), "{bad:?}");
        }
    }

    #[test]
    fn numbers_are_masked_wherever_they_are_formatted() {
        let masked = |n: &str| DialedNumber::new(n).masked().to_string();
        assert_eq!(masked("88889039"), "******39");
        assert_eq!(masked("112"), "***");
        assert_eq!(masked("1000"), "****");
        assert_eq!(masked(""), "");
        assert_eq!(masked("1234ü"), "***4ü");
        assert_eq!(masked(&"7".repeat(100)), format!("{}77", "*".repeat(98)));
        assert_eq!(format!("{:?}", DialedNumber::new("88889039")), "DialedNumber(******39)");
    }
}
