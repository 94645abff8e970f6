//! Which tests a mutant meets, in which order, and how long they may take.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::build::Program;
use crate::list::{Mutant, NEAR};
use crate::report::Report;
use crate::trial::{Limit, Outcome, Trial};

/// Fewer cases of each property: a mutant that a property kills is killed soon.
const FEW_CASES: &str = "64";
/// The number that proptest takes by itself.
const ALL_CASES: &str = "256";

/// A mutant, and its number in the list.
pub type Numbered<'a> = (usize, &'a Mutant);

/// The unit tests near a mutant, by its crate and their filter, and then all tests of some programs.
pub struct Stages<'a> {
    near: BTreeMap<(&'static str, String), Stage<'a>>,
    all: Vec<Stage<'a>>,
}

struct Stage<'a> {
    trial: Trial<'a>,
    /// Known when the first mutant needs it.
    limit: Mutex<Option<Limit>>,
}

impl<'a> Stages<'a> {
    pub fn of_unit_tests(copy: &'a Path, programs: &'a [Program], mutants: &[Numbered<'_>]) -> Self {
        let filters =
            mutants.iter().flat_map(|(_, mutant)| mutant.near_tests().map(|filter| (mutant.crate_directory(), filter)));
        let near = filters.filter_map(|(directory, filter)| {
            let own = programs.iter().find(|program| program.directory.ends_with(directory))?;
            Some(((directory, filter.clone()), Stage::new(copy, own, vec![filter], FEW_CASES)))
        });
        let all = programs.iter().map(|program| Stage::new(copy, program, Vec::new(), ALL_CASES));
        Self { near: near.collect(), all: all.collect() }
    }

    /// `words` limits the tests.
    pub fn of_integration_tests(copy: &'a Path, programs: &'a [Program], words: &str) -> Self {
        let words: Vec<_> = words.split_whitespace().map(str::to_owned).collect();
        let all = programs.iter().map(|program| Stage::new(copy, program, words.clone(), ALL_CASES)).collect();
        Self { near: BTreeMap::new(), all }
    }

    /// Runs the mutants. Those that live are returned, and the others reported. All mutants meet the near tests before one
    /// meets all tests.
    pub fn run<'m>(&self, mutants: Vec<Numbered<'m>>, report: &Report) -> io::Result<Vec<Numbered<'m>>> {
        let depths = NEAR + self.all.len();
        (0..depths).try_fold(mutants, |living, depth| self.run_stage(depth, living, report))
    }

    /// `JOBS` mutants at a time.
    fn run_stage<'m>(
        &self,
        depth: usize,
        mutants: Vec<Numbered<'m>>,
        report: &Report,
    ) -> io::Result<Vec<Numbered<'m>>> {
        let (queue, living) = (Mutex::new(mutants.into_iter()), Mutex::new(Vec::new()));
        let worker = || {
            while let Some((number, mutant)) = { lock(&queue).next() } {
                let outcome = match self.stage(mutant, depth) {
                    Some(stage) => stage.trial.run(number, stage.limit()?)?,
                    None => Outcome::Lived,
                };
                match outcome {
                    Outcome::Killed(test) => report.write("killed", &test, mutant)?,
                    Outcome::TimedOut(tests) => report.write("timeout", &tests, mutant)?,
                    Outcome::Lived => lock(&living).push((number, mutant)),
                }
            }
            Ok::<_, io::Error>(())
        };
        let jobs = std::env::var("JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1);
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(worker)).collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
        Ok(living.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn stage(&self, mutant: &Mutant, depth: usize) -> Option<&Stage<'a>> {
        match mutant.near_tests().get(depth) {
            Some(filter) => self.near.get(&(mutant.crate_directory(), filter.clone())),
            None => self.all.get(depth - NEAR),
        }
    }
}

impl<'a> Stage<'a> {
    fn new(copy: &'a Path, program: &'a Program, filters: Vec<String>, cases: &'static str) -> Self {
        Self { trial: Trial { program, copy, filters, cases }, limit: Mutex::new(None) }
    }

    /// Runs the tests once without a mutant, to see that they pass and how long they take.
    fn limit(&self) -> io::Result<Limit> {
        let mut known = lock(&self.limit);
        match *known {
            Some(limit) => Ok(limit),
            None => Ok(*known.insert(self.trial.limit()?)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
