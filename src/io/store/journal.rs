//! Ends of previews and counted calls since the last snapshot, in a file beside the snapshot. So no ended preview is back
//! after a crash, and no call is given back. The file also holds what was learnt about sessions, so that the gateway still
//! knows the agents' own GUIDs.
//!
//! The ledger hands each end to a thread of the journal, which appends it at once. The data path never waits for the
//! disk; an answer that ended previews waits until its ends are written ([`Journal::written`]), for a bounded time. The
//! file is not synced: it survives the end of the process (`kill -9`), not that of the machine.
//!
//! A file for each snapshot, `….journal.N`. A save begins with [`Journal::rotate`]: ends from then on are in file N, and
//! the snapshot names N as the first file that must be replayed over it. Earlier files are removed when it is in place.
//!
//! ```text
//! previewgate-journal 2 <run>
//! 101 * 1700000000000 5f3c9a01
//! 102 11776 1700000000500 0a91be77
//! 102 @<key>:<hash> 1700000000600 77c01d2e
//! 101 !11776:9a0b1c2d3e4f5061-7:3838383831303031 1700000000700 0d41a3c9
//! ```
//!
//! A line is an agent, a control ID or `*` for all previews, the time up to which previews have ended, and the first 32
//! bits of the SHA-256 of what stands before. `@` begins a session with the GUID of this hash, `+` adds a GUID to it; `@`
//! alone begins one whose GUID is not known. `!` counts a call (control ID, name, number in hexadecimal), `~` gives it back. A line that cannot be read ends more rather than less, see [`Replay`].
//! Version 1 had no sessions.

mod entry;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use tokio::sync::oneshot;

use super::guid_key::KeyId;
use super::sessions::{KeptSessions, Learnt};
use super::state_files::{siblings, with_suffix};
use crate::preview::{AgentId, ControlId, CountedCall, Preview, RecordId, Timestamp};
use crate::telemetry::Metrics;
pub(crate) use entry::Entry;
pub(super) use entry::Event;

const MAGIC: &str = "previewgate-journal 2 ";
const EARLIER_MAGIC: &str = "previewgate-journal 1 ";
/// Between two attempts to write what could not be written.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Longest that an answer waits until its ends are written.
const MAX_WAIT: Duration = Duration::from_millis(100);
/// Ends that wait to be written, before those of one agent are taken together.
const MAX_PENDING: usize = 65_536;

/// The journal of a gateway that runs. Its thread ends when this is dropped.
#[derive(Debug)]
pub struct Journal {
    messages: Sender<Message>,
    /// How many ends were handed to the thread, and how many of them it has tried to write.
    queued: AtomicU64,
    attempted: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Message {
    Entry(Entry),
    /// Begin the next file with these entries, and return its number. The wall clock is so many milliseconds ahead.
    Rotate(Vec<Entry>, i64, Sender<io::Result<u64>>),
    /// Everything queued before has been written, or cannot be.
    Written(oneshot::Sender<()>),
}

impl Journal {
    /// Starts the journal beside the snapshot at `snapshot`. `run` is different for each run of a gateway.
    ///
    /// # Errors
    /// When the thread cannot be started. A file that cannot be made is not an error: it is tried again.
    pub(super) fn start(snapshot: &Path, run: &str, metrics: Arc<Metrics>) -> io::Result<Self> {
        let (messages, received) = channel();
        let attempted = Arc::new(AtomicU64::new(0));
        let number = files(snapshot)?.last().map_or(1, |(number, _)| number + 1);
        let mut writer = Writer {
            snapshot: snapshot.to_owned(),
            run: run.to_owned(),
            number,
            file: None,
            pending: Vec::new(),
            attempted: Arc::clone(&attempted),
            wall_ahead: 0,
            metrics,
        };
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
            let _log = tracing::dispatcher::set_default(&dispatch);
            writer.run(&received);
        })?;
        Ok(Self { messages, queued: AtomicU64::new(0), attempted })
    }

    /// Appends an entry, without waiting.
    pub(super) fn append(&self, entry: Entry) {
        self.queued.fetch_add(1, Ordering::SeqCst);
        // The thread lives as long as this.
        let _ = self.messages.send(Message::Entry(entry));
    }

    /// Waits until everything appended up to now is written, but not long: a disk that hangs must not keep an answer.
    pub(super) async fn written(&self) {
        if self.attempted.load(Ordering::SeqCst) >= self.queued.load(Ordering::SeqCst) {
            return;
        }
        let (done, written) = oneshot::channel();
        if self.messages.send(Message::Written(done)).is_ok() {
            let _ = tokio::time::timeout(MAX_WAIT, written).await;
        }
    }

    /// Begins a new file and returns its number. Every end appended before this call is in earlier files, and was applied
    /// before this call to the previews that the caller is about to save. `kept` are entries that are needed although the
    /// snapshot knows them. The times in the file are those of the wall clock, which is `wall_ahead` milliseconds ahead: the
    /// same as in the snapshot that the file continues.
    ///
    /// # Errors
    /// When the file cannot be made; then the present one goes on.
    pub(super) fn rotate(&self, kept: Vec<Entry>, wall_ahead: i64) -> io::Result<u64> {
        let (answer, outcome) = channel();
        let _ = self.messages.send(Message::Rotate(kept, wall_ahead, answer));
        outcome.recv().unwrap_or_else(|_| Err(io::Error::other("the thread of the journal has ended")))
    }
}

