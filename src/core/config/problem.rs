//! A mistake in a configuration file, described so that an operator can correct it without the documentation.

use std::fmt;

/// One mistake in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, counted from 1. For a missing key: the line of its table, if the table is present.
    pub line: Option<usize>,
    /// The column in characters, counted from 1.
    pub column: Option<usize>,
    /// The key, as in `upstream.endpoints[1]`; empty if the problem concerns the whole file.
    pub key: String,
    /// The value as written; `None` if there is none. Secrets are replaced, long values are cut.
    pub value: Option<String>,
    /// The fault, as the rest of a sentence that begins with the key.
    pub message: String,
    /// The cure: how to correct it.
    pub cure: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, "line {line}, column {column}")?,
            (Some(line), None) => write!(f, "line {line}")?,
            (None, _) => f.write_str("in the file")?,
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        write!(f, "\n    {}\n    cure: {}", self.message, self.cure)
    }
}

/// Every problem of one configuration file, in the order of its lines; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The name of the file as the operator wrote it.
    pub file: String,
    /// At least one.
    pub problems: Vec<Problem>,
}

impl Problems {
    /// Sorts the problems by line. Problems without a line come last.
    pub(super) fn new(file: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| (problem.line.unwrap_or(usize::MAX), problem.column));
        Self { file: file.to_owned(), problems }
    }

    /// A single problem with the whole file.
    pub(super) fn single(message: String, cure: &str) -> Vec<Problem> {
        vec![Problem { line: None, column: None, key: String::new(), value: None, message, cure: cure.to_owned() }]
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        write!(f, "{}: {count} {noun}", self.file)?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n\n  {problem}"))
    }
}

impl std::error::Error for Problems {}
