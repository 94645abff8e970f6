//! All chains of some directories as one stream of lines, in the order of their times.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::PathBuf;

use super::anchors::{self, ChainAnchors};
use super::chain::{ChainReader, Line};
use super::facts::{Place, ShownFact};
use super::files;
use super::finding::Findings;
use super::scan::Scan;
use super::summary::ChainSummary;
use crate::audit::note::Verifier;
use crate::audit::record::Record;
use crate::preview::RecordId;

/// Reads all chains.
pub struct Log<'k> {
    chains: Vec<ChainReader<'k>>,
    next: Vec<Option<Line>>,
}

impl<'k> Log<'k> {
    /// Opens the directories. `anchor` is the name and the content of a file with anchors.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn open(
        directories: &[PathBuf],
        keys: &'k [Verifier],
        anchor: Option<(&str, &str)>,
        findings: &mut Findings,
    ) -> io::Result<Self> {
        let mut anchors: BTreeMap<String, ChainAnchors> =
            anchor.map_or_else(BTreeMap::new, |(source, text)| anchors::read(source, text, keys, findings));
        let mut log = Self { chains: Vec::new(), next: Vec::new() };
        for (instance, files) in files::list(directories, findings)? {
            let anchors = anchors.remove(&instance).unwrap_or_default();
            let mut chain = ChainReader::new(instance, files, keys, anchors, findings)?;
            log.next.push(chain.next(findings)?);
            log.chains.push(chain);
        }
        for anchors in anchors.into_values() {
            anchors.missing(findings);
        }
        Ok(log)
    }

    /// The earliest line that was not read yet, and the position of its chain among the chains.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn next(&mut self, findings: &mut Findings) -> io::Result<Option<(usize, Line)>> {
        let waiting = self.next.iter().enumerate();
        let earliest = waiting.filter_map(|(chain, line)| Some((line.as_ref()?.at, chain))).min();
        let Some((_, chain)) = earliest else { return Ok(None) };
        let (Some(reader), Some(slot)) = (self.chains.get_mut(chain), self.next.get_mut(chain)) else {
            return Ok(None);
        };
        let following = reader.next(findings)?;
        Ok(std::mem::replace(slot, following).map(|line| (chain, line)))
    }

    /// A summary of each chain, as far as it has been read.
    pub fn summaries(&self) -> impl Iterator<Item = &ChainSummary> {
        self.chains.iter().map(|chain| &chain.summary)
    }
}

/// Looks for announcements once more, without checking the chains again.
pub(super) fn find_shown(
    directories: &[PathBuf],
    wanted: &HashSet<RecordId>,
) -> io::Result<HashMap<RecordId, ShownFact>> {
    let mut found = HashMap::new();
    if wanted.is_empty() {
        return Ok(found);
    }
    let needles = ["\"kind\":\"shown\"".to_owned()];
    Scan { directories, days: None, needles: &needles }.each(|chain, line| {
        if let Some(Record::Shown(shown)) = line.record()
            && wanted.contains(&shown.id)
        {
            found.insert(shown.id, ShownFact::new(Place::new(chain, &line), &shown));
        }
        Ok::<_, io::Error>(())
    })?;
    Ok(found)
}