struct Writer {
    snapshot: PathBuf,
    run: String,
    number: u64,
    /// The file, and how much of it is whole lines.
    file: Option<(File, u64)>,
    pending: Vec<Entry>,
    attempted: Arc<AtomicU64>,
    /// How far the wall clock is ahead, as for the snapshot that the file continues.
    wall_ahead: i64,
    metrics: Arc<Metrics>,
}

impl Writer {
    fn run(&mut self, messages: &Receiver<Message>) {
        loop {
            let first = if self.pending.is_empty() {
                messages.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                messages.recv_timeout(RETRY_PAUSE)
            };
            let ended = matches!(first, Err(RecvTimeoutError::Disconnected));
            let (mut taken, mut waiting, mut rotate) = (0, Vec::new(), None);
            for message in first.into_iter().chain(std::iter::from_fn(|| messages.try_recv().ok())) {
                match message {
                    Message::Entry(entry) => {
                        self.pending.push(entry);
                        taken += 1;
                    }
                    Message::Written(done) => waiting.push(done),
                    Message::Rotate(kept, wall_ahead, answer) => {
                        rotate = Some((kept, wall_ahead, answer));
                        break;
                    }
                }
            }
            self.write();
            self.attempted.fetch_add(taken, Ordering::SeqCst);
            waiting.into_iter().for_each(|done: oneshot::Sender<()>| _ = done.send(()));
            if let Some((kept, wall_ahead, answer)) = rotate {
                let _ = answer.send(self.rotate(kept, wall_ahead));
            }
            if ended {
                return;
            }
        }
    }

    /// Writes what is pending; what cannot be written stays pending.
    fn write(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        if self.pending.len() > MAX_PENDING {
            self.pending = taken_together(&self.pending);
        }
        if let Err(error) = self.try_write() {
            self.metrics.snapshots.failed();
            tracing::debug!(target: "previewgate::previews", %error, "ends of previews cannot be written yet");
        }
    }

    fn try_write(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            self.file = Some(create(&self.snapshot, self.number, &self.run)?);
        }
        let Some((file, length)) = &mut self.file else { return Ok(()) };
        let text: String = self.pending.iter().map(|entry| entry.line(self.wall_ahead)).collect();
        if let Err(error) = file.write_all(text.as_bytes()) {
            // What was written of it would make one line with the next attempt.
            file.set_len(*length)?;
            return Err(error);
        }
        *length += text.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// A file without ends goes on: there would be nothing in it to leave behind. What is still pending goes into the new
    /// file.
    fn rotate(&mut self, mut kept: Vec<Entry>, wall_ahead: i64) -> io::Result<u64> {
        if self.file.is_some() {
            let next = self.number + 1;
            self.file = Some(create(&self.snapshot, next, &self.run)?);
            self.number = next;
        }
        self.wall_ahead = wall_ahead;
        self.pending.append(&mut kept);
        if self.pending.is_empty() { Ok(()) } else { self.try_write() }?;
        Ok(self.number)
    }
}

