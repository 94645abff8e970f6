//! Previews beyond the end of the process: a file that is written now and then and read at the next start.
//!
//! Off the data path: the supervisor has it written by a thread that may block. The file holds whole numbers, because
//! they are what a callout is compared with; it is readable by its owner only. It is replaced as a whole (written
//! beside, synced, renamed), so that a crash leaves the old one or the new one. What is found in its place and is no
//! sound snapshot is put aside under the name `….refused`, never overwritten.

mod fault;
mod format;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::MemoryStore;
use crate::preview::{AgentId, AgentPreviews, Clock, Preview, ShownNumber, Timestamp};
pub use fault::SnapshotFault;
use format::{Content, EARLIER_VERSIONS, MAGIC, VERSION};

/// Files that were put aside and are still there; with so many, somebody should look into it first.
const MOST_REFUSED: usize = 10;

/// What became of a file at the start.
#[derive(Debug)]
pub enum Restored {
    /// There is none: a first start.
    Nothing,
    /// Its previews are known again.
    Previews {
        /// Previews that were put back.
        previews: usize,
        /// Previews that expired in the meantime.
        expired: usize,
        /// Agents for whom there is no room any more.
        passed_over: usize,
        /// How long ago it was saved, by the wall clock.
        age: Duration,
    },
    /// Nothing of it was used.
    Refused {
        /// Why.
        fault: SnapshotFault,
        /// Where it was put, or why it could not be.
        put_aside: io::Result<PathBuf>,
    },
}

/// What was saved.
#[derive(Debug)]
pub struct Saved {
    /// The instant to which the previews belong.
    pub at: Timestamp,
    /// Agents whose previews are too many for one line.
    pub left_out: usize,
    /// Where a file was put that stood in the way and was no snapshot.
    pub put_aside: Option<PathBuf>,
}

/// The file of one gateway.
#[derive(Debug)]
pub struct SnapshotFile {
    path: PathBuf,
    ttl: Duration,
    most_agents: usize,
    /// A refused file stands at `path` and could not be put aside yet.
    in_the_way: AtomicBool,
    /// One at a time: the last snapshot must not be overtaken by the one before it.
    writing: Mutex<()>,
}

impl SnapshotFile {
    /// Restores at most `most_agents` agents and no preview older than `ttl`.
    pub fn new(path: PathBuf, ttl: Duration, most_agents: u64) -> Self {
        let most_agents = usize::try_from(most_agents).unwrap_or(usize::MAX);
        Self { path, ttl, most_agents, in_the_way: AtomicBool::new(false), writing: Mutex::new(()) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts back into `store` what is still good now. A file that is not a sound snapshot is put aside.
    pub fn restore(&self, store: &MemoryStore, now: Timestamp) -> Restored {
        match self.read() {
            Ok(None) => Restored::Nothing,
            Ok(Some(content)) => self.put_back(content, store, now),
            Err(fault) => {
                let put_aside = put_aside(&self.path);
                self.in_the_way.store(put_aside.is_err(), Ordering::Relaxed);
                Restored::Refused { fault, put_aside }
            }
        }
    }

    fn read(&self) -> Result<Option<Content>, SnapshotFault> {
        // A pipe would keep the start waiting for ever.
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(found) if !found.is_file() => return Err(SnapshotFault::Foreign),
            Ok(_) | Err(_) => {}
        }
        let file = File::open(&self.path).map_err(SnapshotFault::Unreadable)?;
        format::read(BufReader::new(file), self.most_agents).map(Some)
    }

    fn put_back(&self, content: Content, store: &MemoryStore, now: Timestamp) -> Restored {
        let Content { saved_at, agents, passed_over } = content;
        let (mut restored, mut expired) = (0, 0);
        // The newest last: what is used last is forgotten last.
        for (agent, previews) in agents.into_iter().rev() {
            let found = previews.len();
            let alive: Vec<_> =
                previews.into_iter().filter_map(|preview| self.still_good(preview, saved_at, now)).collect();
            restored += alive.len();
            expired += found - alive.len();
            store.restore(agent, alive);
        }
        Restored::Previews { previews: restored, expired, passed_over, age: now.since(saved_at) }
    }

    /// The preview by the clock of today. If the wall clock was set back meanwhile, how long the gateway was down cannot
    /// be known; the preview is then as old as it was when it was saved. So none has more of its life left after a
    /// restart than it had before, and none looks as if it were announced in the future.
    fn still_good(&self, preview: Preview, saved_at: Timestamp, now: Timestamp) -> Option<Preview> {
        let reference = saved_at.min(now);
        let today = |time: Timestamp| reference.0.checked_sub(saved_at.0.saturating_sub(time.0)).map(Timestamp);
        let announced_at = today(preview.announced_at).filter(|time| now.since(*time) <= self.ttl)?;
        // A number whose time does not fit is older than any that is still good.
        let shown = |shown: ShownNumber| Some(ShownNumber { shown_at: today(shown.shown_at)?, ..shown });
        let numbers = preview.numbers.into_iter().filter_map(shown).collect();
        Some(Preview { numbers, announced_at, ..preview })
    }

    /// Writes what `store` holds now.
    ///
    /// # Errors
    /// The system's; the file of the last success is still there.
    pub fn save(&self, store: &MemoryStore, clock: &dyn Clock) -> io::Result<Saved> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let put_aside = self.make_way()?;
        let mut agents = store.agents();
        agents.sort_unstable_by_key(|(agent, previews)| (Reverse(newest(previews)), *agent));
        let at = clock.now();
        let left_out = self.replace(at, &agents)?;
        Ok(Saved { at, left_out, put_aside })
    }

