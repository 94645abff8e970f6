//! Arguments that several commands have.

use std::path::PathBuf;

use crate::audit::Rfc3339;
use crate::preview::Timestamp;

/// Directories with audit logs.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Directories {
    /// Directories with audit logs: those of all gateways that share previews.
    #[arg(required = true, value_name = "DIR")]
    pub(super) directories: Vec<PathBuf>,
}

/// Checks the spelling of a day.
pub(super) fn day(text: &str) -> Result<String, String> {
    start_of_day(text).map(|_| text.to_owned()).ok_or_else(|| "a day is written 2026-11-25".to_owned())
}

/// The first millisecond of a day, in UTC.
pub(super) fn start_of_day(day: &str) -> Option<Timestamp> {
    let at = humantime::parse_rfc3339(&format!("{day}T00:00:00Z")).ok()?;
    let at = at.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis().try_into().ok()?;
    (Rfc3339(Timestamp(at)).to_string().starts_with(day) && day.len() == 10).then_some(Timestamp(at))
}
