//! Numbers and times as people read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `12,345`
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 preview`, `2 previews`, `no previews`
pub(super) fn plural(number: u64, noun: &str) -> String {
    match number {
        0 => format!("no {noun}s"),
        1 => format!("1 {noun}"),
        _ => format!("{} {noun}s", count(number)),
    }
}

/// A duration in its largest one or two units: `340 ms`, `12 s`, `4 min`, `2 h 5 min`, `3 d 4 h`.
pub(super) fn length(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    };
    match seconds {
        0 if duration.as_millis() == 0 => "less than 1 ms".to_owned(),
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", if seconds < 600 { seconds % 60 } else { 0 }, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        86_400..8_640_000 => {
            two(seconds / 86_400, "d", if seconds < 864_000 { seconds % 86_400 / 3600 } else { 0 }, "h")
        }
        _ => format!("{} d", count(seconds / 86_400)),
    }
}

/// `12 s ago`, `just now`
pub(super) fn ago(at: SystemTime, now: SystemTime) -> String {
    match now.duration_since(at) {
        Ok(age) if age.as_secs() >= 1 => format!("{} ago", length(age)),
        _ => "just now".to_owned(),
    }
}

/// A time in milliseconds since 1970.
pub(super) fn from_epoch(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}

/// `2026-11-29`
pub(super) fn day(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string().chars().take_while(|character| *character != 'T').collect()
}

/// `2026-11-29 23:12:05 UTC`
pub(super) fn clock(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string().replace('T', " ").replace('Z', " UTC")
}

/// `2026-11-29T23:12:05Z`, for the attribute `datetime`.
pub(super) fn machine(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}

/// `a`, `a and b`, `a, b and c`
pub(super) fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_in_words() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 1, 2000].map(|n| plural(n, "poll")), ["no polls", "1 poll", "2,000 polls"]);
        for (millis, text) in [
            (0, "less than 1 ms"),
            (340, "340 ms"),
            (12_900, "12 s"),
            (60_000, "1 min"),
            (95_000, "1 min 35 s"),
            (700_000, "11 min"),
            (7_500_000, "2 h 5 min"),
            (86_400_000 * 3 + 3_600_000 * 4, "3 d 4 h"),
        ] {
            assert_eq!(length(Duration::from_millis(millis)), text);
        }
        let items = ["a", "b", "c"].map(str::to_owned);
        assert_eq!([list(&[]), list(&items[..1]), list(&items)], ["", "a", "a, b and c"]);
        assert_eq!(day(SystemTime::UNIX_EPOCH), "1970-01-01");
        assert_eq!(clock(SystemTime::UNIX_EPOCH), "1970-01-01 00:00:00 UTC");
        assert_eq!(ago(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH), "just now");
    }
}
