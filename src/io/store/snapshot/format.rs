//! How a snapshot is written and read:
//!
//! ```text
//! previewgate-snapshot 3 1700000000000 9a0b1c2d3e4f5061 17 5d41402a
//! {"agent":101,"previews":[{"control_id":7,"announced_at":1699999990000,"numbers":["1001","1002"],"shown_at":[1699999980000,1699999990000]}],"guids":["900150983cd24fb0d6963f7d28e17f72"]}
//! end 1 <SHA-256 of every byte above, in hexadecimal>
//! ```
//!
//! The first line says what the file is, which version of this format, when it was saved, by which run of a gateway, the
//! number of the first journal that continues it, and the key of the hashes. Times are milliseconds since the Unix epoch.
//! `guids` are keyed hashes of the GUIDs of the agent's session, the current one first. With `previews.calls_per_number`, a
//! preview has `calls`: number, name and time of each. An agent is one line, the one with the newest preview first. The last line proves that nothing
//! is missing or altered: what does not end with it is damaged, and nothing of it is used.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::super::guid_key::{GuidHash, KeyId};
use super::fault::SnapshotFault;
use crate::preview::{AgentId, AgentPreviews, ControlId, CountedCall, DialedNumber, Preview, ShownNumber, Timestamp};

/// How every snapshot of any version begins.
pub(super) const MAGIC: &str = "previewgate-snapshot";
/// The version of the format that is written.
pub(super) const VERSION: &str = "3";
/// Earlier versions, which are still read. In version 1 all numbers of a preview have the time of its announcement. Version 2
/// has no sessions.
pub(super) const EARLIER_VERSIONS: [&str; 2] = ["1", "2"];
/// Longest line, so that a file of some other kind cannot fill the memory; 16 previews take about 2 KiB.
const LONGEST_LINE: usize = 1024 * 1024;

/// Where the story goes on after a snapshot.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Continuation {
    /// The run that saved the snapshot.
    pub(super) run: String,
    /// The first journal that must be replayed over it.
    pub(super) journal: u64,
    /// The key of the hashes of GUIDs.
    pub(super) key: KeyId,
}

impl Continuation {
    fn read(run: &str, journal: &str, key: Option<&str>) -> Option<Self> {
        let key = key.map_or(Ok(KeyId::default()), str::parse).ok()?;
        Some(Self { run: run.to_owned(), journal: journal.parse().ok()?, key })
    }
}

/// What is in a snapshot.
#[derive(Debug, PartialEq)]
pub(super) struct Content {
    pub(super) saved_at: Timestamp,
    pub(super) continuation: Continuation,
    /// The newest first; an agent's previews oldest first.
    pub(super) agents: Vec<(AgentId, Vec<Preview>)>,
    /// The sessions of these agents.
    pub(super) sessions: BTreeMap<AgentId, Vec<GuidHash>>,
    /// Agents beyond those that were asked for.
    pub(super) passed_over: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentLine<'a> {
    agent: u32,
    #[serde(borrow)]
    previews: Vec<PreviewItem<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    guids: Vec<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PreviewItem<'a> {
    control_id: i64,
    announced_at: u64,
    #[serde(borrow)]
    numbers: Vec<Cow<'a, str>>,
    /// See [`Preview::shown`].
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    shown: Vec<Cow<'a, str>>,
    /// One time for each number.
    #[serde(default)]
    shown_at: Vec<u64>,
    /// See [`Preview::calls`]: number, name and time of each.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    calls: Vec<(Cow<'a, str>, Cow<'a, str>, u64)>,
}

/// Writes a snapshot; returns how many agents had to be left out because their line would be too long to be read.
pub(super) fn write(
    out: impl Write,
    saved_at: Timestamp,
    continuation: &Continuation,
    agents: &[(AgentId, Arc<AgentPreviews>)],
    sessions: &BTreeMap<AgentId, Vec<GuidHash>>,
) -> io::Result<usize> {
    let mut out = Hashing { inner: out, digest: Context::new(&SHA256) };
    let Continuation { run, journal, key } = continuation;
    out.line(format!("{MAGIC} {VERSION} {} {run} {journal} {key}", saved_at.0).as_bytes())?;
    let mut written = 0;
    for (agent, previews) in agents {
        let line = serde_json::to_vec(&agent_line(*agent, previews, sessions))?;
        if line.len() < LONGEST_LINE {
            out.line(&line)?;
            written += 1;
        }
    }
    let Hashing { mut inner, digest } = out;
    inner.write_all(end_line(written, digest).as_bytes())?;
    inner.flush()?;
    Ok(agents.len() - written)
}

fn agent_line<'a>(
    agent: AgentId,
    previews: &'a AgentPreviews,
    sessions: &BTreeMap<AgentId, Vec<GuidHash>>,
) -> AgentLine<'a> {
    let guids = sessions.get(&agent).into_iter().flatten().map(|guid| Cow::Owned(guid.to_string())).collect();
    AgentLine { agent: agent.as_u32(), previews: previews.iter().map(preview_item).collect(), guids }
}

fn preview_item(preview: &Preview) -> PreviewItem<'_> {
    PreviewItem {
        control_id: preview.control_id.0,
        announced_at: preview.announced_at.0,
        numbers: preview.numbers().map(|number| Cow::Borrowed(number.reveal())).collect(),
        shown_at: preview.numbers.iter().map(|shown| shown.shown_at.0).collect(),
        shown: preview.shown.iter().map(|reference| Cow::Owned(reference.to_string())).collect(),
        calls: preview.calls.iter().map(call_item).collect(),
    }
}

