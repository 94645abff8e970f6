//! `previewgate schema`: the published JSON Schemas. What they describe keeps its form; a test validates real output.

use crate::telemetry::LOG_SCHEMA;

/// What has a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Subject {
    /// A line of the audit log.
    Audit,
    /// A line of the log, with log.format = "json".
    Log,
}

impl Subject {
    /// The schema, as JSON.
    pub fn schema(self) -> &'static str {
        match self {
            Self::Audit => include_str!("audit/schema.json"),
            Self::Log => LOG_SCHEMA,
        }
    }
}
