//! `previewgate schema`: the published JSON Schemas. What they describe keeps its form; a test validates real output.

use std::borrow::Cow;

use crate::config::config_schema;
use crate::telemetry::LOG_SCHEMA;

/// What has a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Subject {
    /// A line of the audit log.
    Audit,
    /// The configuration, for editors.
    Config,
    /// A line of the log, with log.format = "json".
    Log,
}

impl Subject {
    /// The schema, as JSON.
    pub fn schema(self) -> Cow<'static, str> {
        match self {
            Self::Audit => include_str!("io/audit/schema.json").into(),
            Self::Config => format!("{:#}\n", config_schema()).into(),
            Self::Log => LOG_SCHEMA.into(),
        }
    }
}