impl Replayed {
    fn apply(&self, previews: &mut Vec<Preview>) {
        match self {
            Self::Ended { control_id, until, .. } => {
                let ended = |time: Timestamp| until.is_none_or(|until| time <= until);
                let concerned = |id: ControlId| control_id.is_none_or(|ended| ended == id);
                previews.retain(|preview| !(concerned(preview.control_id) && ended(preview.announced_at)));
                for preview in previews.iter_mut().filter(|preview| concerned(preview.control_id)) {
                    preview.retain_shown(|at| !ended(at));
                    preview.calls = preview.calls.iter().filter(|call| !ended(call.at)).cloned().collect();
                }
            }
            Self::Called(control_id, call) => {
                let called = previews.iter_mut().find(|preview| preview.control_id == *control_id);
                called.into_iter().for_each(|preview| preview.calls.add(call.clone()));
            }
            Self::CallReturned(control_id, id) => {
                let called = previews.iter_mut().find(|preview| preview.control_id == *control_id);
                called.into_iter().for_each(|preview| preview.calls.give_back(*id));
            }
        }
    }
}

/// For each agent at most one end of all previews, up to its latest end, and one session of which nothing is known.
fn taken_together(entries: &[Entry]) -> Vec<Entry> {
    let mut ends: BTreeMap<AgentId, Timestamp> = BTreeMap::new();
    let mut sessions: BTreeSet<AgentId> = BTreeSet::new();
    for Entry { agent, at, event } in entries {
        match event {
            // What cannot be counted is over.
            Event::End(_) | Event::Called(..) => {
                let until = ends.entry(*agent).or_insert(*at);
                *until = (*until).max(*at);
            }
            Event::CallReturned(..) => {}
            Event::Session(..) => _ = sessions.insert(*agent),
        }
    }
    let unknown = Event::Session(KeyId::default(), Learnt { guid: None, begins: true });
    let ends = ends.into_iter().map(|(agent, at)| Entry { agent, at, event: Event::End(None) });
    ends.chain(sessions.into_iter().map(|agent| Entry { agent, at: Timestamp(0), event: unknown.clone() })).collect()
}

fn create(snapshot: &Path, number: u64, run: &str) -> io::Result<(File, u64)> {
    let path = with_suffix(snapshot, &format!(".journal.{number}"));
    let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
    let header = format!("{MAGIC}{run}\n");
    if let Err(error) = file.write_all(header.as_bytes()) {
        let _ = fs::remove_file(&path);
        return Err(error);
    }
    Ok((file, header.len() as u64))
}

/// The journals beside the snapshot, the oldest first.
///
/// # Errors
/// When the directory cannot be read.
pub(super) fn files(snapshot: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let found = siblings(snapshot, ".journal.")?.into_iter();
    let mut numbered: Vec<_> = found.filter_map(|(number, path)| Some((number.parse::<u64>().ok()?, path))).collect();
    numbered.sort_unstable();
    Ok(numbered)
}