fn call_item(call: &CountedCall) -> (Cow<'_, str>, Cow<'_, str>, u64) {
    (Cow::Borrowed(call.number.reveal()), Cow::Owned(call.id.to_string()), call.at.0)
}

fn end_line(agents: usize, digest: Context) -> String {
    let mut line = format!("end {agents} ");
    for byte in digest.finish().as_ref() {
        // Writing to a string cannot fail.
        let _ = write!(line, "{byte:02x}");
    }
    line.push('\n');
    line
}

struct Hashing<W> {
    inner: W,
    digest: Context,
}

impl<W: Write> Hashing<W> {
    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        for part in [line, b"\n"] {
            self.digest.update(part);
            self.inner.write_all(part)?;
        }
        Ok(())
    }
}

/// Reads a snapshot whole or not at all; keeps the first `most` agents, which are those with the newest previews.
pub(super) fn read(mut input: impl BufRead, most: usize) -> Result<Content, SnapshotFault> {
    let mut digest = Context::new(&SHA256);
    let mut line = Vec::new();
    next_line(&mut input, &mut line).map_err(|fault| match fault {
        // Without a first line it was never a snapshot; whether one is damaged can only be said of snapshots.
        SnapshotFault::Damaged(_) => SnapshotFault::Foreign,
        other => other,
    })?;
    let (saved_at, continuation) = first_line(&line)?;
    let sessions = BTreeMap::new();
    let mut content = Content { saved_at, continuation, agents: Vec::new(), sessions, passed_over: 0 };
    loop {
        digest.update(&line);
        next_line(&mut input, &mut line)?;
        if line.starts_with(b"end ") {
            break;
        }
        let (agent, previews, guids) = read_agent(&line)?;
        if content.agents.len() < most {
            content.agents.push((agent, previews));
            content.sessions.insert(agent, guids);
        } else {
            content.passed_over += 1;
        }
    }
    let expected = end_line(content.agents.len() + content.passed_over, digest);
    let ends_here = input.fill_buf().map_err(SnapshotFault::Unreadable)?.is_empty();
    if line != expected.as_bytes() || !ends_here {
        return Err(SnapshotFault::Damaged("its content does not match its checksum"));
    }
    Ok(content)
}

/// The next line, with its line feed.
fn next_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> Result<(), SnapshotFault> {
    line.clear();
    input.take(LONGEST_LINE as u64).read_until(b'\n', line).map_err(SnapshotFault::Unreadable)?;
    if line.ends_with(b"\n") { Ok(()) } else { Err(SnapshotFault::Damaged("a line is cut off, or too long")) }
}

fn first_line(line: &[u8]) -> Result<(Timestamp, Continuation), SnapshotFault> {
    let text = std::str::from_utf8(line).map_err(|_| SnapshotFault::Foreign)?;
    let mut words = text.trim_end_matches('\n').split(' ');
    if words.next() != Some(MAGIC) {
        return Err(SnapshotFault::Foreign);
    }
    const DAMAGED: SnapshotFault = SnapshotFault::Damaged("its first line cannot be read");
    let version = words.next().ok_or(DAMAGED)?;
    if version != VERSION && !EARLIER_VERSIONS.contains(&version) {
        return Err(SnapshotFault::Version);
    }
    let saved_at = words.next().and_then(|time| time.parse().ok()).map(Timestamp).ok_or(DAMAGED)?;
    let (run, journal, key) = (words.next(), words.next(), words.next());
    let continuation = match (version, run, journal, key, words.next()) {
        ("1", None, None, None, None) => Continuation::default(),
        ("2", Some(run), Some(journal), None, None) => Continuation::read(run, journal, None).ok_or(DAMAGED)?,
        (VERSION, Some(run), Some(journal), key @ Some(_), None) => {
            Continuation::read(run, journal, key).ok_or(DAMAGED)?
        }
        _ => return Err(DAMAGED),
    };
    Ok((saved_at, continuation))
}

fn read_agent(line: &[u8]) -> Result<(AgentId, Vec<Preview>, Vec<GuidHash>), SnapshotFault> {
    const DAMAGED: SnapshotFault = SnapshotFault::Damaged("a line is not an agent's previews");
    let AgentLine { agent, previews, guids } = serde_json::from_slice(line).map_err(|_| DAMAGED)?;
    let agent = AgentId::try_from(agent).map_err(|_| DAMAGED)?;
    let guids = guids.iter().map(|guid| guid.parse()).collect::<Result<_, _>>().map_err(|_| DAMAGED)?;
    let previews = previews.into_iter().map(read_preview).collect::<Option<_>>().ok_or(DAMAGED)?;
    Ok((agent, previews, guids))
}

/// `None` if a call cannot be read: it must not be given back.
fn read_preview(item: PreviewItem<'_>) -> Option<Preview> {
    let PreviewItem { control_id, announced_at, numbers, shown, shown_at, calls } = item;
    let call = |(number, id, at): (Cow<'_, str>, Cow<'_, str>, u64)| {
        Some(CountedCall { number: DialedNumber::new(number), id: id.parse().ok()?, at: Timestamp(at) })
    };
    let times = shown_at.into_iter().chain(std::iter::repeat(announced_at));
    let numbers = numbers.into_iter().zip(times);
    Some(Preview {
        control_id: ControlId(control_id),
        numbers: numbers
            .map(|(number, at)| ShownNumber { number: DialedNumber::new(number), shown_at: Timestamp(at) })
            .collect(),
        announced_at: Timestamp(announced_at),
        shown: shown.iter().filter_map(|reference| reference.parse().ok()).collect(),
        calls: calls.into_iter().map(call).collect::<Option<_>>()?,
    })
}
