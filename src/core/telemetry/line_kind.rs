//! The kinds of log lines, and the published schema of their JSON form.

use crate::label_enum;

label_enum! {
    /// `kind`: the subject of a line.
    pub enum LineKind {
        /// A callout was decided.
        Decision = "decision",
        /// A request ended.
        Access = "access",
        /// Everything else.
        Operation = "operation",
    }
}

impl LineKind {
    /// Fields that a line for people leaves out, so that it fits on a terminal. The JSON line has them.
    pub(super) fn only_in_json(self) -> &'static [&'static str] {
        match self {
            Self::Decision => &[
                "method",
                "mode",
                "called_hash",
                "preview_age_ms",
                "judged_by",
                "call_id",
                "upstream",
                "status",
                "upstream_ms",
                "id",
                "trace_id",
                "client_subject",
                "client_sha256",
                "seq",
                "instance",
            ],
            Self::Access => &["bytes_in", "bytes_out", "id", "trace_id", "client_subject", "client_sha256", "blame"],
            Self::Operation => &[],
        }
    }
}

/// `schema`: the version of the form of JSON lines. A member that is added does not change it; one that is removed or
/// gets another meaning does.
pub const LOG_SCHEMA_VERSION: u32 = 1;

/// The JSON Schema of a line.
pub const LOG_SCHEMA: &str = include_str!("log.schema.json");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Mode;
    use crate::failure::Blame;
    use crate::preview::{Reason, Verdict};
    use crate::protocol::OperationName;
    use serde_json::Value;

    #[test]
    fn the_schema_has_the_words_of_the_code() {
        macro_rules! words {
            ($Words:ty) => {
                <$Words>::ALL.iter().map(|word| Value::from(word.as_str())).collect::<Vec<_>>()
            };
        }
        let schema: Value = serde_json::from_str(LOG_SCHEMA).unwrap();
        for (kind, member, words) in [
            ("decision", "decision", words!(Verdict)),
            ("decision", "reason", words!(Reason)),
            ("decision", "mode", words!(Mode)),
            ("access", "operation", words!(OperationName)),
            ("access", "blame", words!(Blame)),
        ] {
            assert_eq!(schema["$defs"][kind]["properties"][member]["enum"], Value::from(words), "{kind}.{member}");
        }
        for kind in LineKind::ALL {
            assert_eq!(schema["$defs"][kind.as_str()]["properties"]["kind"]["const"], kind.as_str());
            assert_eq!(schema["$defs"][kind.as_str()]["properties"]["schema"]["const"], LOG_SCHEMA_VERSION);
        }
        assert_eq!(schema["oneOf"].as_array().unwrap().len(), LineKind::ALL.len());
    }
}
