//! Mutation tests with one build. `cargo mutants` builds the crate again for each mutant, which takes hours. This program
//! writes all mutants into one build, and the environment variable `MUTANT` switches one of them on.
//!
//! `switch COPY LIST`: COPY is the copy of the package that `tests/mutants/run` makes, LIST the output of
//! `cargo mutants --list --json`. Each mutant meets the unit tests of its module, those of its layer, all unit tests,
//! and the integration tests; the first test that fails kills it. Without a mutant these tests must pass.
//!
//! The report is COPY/switched.txt. A mutant that it lists as killed is not run again; one that lived is. From the
//! environment: `JOBS` mutants are run at once, one by default; `TESTS` limits the integration tests to those whose names
//! contain one of these words. Mutants that are `uncoded` or do not compile (`dropped`) are left for `cargo mutants`: see
//! `rewrite` for the reasons.

mod build;
mod list;
mod report;
mod rewrite;
mod stages;
mod trial;

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use list::Mutant;
use report::{LIVES, Report};
use stages::Stages;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [copy, list] = arguments.as_slice() else {
        return Err("usage: switch COPY LIST".into());
    };
    let mutants: Vec<Mutant> = serde_json::from_str(&fs::read_to_string(list)?)?;
    let report = Report::open(&copy.join("switched.txt"))?;
    let built = build::build(copy, &mutants, &report)?;
    println!("{} mutants, {} of them can be switched on", mutants.len(), built.coded.len());
    for (number, mutant) in (1..).zip(&mutants) {
        if !built.coded.contains(&number) && report.verdict(mutant).is_none() {
            report.write("uncoded", "", mutant)?;
        }
    }
    let open: Vec<_> = (1..).zip(&mutants).filter(|(_, mutant)| report.is_open(mutant)).collect();
    let unit_tests = Stages::of_unit_tests(copy, &built.unit_tests, &open);
    let mut living = unit_tests.run(open, &report)?;
    println!("{} mutants live after the unit tests", living.len());
    if !living.is_empty() {
        let programs = build::integration_tests(copy)?;
        let words = std::env::var("TESTS").unwrap_or_default();
        living = Stages::of_integration_tests(copy, &programs, &words).run(living, &report)?;
    }
    living.iter().try_for_each(|(_, mutant)| report.write(LIVES, "", mutant))?;
    report.summary(&mutants).iter().for_each(|line| println!("{line}"));
    Ok(())
}
