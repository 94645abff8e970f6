//! What a verification finds.

use std::fmt;

use crate::label_enum;

label_enum! {
    /// How much a finding matters.
    pub enum Grade {
        /// The log was changed, or the gateway broke its rule.
        Broken = "broken",
        /// Something is missing for a proof, and a crash or a full disk explains it.
        Incomplete = "incomplete",
        /// A remark; nothing is wrong.
        Note = "note",
    }
}

/// A statement about a place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub grade: Grade,
    /// The name of the file.
    pub file: String,
    /// The sequence number, if there is one.
    pub seq: Option<u64>,
    /// One sentence.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { grade, file, seq, message } = self;
        write!(f, "{grade}: {file}")?;
        if let Some(seq) = seq {
            write!(f, " seq {seq}")?;
        }
        write!(f, ": {message}")
    }
}

/// Maximum number of findings of one grade that are kept. Further ones are only counted.
const MAX_KEPT: u64 = 100_000;

/// All findings.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    kept: Vec<Finding>,
    counts: [u64; Grade::ALL.len()],
}

impl Findings {
    /// Adds a finding.
    pub(super) fn add(&mut self, grade: Grade, file: impl Into<String>, seq: Option<u64>, message: impl Into<String>) {
        let Some(count) = self.counts.get_mut(grade.index()) else { return };
        *count += 1;
        if *count <= MAX_KEPT {
            self.kept.push(Finding { grade, file: file.into(), seq, message: message.into() });
        }
    }

    /// Adds a finding of the grade [`Grade::Broken`].
    pub(super) fn broken(&mut self, file: impl Into<String>, seq: u64, message: impl Into<String>) {
        self.add(Grade::Broken, file, Some(seq), message);
    }

    /// How many of a grade there are, with those that are not kept.
    pub fn count(&self, grade: Grade) -> u64 {
        self.counts.get(grade.index()).copied().unwrap_or_default()
    }

    /// The kept findings of a grade, in the order in which they were found.
    pub fn of(&self, grade: Grade) -> impl Iterator<Item = &Finding> {
        self.kept.iter().filter(move |finding| finding.grade == grade)
    }

    /// All that are kept.
    pub fn all(&self) -> &[Finding] {
        &self.kept
    }
}
