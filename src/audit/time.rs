//! Points in time as text: RFC 3339 in UTC with milliseconds.

use std::fmt;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Deserializer, Serializer, de};

use crate::preview::Timestamp;

/// The end of the year 9999, the last that RFC 3339 can write.
const MAX: u64 = 253_402_300_799_999;

/// `2026-11-25T04:00:00.000Z`
#[derive(Clone, Copy, Debug)]
pub struct Rfc3339(pub Timestamp);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&digits(self.0)).unwrap_or_default())
    }
}

/// The text of [`Rfc3339`]. Each record has one, so it is made without the machinery of `format!`.
pub(super) fn digits(at: Timestamp) -> [u8; 24] {
    let at = at.0.min(MAX);
    let Date { year, month, day } = date(Timestamp(at));
    let (seconds, milliseconds) = (at / 1000 % (24 * 60 * 60), at % 1000);
    let [year, month, day] = [u64::from(year), u64::from(month), u64::from(day)];
    let digit = |number: u64| b'0' + (number % 10) as u8;
    let [y, mo, d] = [digit(year), digit(month), digit(day)];
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    [
        digit(year / 1000),
        digit(year / 100),
        digit(year / 10),
        y,
        b'-',
        digit(month / 10),
        mo,
        b'-',
        digit(day / 10),
        d,
        b'T',
        digit(hour / 10),
        digit(hour),
        b':',
        digit(minute / 10),
        digit(minute),
        b':',
        digit(second / 10),
        digit(second),
        b'.',
        digit(milliseconds / 100),
        digit(milliseconds / 10),
        digit(milliseconds),
        b'Z',
    ]
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
    let Date { year, month, .. } = date(at);
    (year, month)
}

struct Date {
    year: u16,
    /// From 1.
    month: u8,
    /// From 1.
    day: u8,
}

/// The date in UTC. Each record asks for it, so it is computed without text: the civil calendar is the same in each 400 years,
/// which are counted from 1 March 0000.
fn date(at: Timestamp) -> Date {
    const DAYS_TO_1970: u64 = 719_468;
    const DAYS_OF_400_YEARS: u64 = 146_097;
    let days = at.0.min(MAX) / (24 * 60 * 60 * 1000) + DAYS_TO_1970;
    let (cycle, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    // From March, which is 0.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    Date {
        year: u16::try_from(cycle * 400 + year).unwrap_or(u16::MAX),
        month: u8::try_from(month).unwrap_or(1),
        day: u8::try_from(day).unwrap_or(1),
    }
}

/// For `#[serde(with)]`.
pub(super) fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(std::str::from_utf8(&digits(*at)).unwrap_or_default())
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