/// Removes the journals before `first`: the snapshot in place knows their ends.
pub(super) fn remove_before(snapshot: &Path, first: u64) -> io::Result<()> {
    for (_, path) in files(snapshot)?.into_iter().filter(|(number, _)| *number < first) {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// What journals hold, to be applied to previews of a snapshot.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// Ends and calls of each agent, the oldest first.
    changes: BTreeMap<AgentId, Vec<Replayed>>,
    /// What was learnt about sessions, the oldest first.
    sessions: Vec<(AgentId, KeyId, Learnt)>,
    /// Beginnings of agent IDs at which a file breaks off: each agent that it may be has no preview left.
    torn: Vec<String>,
    /// A line in the middle cannot be read. Any preview may have ended with it, so nothing is restored.
    damaged: bool,
}

/// What happened to the previews of one agent.
#[derive(Clone, Debug)]
enum Replayed {
    Ended {
        control_id: Option<ControlId>,
        at: Timestamp,
        /// None: whatever the time. The clocks of two runs cannot be compared, and everything in a snapshot of an earlier run
        /// was shown before.
        until: Option<Timestamp>,
    },
    Called(ControlId, CountedCall),
    CallReturned(ControlId, RecordId),
}

impl Replay {
    /// Reads the journals of `snapshot` from number `first` on. `run` is the run that wrote the snapshot.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(super) fn read(snapshot: &Path, first: u64, run: &str) -> io::Result<Self> {
        let mut replay = Self::default();
        for (_, path) in files(snapshot)?.into_iter().filter(|(number, _)| *number >= first) {
            replay.add(&fs::read(path)?, run);
        }
        Ok(replay)
    }

    fn add(&mut self, content: &[u8], run: &str) {
        let text = String::from_utf8_lossy(content);
        // A journal that breaks off in its header has no ends.
        let Some((header, lines)) = text.split_once('\n') else { return };
        let same_run = [MAGIC, EARLIER_MAGIC].iter().any(|magic| header.strip_prefix(magic) == Some(run));
        for line in lines.split_inclusive('\n') {
            match (line.strip_suffix('\n'), line.strip_suffix('\n').and_then(Entry::read)) {
                (Some(_), Some(Entry { agent, at, event })) => {
                    let change = match event {
                        Event::End(control_id) => Replayed::Ended { control_id, at, until: same_run.then_some(at) },
                        Event::Called(control_id, call) => Replayed::Called(control_id, call),
                        Event::CallReturned(control_id, id) => Replayed::CallReturned(control_id, id),
                        Event::Session(key, learnt) => {
                            self.sessions.push((agent, key, learnt));
                            continue;
                        }
                    };
                    self.changes.entry(agent).or_default().push(change);
                }
                (Some(_), None) => self.damaged = true,
                // The last line of a process that was killed while it wrote.
                (None, _) => self.torn.push(line.to_owned()),
            }
        }
    }

    /// Whether a line that is no torn tail could not be read.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// Whether a torn line may be about `agent`.
    fn is_torn(&self, agent: AgentId) -> bool {
        let agent = agent.to_string();
        self.torn.iter().any(|line| match line.split_once(' ') {
            Some((id, _)) => id == agent,
            None => agent.starts_with(line),
        })
    }

    /// Every end, for a shared store that may lack it. Of a torn line whose agent is known, everything has ended by `now`.
    pub(super) fn all(&self, now: Timestamp) -> impl Iterator<Item = (AgentId, Option<ControlId>, Timestamp)> {
        let changes = self.changes.iter().flat_map(|(agent, changes)| changes.iter().map(|change| (*agent, change)));
        let ends = changes.filter_map(|(agent, change)| match change {
            Replayed::Ended { control_id, at, .. } => Some((agent, *control_id, *at)),
            Replayed::Called(..) | Replayed::CallReturned(..) => None,
        });
        let agents = self.torn.iter().filter_map(|line| line.split_once(' ')?.0.parse().ok());
        ends.chain(agents.map(move |agent| (agent, None, now)))
    }

    /// Removes what has ended, and counts the calls.
    pub(super) fn apply(&self, agent: AgentId, previews: &mut Vec<Preview>) {
        if self.damaged || self.is_torn(agent) {
            previews.clear();
        }
        for change in self.changes.get(&agent).into_iter().flatten() {
            change.apply(previews);
        }
    }

    /// Brings the sessions of a snapshot up to date. Hashes under another key than theirs say nothing, and what a torn line
    /// may have changed is not known.
    pub(super) fn apply_to_sessions(&self, kept: &mut KeptSessions) {
        for (agent, key, Learnt { guid, begins }) in &self.sessions {
            let guids = kept.agents.entry(*agent).or_default();
            if *begins {
                guids.clear();
            }
            match guid {
                Some(guid) if *key == kept.key => {
                    guids.retain(|known| known != guid);
                    guids.insert(0, *guid);
                }
                Some(_) => guids.clear(),
                None => {}
            }
        }
        kept.agents.retain(|agent, guids| !guids.is_empty() && !self.is_torn(*agent));
    }
}
