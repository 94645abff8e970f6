//! Points in time as text: RFC 3339 in UTC with milliseconds.

use std::fmt;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Deserializer, Serializer, de};

use crate::preview::Timestamp;
use crate::rfc3339::{Date, date, digits};

/// `2026-11-25T04:00:00.000Z`
#[derive(Clone, Copy, Debug)]
pub struct Rfc3339(pub Timestamp);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&digits(self.0.0)).unwrap_or_default())
    }
}

/// Reads what [`Rfc3339`] writes.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let at = humantime::parse_rfc3339(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    let at = Timestamp(u64::try_from(at.as_millis()).ok()?);
    (Rfc3339(at).to_string() == text).then_some(at)
}

/// `2026-11-25`, in UTC.
pub(super) fn day(at: Timestamp) -> String {
    Rfc3339(at).to_string().chars().take(10).collect()
}

/// The first millisecond of a day that [`day`] wrote.
pub(super) fn start_of_day(day: &str) -> Option<Timestamp> {
    parse(&format!("{day}T00:00:00.000Z"))
}

/// Year and month, in UTC.
pub(super) fn month(at: Timestamp) -> (u16, u8) {
    let Date { year, month, .. } = date(at.0);
    (year, month)
}

/// For `#[serde(with)]`.
pub(super) fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(std::str::from_utf8(&digits(at.0)).unwrap_or_default())
}

/// For `#[serde(with)]`.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = <&str>::deserialize(deserializer)?;
    parse(text).ok_or_else(|| de::Error::custom("not a time as in RFC 3339, in UTC with milliseconds"))
}

/// For `#[serde(with)]`: a time that may be absent.
pub(super) mod optional {
    use super::{Deserializer, Serializer, Timestamp, deserialize as read, serialize as write};

    pub(in crate::audit) fn serialize<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => write(at, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::audit) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        read(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rfc3339::MAX;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // Every twelve hours and some of five years, and the ends of centuries.
        let days = (0..365 * 10).map(|half| 1_700_000_000_000 + half * 43_214_159);
        let odd = ["2000-02-29", "2000-03-01", "2100-02-28", "2100-03-01", "1970-01-01", "9999-12-31", "2026-12-31"];
        for at in days.chain(odd.map(|day| start_of_day(day).unwrap().0)).chain([0, MAX]) {
            let expected = humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(at)).to_string();
            let (year, month_of_year) = month(Timestamp(at));
            assert_eq!(Rfc3339(Timestamp(at)).to_string(), expected);
            assert!(
                expected.starts_with(&format!("{year:04}-{month_of_year:02}-")),
                "{expected}: {year} {month_of_year}"
            );
        }
        assert_eq!(Rfc3339(Timestamp(u64::MAX)).to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn times_read_as_they_were_written() {
        for at in [0, 1, 1_795_579_200_123, MAX] {
            assert_eq!(parse(&Rfc3339(Timestamp(at)).to_string()), Some(Timestamp(at)));
        }
        assert_eq!(parse("2026-11-25T04:00:00Z"), None);
        let at = parse("2026-11-25T04:00:00.000Z").unwrap();
        assert_eq!((day(at).as_str(), month(at)), ("2026-11-25", (2026, 11)));
        assert_eq!(start_of_day("2026-11-25"), parse("2026-11-25T00:00:00.000Z"));
    }
}
