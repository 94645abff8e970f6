//! The list of `cargo mutants --list --json`.

use proc_macro2::LineColumn;
use serde::Deserialize;

/// The directories of the crates. The second is the lowest, which the others use.
pub const CRATES: [&str; 3] = ["src", "src/core", "src/io"];

/// How many filters name the tests near a mutant.
pub const NEAR: usize = 2;

#[derive(Deserialize)]
pub struct Mutant {
    pub file: String,
    pub genre: Genre,
    pub name: String,
    pub replacement: String,
    span: Extent,
}

#[derive(Clone, Copy, Deserialize, Eq, Hash, PartialEq)]
pub enum Genre {
    BinaryOperator,
    FnValue,
    MatchArm,
    MatchArmGuard,
    StructField,
    UnaryOperator,
}

#[derive(Deserialize)]
struct Extent {
    start: Place,
}

#[derive(Deserialize)]
struct Place {
    line: usize,
    column: usize,
}

impl Mutant {
    /// Where it begins, as syn counts: lines from 1, columns from 0.
    pub fn start(&self) -> LineColumn {
        LineColumn { line: self.span.start.line, column: self.span.start.column - 1 }
    }

    /// The crate that it is in, by its directory.
    pub fn crate_directory(&self) -> &'static str {
        let inner = CRATES.iter().filter(|directory| self.file.starts_with(&format!("{directory}/")));
        inner.max_by_key(|directory| directory.len()).copied().unwrap_or(CRATES[0])
    }

    /// Filters for the unit tests near it, in its crate: `src/io/store/ledger/calls.rs` is tested by `store::ledger::`, and by
    /// `store::`.
    pub fn near_tests(&self) -> [String; NEAR] {
        let path = self.file.trim_start_matches(self.crate_directory()).trim_start_matches('/');
        let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
        [2, 1].map(|parts| path.split('/').take(parts).map(|part| part.to_owned() + "::").collect())
    }
}