    /// Puts aside what is at the place of the snapshot and is none.
    fn make_way(&self) -> io::Result<Option<PathBuf>> {
        let refused = self.in_the_way.load(Ordering::Relaxed);
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(found) if !found.is_file() => Err(io::Error::other("something else than a regular file is in the way")),
            Ok(_) if !refused && begins_like_ours(&self.path) => Ok(None),
            Ok(_) => {
                let aside = put_aside(&self.path)?;
                self.in_the_way.store(false, Ordering::Relaxed);
                Ok(Some(aside))
            }
        }
    }

    fn replace(&self, at: Timestamp, agents: &[(AgentId, Arc<AgentPreviews>)]) -> io::Result<usize> {
        let temporary = with_suffix(&self.path, ".tmp");
        let written = write_synced(&temporary, at, agents).and_then(|left_out| {
            fs::rename(&temporary, &self.path)?;
            // The rename itself is on the disk only with the directory.
            File::open(parent(&self.path))?.sync_all()?;
            Ok(left_out)
        });
        if written.is_err() {
            // On a full disk what was written so far is in the way of others.
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}

fn write_synced(path: &Path, at: Timestamp, agents: &[(AgentId, Arc<AgentPreviews>)]) -> io::Result<usize> {
    // What a crash left behind. A file made anew has this owner, this mode, and is no link to anywhere.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let left_out = format::write(BufWriter::new(&file), at, agents)?;
    file.sync_all()?;
    Ok(left_out)
}

fn newest(previews: &AgentPreviews) -> Option<Timestamp> {
    previews.iter().map(|preview| preview.announced_at).max()
}

fn begins_like_ours(path: &Path) -> bool {
    let mut start = Vec::new();
    let longest = MAGIC.len() as u64 + 16;
    let read = File::open(path).and_then(|file| file.take(longest).read_to_end(&mut start));
    let versions = std::iter::once(VERSION).chain(EARLIER_VERSIONS);
    read.is_ok() && versions.into_iter().any(|version| start.starts_with(format!("{MAGIC} {version} ").as_bytes()))
}

/// Renames the file at `path` to `….refused`, `….refused.1` and so on: nothing that was put aside is overwritten either.
fn put_aside(path: &Path) -> io::Result<PathBuf> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("something else than a regular file stays where it is"));
    }
    let names = std::iter::once(".refused".to_owned()).chain((1..MOST_REFUSED).map(|n| format!(".refused.{n}")));
    let free = names.map(|suffix| with_suffix(path, &suffix)).find(|name| fs::symlink_metadata(name).is_err());
    let aside = free.ok_or_else(|| io::Error::other("too many refused files are there already; remove them"))?;
    fs::rename(path, &aside)?;
    Ok(aside)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
