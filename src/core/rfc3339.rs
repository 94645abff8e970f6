//! Points in time as text: RFC 3339 in UTC with milliseconds. Each line of the log and each audit record has one, so it is made
//! without the machinery of `format!`.

/// The end of the year 9999, the last that RFC 3339 can write.
pub const MAX: u64 = 253_402_300_799_999;

/// `2026-11-25T04:00:00.000Z`, of milliseconds since 1970. A time after the year 9999 is the end of that year.
pub fn digits(at: u64) -> [u8; 24] {
    let at = at.min(MAX);
    let Date { year, month, day } = date(at);
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

/// A day of the calendar.
pub struct Date {
    /// From 1970.
    pub year: u16,
    /// From 1.
    pub month: u8,
    /// From 1.
    pub(crate) day: u8,
}

/// The date in UTC. Computed without text: the civil calendar is the same in each 400 years,
/// which are counted from 1 March 0000.
pub fn date(at: u64) -> Date {
    const DAYS_TO_1970: u64 = 719_468;
    const DAYS_OF_400_YEARS: u64 = 146_097;
    let days = at.min(MAX) / (24 * 60 * 60 * 1000) + DAYS_TO_1970;
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
