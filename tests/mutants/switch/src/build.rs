//! The one build: rewrites the copy's sources, and drops the mutants that do not compile.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::list::{CRATES, Mutant};
use crate::report::Report;
use crate::rewrite::{Piece, rewrite};

/// The module that the rewritten code asks. Mutant 0 is none.
const SWITCH: &str = r#"//! Which mutant is on.
static CURRENT: std::sync::LazyLock<usize> =
    std::sync::LazyLock::new(|| std::env::var("MUTANT").ok().and_then(|number| number.parse().ok()).unwrap_or(0));
pub fn on(number: usize) -> bool { *CURRENT == number }
"#;

const DROPPED: &str = "dropped";

/// The integration tests that run the gateway in their own process.
const INTEGRATION_TESTS: [&str; 4] = ["--test", "memory", "--test", "it"];

pub struct Built {
    /// Of each crate.
    pub unit_tests: Vec<Program>,
    /// Those that can be switched on.
    pub coded: BTreeSet<usize>,
}

/// Tests that run in one process.
pub struct Program {
    pub name: String,
    pub path: PathBuf,
    pub is_lib: bool,
    /// The directory of the source that it begins with.
    pub directory: PathBuf,
}

/// One line of `--message-format=json`.
#[derive(Deserialize)]
struct Line {
    executable: Option<PathBuf>,
    target: Option<Target>,
    message: Option<Diagnostic>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
    src_path: PathBuf,
}

#[derive(Deserialize)]
struct Diagnostic {
    level: String,
    message: String,
    rendered: Option<String>,
    spans: Vec<DiagnosticSpan>,
}

#[derive(Deserialize)]
struct DiagnosticSpan {
    file_name: String,
    byte_start: usize,
    byte_end: usize,
    is_primary: bool,
}

/// Builds the unit tests of the package in `copy` with as many mutants as compile. The others are `dropped` in the report, with
/// what the compiler said. The number of the first mutant is 1.
pub fn build(copy: &Path, mutants: &[Mutant], report: &Report) -> Result<Built, Box<dyn Error>> {
    let is_known = |(_, mutant): &(usize, &Mutant)| report.verdict(mutant).as_deref() == Some(DROPPED);
    let mut dropped: BTreeSet<usize> = (1..).zip(mutants).filter(is_known).map(|(number, _)| number).collect();
    add_switch(copy)?;
    let sources = read_sources(copy, mutants)?;
    loop {
        let pieces = rewrite_all(copy, &sources, mutants, &dropped)?;
        let errors = match compile(copy, &["--lib"])? {
            Ok(unit_tests) => {
                let coded = pieces.values().flatten().flat_map(|piece| piece.mutants.iter().copied()).collect();
                return Ok(Built { unit_tests, coded });
            }
            Err(errors) => errors,
        };
        let before = dropped.len();
        for error in &errors {
            for mutant in culprits(error, &pieces) {
                if dropped.insert(mutant) {
                    report.write(DROPPED, &error.message, &mutants[mutant - 1])?;
                }
            }
        }
        println!("{} errors, {} mutants dropped", errors.len(), dropped.len());
        if dropped.len() == before {
            return Err(format!("no mutant is the cause of these errors:\n{}", texts(&errors)).into());
        }
    }
}

/// The lowest crate has the switch, the others hand it on.
fn add_switch(copy: &Path) -> Result<(), Box<dyn Error>> {
    let [_, lowest, _] = CRATES;
    fs::write(copy.join(lowest).join("mutants.rs"), SWITCH)?;
    for directory in CRATES {
        let lib = copy.join(directory).join("lib.rs");
        let switch = if directory == lowest { "pub mod mutants;" } else { "pub use previewgate_core::mutants;" };
        fs::write(&lib, format!("#![allow(warnings)]\n{}{switch}\n", fs::read_to_string(&lib)?))?;
    }
    Ok(())
}

/// Builds the integration tests of a package whose unit tests are built.
pub fn integration_tests(copy: &Path) -> Result<Vec<Program>, Box<dyn Error>> {
    Ok(compile(copy, &INTEGRATION_TESTS)?.map_err(|errors| texts(&errors))?)
}

fn texts(errors: &[Diagnostic]) -> String {
    errors.iter().filter_map(|error| error.rendered.as_deref()).collect()
}

fn read_sources<'a>(copy: &Path, mutants: &'a [Mutant]) -> Result<BTreeMap<&'a str, String>, Box<dyn Error>> {
    let files: BTreeSet<_> = mutants.iter().map(|mutant| mutant.file.as_str()).collect();
    files.into_iter().map(|file| Ok((file, fs::read_to_string(copy.join(file))?))).collect()
}

fn rewrite_all(
    copy: &Path,
    sources: &BTreeMap<&str, String>,
    mutants: &[Mutant],
    dropped: &BTreeSet<usize>,
) -> Result<BTreeMap<String, Vec<Piece>>, Box<dyn Error>> {
    let mut pieces = BTreeMap::new();
    for (file, source) in sources {
        let own: Vec<_> =
            (1..).zip(mutants).filter(|(number, mutant)| mutant.file == *file && !dropped.contains(number)).collect();
        let rewritten = rewrite(source, &own)?;
        fs::write(copy.join(file), rewritten.text)?;
        pieces.insert((*file).to_owned(), rewritten.pieces);
    }
    Ok(pieces)
}

/// The test programs, or the errors.
fn compile(copy: &Path, tests: &[&str]) -> Result<Result<Vec<Program>, Vec<Diagnostic>>, Box<dyn Error>> {
    let arguments = ["test", "--no-run", "--message-format=json", "--quiet"];
    let mut cargo = Command::new("cargo");
    let output = cargo.args(arguments).args(tests).current_dir(copy).stderr(Stdio::inherit()).output()?;
    let mut programs = Vec::new();
    let mut errors = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let line: Line = serde_json::from_str(line)?;
        programs.extend(line.executable.zip(line.target).and_then(|(path, target)| program(path, target)));
        errors.extend(line.message.filter(|message| message.level == "error"));
    }
    Ok(if output.status.success() { Ok(programs) } else { Err(errors) })
}

/// `None` for the program that some integration tests start.
fn program(path: PathBuf, target: Target) -> Option<Program> {
    let is = |kind: &str| target.kind.iter().any(|word| word == kind);
    let directory = target.src_path.parent()?.to_owned();
    (is("lib") || is("test")).then(|| Program { path, is_lib: is("lib"), name: target.name, directory })
}

/// The mutants of the smallest piece around the error. Without one, those of all pieces in it.
fn culprits(error: &Diagnostic, pieces: &BTreeMap<String, Vec<Piece>>) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for span in error.spans.iter().filter(|span| span.is_primary) {
        let pieces = || pieces.get(&span.file_name).into_iter().flatten();
        let around = pieces().filter(|piece| piece.range.start <= span.byte_start && span.byte_end <= piece.range.end);
        match around.min_by_key(|piece| piece.range.len()) {
            Some(piece) => found.extend(&piece.mutants),
            None => {
                let within = |piece: &&Piece| span.byte_start <= piece.range.start && piece.range.end <= span.byte_end;
                found.extend(pieces().filter(within).flat_map(|piece| &piece.mutants));
            }
        }
    }
    found
}
