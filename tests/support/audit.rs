//! The records of an audit directory.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use previewgate::audit::Digest;
use previewgate::audit::note::Signer;
use previewgate::audit::segment::{SegmentName, chains};
use previewgate::audit::verify::{Request, Verification, verify};
use serde_json::Value;

use super::{Site, eventually};

impl Site {
    /// Verifies these directories of the site together, as an auditor would.
    pub(crate) fn verify(&self, directories: &[&str]) -> Verification {
        let directories: Vec<PathBuf> = directories.iter().map(|name| self.path(name)).collect();
        let keys = [Signer::read(&self.path("audit.key")).unwrap().verifier().clone()];
        verify(&Request { directories: &directories, keys: &keys, anchor: None }).unwrap()
    }
}

/// The records of one directory, in order. One instance after the other.
#[derive(Clone, Debug)]
pub(crate) struct AuditRecords(pub(crate) Vec<Value>);

impl AuditRecords {
    /// Reads what is there, and checks the chain of each instance: no gap, each line refers to the one before. Lines that
    /// were left behind in a segment that failed do not count.
    pub(crate) fn read(directory: &Path) -> Self {
        // Not in the order of the files' names: segment 1000 of a day comes after segment 999.
        let segments = chains([directory]).unwrap().into_values().flat_map(|chain| chain.segments);
        let mut records: Vec<Value> = Vec::new();
        let mut end = (String::new(), 0, String::new());
        for (SegmentName { instance, .. }, file) in segments {
            let text = std::fs::read_to_string(&file).unwrap();
            for (position, line) in text.split_inclusive('\n').enumerate() {
                let Some(line) = line.strip_suffix('\n') else { break };
                let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
                let seq = record["seq"].as_u64().unwrap();
                if position == 0 {
                    if end.0 != instance {
                        end = (instance.clone(), 0, Digest::ZERO.to_string());
                    }
                    // Lines of the segment before that do not count.
                    if let Some(before) = record["before"].as_object() {
                        while records.last().is_some_and(|last| last["seq"].as_u64() > before["seq"].as_u64()) {
                            records.pop();
                        }
                        end = (end.0, before["seq"].as_u64().unwrap(), before["head"].as_str().unwrap().to_owned());
                    }
                }
                assert_eq!(
                    (seq, record["prev"].as_str().unwrap()),
                    (end.1 + 1, end.2.as_str()),
                    "{}: {line}",
                    file.display()
                );
                end = (end.0, seq, Digest::of(line.as_bytes()).to_string());
                records.push(record);
            }
        }
        Self(records)
    }

    /// Checks every line of a directory against the published schema.
    pub(crate) fn assert_follows_schema(directory: &Path) {
        static VALIDATOR: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
            let schema: Value = serde_json::from_str(&previewgate::schema::Subject::Audit.schema()).unwrap();
            jsonschema::validator_for(&schema).unwrap()
        });
        for record in Self::read(directory).0 {
            let errors: Vec<String> = VALIDATOR.iter_errors(&record).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{record}: {errors:?}");
        }
    }

    /// Waits until the directory has a record like this, and returns all.
    #[track_caller]
    pub(crate) fn when(directory: &Path, matches: impl Fn(&Value) -> bool) -> impl Future<Output = Self> {
        let directory = directory.to_owned();
        async move {
            eventually("a record", || Self::read(&directory).0.iter().any(&matches)).await;
            Self::read(&directory)
        }
    }

    /// The records of a kind.
    pub(crate) fn of(&self, kind: &str) -> Vec<&Value> {
        self.0.iter().filter(|record| record["kind"] == kind).collect()
    }

    /// The only record of a kind.
    #[track_caller]
    pub(crate) fn only(&self, kind: &str) -> &Value {
        match self.of(kind)[..] {
            [one] => one,
            ref other => panic!("{} records of kind {kind}: {other:#?}", other.len()),
        }
    }

    /// The kinds, in order.
    pub(crate) fn kinds(&self) -> Vec<&str> {
        self.0.iter().map(|record| record["kind"].as_str().unwrap()).collect()
    }
}
