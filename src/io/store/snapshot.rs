//! Previews beyond the end of the process: a file that is written now and then and read at the next start.
//!
//! The data path does not wait for it: the supervisor has it written by a thread that may block. The file holds whole
//! telephone numbers, because callouts are compared with them, so only its owner can read it. It is replaced as a whole
//! (written beside, synced, renamed), so that a crash leaves the old one or the new one. A file in its place that is no
//! sound snapshot is put aside under the name `….refused`, and never overwritten.

mod fault;
mod format;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::common_clock::moved;
use super::guid_key::GuidKey;
use super::journal::{self, Journal, Replay};
use super::sessions::{KeptSessions, Sessions};
use super::state_files::{check, lock, parent, secret, siblings, with_suffix};
use super::{Ledger, MemoryStore, StateFileError};
use crate::preview::{AgentId, AgentPreviews, Clock, CountedCall, Preview, ShownNumber, ShownRef, Timestamp};
use crate::telemetry::Metrics;
pub use fault::SnapshotFault;
use format::{Content, Continuation, EARLIER_VERSIONS, MAGIC, VERSION};

/// Highest number of files that are put aside. With so many, an operator has to remove some first.
const MAX_REFUSED: usize = 10;
/// Begins the end of the name of a file that is being written.
const TEMPORARY: &str = ".tmp.";

