//! `previewgate schema`: the published JSON Schemas. What they describe keeps its form; a test validates real output.

/// What has a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Subject {
    /// A line of the audit log.
    Audit,
}

impl Subject {
    /// The schema, as JSON.
    pub fn schema(self) -> &'static str {
        match self {
            Self::Audit => include_str!("audit/schema.json"),
        }
    }
}
