//! The report: one line for each mutant. What it holds already is not done again.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use crate::list::Mutant;

/// What the report says of a mutant that no test killed.
pub const LIVES: &str = "LIVES";

pub struct Report {
    content: Mutex<Content>,
}

struct Content {
    file: File,
    /// By the names of the mutants. The latest counts.
    verdicts: BTreeMap<String, String>,
}

impl Report {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let text = fs::read_to_string(path)?;
        let columns = |line: &str| {
            let mut columns = line.split('\t');
            let verdict = columns.next()?.to_owned();
            Some((columns.next_back()?.to_owned(), verdict))
        };
        let verdicts = text.lines().filter_map(columns).collect();
        Ok(Self { content: Mutex::new(Content { file, verdicts }) })
    }

    pub fn verdict(&self, mutant: &Mutant) -> Option<String> {
        self.content().verdicts.get(&mutant.name).cloned()
    }

    /// Whether the mutant is to be run: it was not, or it lived and there may be a test now.
    pub fn is_open(&self, mutant: &Mutant) -> bool {
        self.verdict(mutant).is_none_or(|verdict| verdict == LIVES)
    }

    /// `reason` is the compiler's, or the test that gave the verdict.
    pub fn write(&self, verdict: &str, reason: &str, mutant: &Mutant) -> io::Result<()> {
        let mut content = self.content();
        content.verdicts.insert(mutant.name.clone(), verdict.to_owned());
        writeln!(content.file, "{verdict}\t{}\t{}", reason.lines().next().unwrap_or_default(), mutant.name)
    }

    /// How many mutants of each file have which verdict, and the names of those that live.
    pub fn summary(&self, mutants: &[Mutant]) -> Vec<String> {
        let content = self.content();
        let verdict = |mutant: &Mutant| content.verdicts.get(&mutant.name).cloned().unwrap_or_default();
        let mut counts: BTreeMap<&str, BTreeMap<String, usize>> = BTreeMap::new();
        for mutant in mutants {
            *counts.entry(&mutant.file).or_default().entry(verdict(mutant)).or_default() += 1;
        }
        let of_file = |(file, counts): (&str, BTreeMap<String, usize>)| {
            let words: Vec<_> = counts.into_iter().map(|(verdict, count)| format!("{count} {verdict}")).collect();
            format!("{file}: {}", words.join(", "))
        };
        let living = mutants.iter().filter(|mutant| verdict(mutant) == LIVES);
        let living = living.map(|mutant| format!("{LIVES} {}", mutant.name));
        counts.into_iter().map(of_file).chain(living).collect()
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