/// What became of a file at the start.
#[derive(Debug)]
pub enum Restored {
    /// There is none: a first start.
    Nothing,
    /// Its previews are known again.
    Previews {
        /// Previews that were put back.
        previews: usize,
        /// Previews that expired in the meantime. They stay as well: if the wall clock is wrong and is set, they may be good again.
        expired: usize,
        /// Previews that ended after the snapshot had been saved.
        ended: usize,
        /// Agents for whom there is no room any more.
        passed_over: usize,
        /// How long ago it was saved, by the wall clock.
        age: Duration,
        /// When it was saved, by the wall clock of then.
        saved_at: Timestamp,
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

/// Agents and their previews.
type Agents = Vec<(AgentId, Arc<AgentPreviews>)>;

/// The file of one gateway.
#[derive(Debug)]
pub struct SnapshotFile {
    path: PathBuf,
    ttl: Duration,
    max_agents: usize,
    /// Different for each run of a gateway: see [`journal`](super::journal).
    run: String,
    /// The key of the hashes of GUIDs: in a file of its own, made at the first start.
    key: GuidKey,
    /// Held as long as this gateway uses the file.
    lock: Mutex<Option<File>>,
    /// The file at `path` was refused and could not be put aside yet.
    in_the_way: AtomicBool,
    /// One at a time: the last snapshot must not be overtaken by the one before it. The process that takes over writes
    /// the file once it is released.
    writing: Mutex<Use>,
}

impl SnapshotFile {
    /// Restores at most `max_agents` agents and no preview older than `ttl`. Removes what a crash in the middle of a save
    /// left behind.
    ///
    /// # Errors
    /// When another gateway uses the file, or when other users can write it.
    pub fn open(path: PathBuf, ttl: Duration, max_agents: u64) -> Result<Self, StateFileError> {
        let lock = lock(&path)?;
        let key_file = with_suffix(&path, ".key");
        check(&path)?;
        check(&key_file)?;
        for (_, journal) in journal::files(&path).unwrap_or_default() {
            check(&journal)?;
        }
        if lock.is_some() {
            for (_, leftover) in siblings(&path, TEMPORARY).unwrap_or_default() {
                let _ = fs::remove_file(leftover);
            }
        }
        let max_agents = usize::try_from(max_agents).unwrap_or(usize::MAX);
        let run = random_name();
        // Without the file, sessions are not known again after the next start.
        let key = secret(&key_file).map_or_else(|_| GuidKey::random(), |secret| GuidKey::new(&secret));
        Ok(Self {
            path,
            ttl,
            max_agents,
            run,
            key,
            lock: Mutex::new(lock),
            in_the_way: AtomicBool::new(false),
            writing: Mutex::new(Use::Own),
        })
    }

    /// Starts the journal of this run, once the file has been restored.
    ///
    /// # Errors
    /// When the directory cannot be read or the thread cannot be started.
    pub fn start_journal(&self, metrics: Arc<Metrics>) -> io::Result<Journal> {
        Journal::start(&self.path, &self.run, metrics)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts back into `ledger` what is still good now. A file that is not a sound snapshot is put aside.
    pub fn restore(&self, ledger: &Ledger, now: Timestamp) -> Restored {
        let restored = self.restore_into(ledger.local(), ledger.sessions(), now);
        if let Restored::Previews { saved_at, .. } = restored {
            ledger.note_restored(saved_at, now);
        }
        if ledger.is_shared() {
            self.share_earlier_ends(ledger, now);
        }
        restored
    }

    /// The process before this one may have ended before its ends reached the shared store.
    fn share_earlier_ends(&self, ledger: &Ledger, now: Timestamp) {
        let Ok(journals) = Replay::read(&self.path, 0, &self.run) else { return };
        let lifetime = self.ttl.saturating_mul(2);
        ledger.share_earlier_ends(journals.all(now).filter(|(_, _, at)| now.since(*at) <= lifetime));
    }

    fn restore_into(&self, store: &MemoryStore, sessions: &Sessions, now: Timestamp) -> Restored {
        sessions.use_key(self.key.clone());
        match self.read() {
            Ok(None) => Restored::Nothing,
            Ok(Some((mut content, ends))) => {
                let agents = std::mem::take(&mut content.sessions);
                put_back_sessions(KeptSessions { key: content.continuation.key, agents }, &ends, sessions, now);
                self.put_back(content, &ends, store, now)
            }
            Err(fault) => {
                let put_aside = put_aside(&self.path);
                self.in_the_way.store(put_aside.is_err(), Ordering::Relaxed);
                Restored::Refused { fault, put_aside }
            }
        }
    }

    fn read(&self) -> Result<Option<(Content, Replay)>, SnapshotFault> {
        // The start would never end if it read a pipe.
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(found) if !found.is_file() => return Err(SnapshotFault::Foreign),
            Ok(_) | Err(_) => {}
        }
        let file = File::open(&self.path).map_err(SnapshotFault::Unreadable)?;
        let content = format::read(BufReader::new(file), self.max_agents)?;
        let Continuation { run, journal, .. } = &content.continuation;
        let ends = Replay::read(&self.path, *journal, run).map_err(SnapshotFault::Unreadable)?;
        // A journal of which a line is lost may have ended any preview.
        if ends.is_damaged() {
            Err(SnapshotFault::Damaged("a journal beside it has unreadable lines"))
        } else {
            Ok(Some((content, ends)))
        }
    }

    fn put_back(&self, content: Content, ends: &Replay, store: &MemoryStore, now: Timestamp) -> Restored {
        let Content { saved_at, agents, passed_over, .. } = content;
        let (mut restored, mut expired, mut ended) = (0, 0, 0);
        // The newest last: what is used last is forgotten last.
        for (agent, mut previews) in agents.into_iter().rev() {
            let saved = previews.len();
            ends.apply(agent, &mut previews);
            ended += saved - previews.len();
            let found = previews.len();
            previews.retain(|preview| saved_at.since(preview.announced_at) <= self.ttl);
            let dated: Vec<_> = previews.into_iter().filter_map(|preview| dated(preview, saved_at, now)).collect();
            let alive = dated.iter().filter(|preview| now.since(preview.announced_at) <= self.ttl).count();
            restored += alive;
            expired += found - alive;
            store.restore(agent, dated);
        }
        Restored::Previews { previews: restored, expired, ended, passed_over, age: now.since(saved_at), saved_at }
    }

    /// Writes the previews of `ledger`.
    ///
    /// # Errors
    /// The system's; the file of the last success is still there, and so are the journals that belong to it.
    pub fn save(&self, ledger: &Ledger, clock: &dyn Clock) -> io::Result<Saved> {
        self.save_collected(|| {
            // The journal, the previews and the time of the file are by one wall clock.
            let wall = ledger.hold_wall_clock();
            // Before previews and sessions are collected: each change is in them, or in the new journal, or in both.
            let journal = ledger.rotate_journal(wall.ahead)?;
            let (agents, sessions) = collected(ledger.local(), || ledger.sessions().kept());
            let (agents, at) = (by_wall_clock(agents, wall.ahead), moved(clock.now(), wall.ahead));
            Ok(Collected { journal, agents, sessions, at })
        })
    }

    #[cfg(test)]
    fn save_store(
        &self,
        store: &MemoryStore,
        clock: &dyn Clock,
        rotate: impl FnOnce() -> io::Result<u64>,
        sessions: impl FnOnce() -> KeptSessions,
    ) -> io::Result<Saved> {
        self.save_collected(|| {
            let journal = rotate()?;
            let (agents, sessions) = collected(store, sessions);
            Ok(Collected { journal, agents, sessions, at: clock.now() })
        })
    }

    fn save_collected(&self, collect: impl FnOnce() -> io::Result<Collected>) -> io::Result<Saved> {
        let alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if *alone == Use::Released {
            return Err(io::Error::other("another process uses the file now"));
        }
        let put_aside = self.make_way()?;
        let Collected { journal, agents, sessions: KeptSessions { key, agents: sessions }, at } = collect()?;
        let continuation = Continuation { run: self.run.clone(), journal, key };
        let left_out = self.replace(|file| format::write(file, at, &continuation, &agents, &sessions))?;
        journal::remove_before(&self.path, journal)?;
        Ok(Saved { at, left_out, put_aside })
    }

    /// Leaves the file to the process that takes over. Nothing is saved from now on.
    pub fn release(&self) {
        *self.writing.lock().unwrap_or_else(PoisonError::into_inner) = Use::Released;
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Puts aside what is at the place of the snapshot and is none.
    fn make_way(&self) -> io::Result<Option<PathBuf>> {
        let refused = self.in_the_way.load(Ordering::Relaxed);
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(found) if !found.is_file() => {
                Err(io::Error::other("its place is taken by something that is not a regular file; remove that"))
            }
            Ok(_) if !refused && begins_like_ours(&self.path) => Ok(None),
            Ok(_) => {
                let aside = put_aside(&self.path)?;
                self.in_the_way.store(false, Ordering::Relaxed);
                Ok(Some(aside))
            }
        }
    }

    /// Writes a new file beside the old one, syncs it, and renames it.
    fn replace(&self, write: impl FnOnce(BufWriter<&File>) -> io::Result<usize>) -> io::Result<usize> {
        let temporary = with_suffix(&self.path, &format!("{TEMPORARY}{}", random_name()));
        let written = write_synced(&temporary, write).and_then(|left_out| {
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

/// Whether this process may write the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Own,
    Released,
}

/// The preview by the clock of today. If the wall clock shows a time before the save, how long the gateway was down cannot
/// be known; the preview is then as old as it was when it was saved. So none has more of its life left after a
/// restart than it had before, and none looks as if it were announced in the future.
fn dated(preview: Preview, saved_at: Timestamp, now: Timestamp) -> Option<Preview> {
    let reference = saved_at.min(now);
    let today = |time: Timestamp| reference.0.checked_sub(saved_at.0.saturating_sub(time.0)).map(Timestamp);
    let announced_at = today(preview.announced_at)?;
    // A number whose time does not fit is older than any that is still good.
    let shown = |shown: ShownNumber| Some(ShownNumber { shown_at: today(shown.shown_at)?, ..shown });
    let numbers = preview.numbers.into_iter().filter_map(shown).collect();
    let dated = |reference: ShownRef| ShownRef { at: reference.at.and_then(today), ..reference };
    let shown = preview.shown.into_iter().map(dated).collect();
    // A call counts whatever its time is.
    let calls = preview.calls.iter().cloned();
    let calls = calls.map(|call| CountedCall { at: today(call.at).unwrap_or(Timestamp(0)), ..call }).collect();
    Some(Preview { numbers, announced_at, shown, calls, ..preview })
}

/// What is saved.
struct Collected {
    /// The first journal that continues it.
    journal: u64,
    agents: Agents,
    sessions: KeptSessions,
    at: Timestamp,
}

/// The previews with the times of the wall clock, which is so many milliseconds ahead.
fn by_wall_clock(agents: Agents, ahead: i64) -> Agents {
    if ahead == 0 {
        return agents;
    }
    let redated = |previews: Arc<AgentPreviews>| {
        let mut previews = Arc::unwrap_or_clone(previews);
        previews.redate(|time| moved(time, ahead));
        Arc::new(previews)
    };
    agents.into_iter().map(|(agent, previews)| (agent, redated(previews))).collect()
}

/// Every agent with previews or a session, the one with the newest preview first, and the sessions.
fn collected(store: &MemoryStore, sessions: impl FnOnce() -> KeptSessions) -> (Agents, KeptSessions) {
    let mut agents = store.agents();
    let sessions = sessions();
    let known: HashSet<_> = agents.iter().map(|(agent, _)| *agent).collect();
    let others = sessions.agents.keys().filter(|agent| !known.contains(agent));
    agents.extend(others.map(|agent| (*agent, Arc::default())));
    agents.sort_unstable_by_key(|(agent, previews)| (Reverse(newest(previews)), *agent));
    (agents, sessions)
}

/// What a process hands to the one that takes over from it.
pub struct Exported {
    /// The state of the ledger in the form of a snapshot.
    pub state: Vec<u8>,
    /// The key of its hashes.
    pub session_key: Vec<u8>,
}

/// The state of `ledger`, for the process that takes over.
pub fn export(ledger: &Ledger, now: Timestamp) -> io::Result<Exported> {
    let mut text = Vec::new();
    let (agents, KeptSessions { key, agents: sessions }) = collected(ledger.local(), || ledger.sessions().kept());
    let wall_ahead = ledger.hold_wall_clock().ahead;
    let (agents, now) = (by_wall_clock(agents, wall_ahead), moved(now, wall_ahead));
    let continuation = Continuation { run: "takeover".to_owned(), journal: 0, key };
    format::write(&mut text, now, &continuation, &agents, &sessions)?;
    Ok(Exported { state: text, session_key: ledger.sessions().key().reveal().to_owned() })
}

/// Puts into `ledger` what [`export`] has written. Sessions are known again, unless this process is configured to have
/// another key (`previews.session_key`, or that of its snapshot). Returns the number of agents.
pub fn import(
    exported: &Exported,
    ledger: &Ledger,
    snapshot: Option<&Path>,
    now: Timestamp,
) -> Result<usize, SnapshotFault> {
    match snapshot.map(|path| secret(&with_suffix(path, ".key"))) {
        Some(Ok(secret)) => ledger.use_session_key(&secret),
        // Only for the sessions here: gateways that share a Redis have a key of their own.
        Some(Err(_)) | None => ledger.sessions().use_key(GuidKey::new(&exported.session_key)),
    }
    let Content { continuation, agents, sessions, .. } = format::read(&exported.state[..], usize::MAX)?;
    let count = agents.len();
    // The newest last: what is used last is forgotten last.
    agents.into_iter().rev().for_each(|(agent, previews)| ledger.local().restore(agent, previews));
    put_back_sessions(
        KeptSessions { key: continuation.key, agents: sessions },
        &Replay::default(),
        ledger.sessions(),
        now,
    );
    Ok(count)
}

/// Puts back the sessions, if their hashes are of the key in use.
fn put_back_sessions(mut kept: KeptSessions, ends: &Replay, sessions: &Sessions, now: Timestamp) {
    let key = sessions.key().id();
    if kept.key != key {
        kept = KeptSessions { key, ..KeptSessions::default() };
    }
    ends.apply_to_sessions(&mut kept);
    for (agent, guids) in &kept.agents {
        sessions.restore(*agent, guids, now);
    }
}

fn write_synced(path: &Path, write: impl FnOnce(BufWriter<&File>) -> io::Result<usize>) -> io::Result<usize> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let left_out = write(BufWriter::new(&file))?;
    file.sync_all()?;
    Ok(left_out)
}

/// 16 hexadecimal digits that nothing else has. Without random numbers, the process and the time have to do.
fn random_name() -> String {
    let mut bits = [0; 8];
    match aws_lc_rs::rand::fill(&mut bits) {
        Ok(()) => format!("{:016x}", u64::from_ne_bytes(bits)),
        Err(_) => {
            let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            format!("{:016x}", u64::from(std::process::id()) << 32 ^ u64::from(since_epoch.subsec_nanos()))
        }
    }
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
        return Err(io::Error::other("it is not a regular file, so it stays where it is"));
    }
    let names = std::iter::once(".refused".to_owned()).chain((1..MAX_REFUSED).map(|n| format!(".refused.{n}")));
    let free = names.map(|suffix| with_suffix(path, &suffix)).find(|name| fs::symlink_metadata(name).is_err());
    let aside = free.ok_or_else(|| io::Error::other("too many refused files are there already; remove them"))?;
    fs::rename(path, &aside)?;
    Ok(aside)
}
