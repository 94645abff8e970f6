//! Values as TOML text, in the form in which operators write them.

use std::time::Duration;

/// 1024 bytes.
pub(super) const KIB: usize = 1024;
/// 1024 KiB.
pub(super) const MIB: usize = 1024 * KIB;

/// The units of a size, the largest first: a size is written in the first unit that divides it.
const UNITS: [(&str, usize); 3] = [("MiB", MIB), ("KiB", KIB), ("B", 1)];

/// Text as a TOML string.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A duration such as `2m30s`, without quotes.
pub(super) fn duration_text(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}

/// A size such as `32KiB`, without quotes.
pub(super) fn size_text(bytes: usize) -> String {
    let exact = UNITS.iter().find(|(_, factor)| bytes.is_multiple_of(*factor));
    exact.map_or_else(|| bytes.to_string(), |(unit, factor)| format!("{}{unit}", bytes / factor))
}

/// The number of bytes that a size such as `32KiB` stands for.
pub(super) fn bytes_of(text: &str) -> Option<usize> {
    let (unit, factor) = UNITS.iter().find(|(unit, _)| text.ends_with(unit))?;
    text.strip_suffix(unit)?.trim_end().parse::<usize>().ok()?.checked_mul(*factor)
}
