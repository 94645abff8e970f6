//! The requests that arrived, in order: the proof of what the gateway let through. Also the record of pushes.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::watch;

use super::http1::{Head, header};
use super::request::Resource;
use crate::preview::AgentId;

/// All kept bodies together stay below this; the oldest entries make room.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// Headers that `Debug` and the control interface do not show.
const SECRET_HEADERS: [&str; 6] =
    ["guid", "set-guid", "cookie", "service_token", "authorization", "proxy-authorization"];

/// One request that arrived.
#[derive(Clone)]
pub struct JournalEntry {
    /// The target in its original spelling.
    pub method: String,
    /// Path and query, as they were spelled.
    pub target: String,
    /// The path as a Java server resolves it: parameters, percent-encoding and dot segments gone. `None` when it
    /// would refuse it.
    pub resolved_path: Option<String>,
    /// The agent in the path.
    pub agent: Option<AgentId>,
    /// In order, names as they were spelled.
    pub headers: Vec<(String, Bytes)>,
    /// The body without transfer coding; only the first 256 KiB.
    pub body: Bytes,
    /// The length of the whole body, as far as it arrived.
    pub body_length: u64,
    /// Whether the whole body arrived.
    pub complete: bool,
    /// The address of the client.
    pub peer: SocketAddr,
    /// When it was read completely.
    pub time: SystemTime,
}

impl JournalEntry {
    pub(super) fn new(head: &Head, resource: Option<&Resource>, peer: SocketAddr) -> Self {
        Self {
            method: head.method.clone(),
            target: head.target.clone(),
            resolved_path: resource.map(Resource::path),
            agent: resource.and_then(Resource::agent),
            headers: head.headers.clone(),
            body: Bytes::new(),
            body_length: 0,
            complete: false,
            peer,
            time: SystemTime::now(),
        }
    }

    /// The first header of this name, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Whether this would make a telephone ring: its path, raw or resolved, ends in `previewCallout`.
    pub fn is_callout(&self) -> bool {
        let raw = self.target.split('?').next().unwrap_or_default();
        let names_it = |path: &str| {
            let last = path.rsplit('/').next().unwrap_or_default();
            last.eq_ignore_ascii_case("previewCallout")
        };
        names_it(raw) || self.resolved_path.as_deref().is_some_and(names_it)
    }

    /// The headers as text, credentials replaced.
    pub fn redacted_headers(&self) -> Vec<(String, String)> {
        let shown = |name: &str, value: &Bytes| match SECRET_HEADERS.iter().any(|s| s.eq_ignore_ascii_case(name)) {
            true => "[redacted]".to_owned(),
            false => String::from_utf8_lossy(value).into_owned(),
        };
        self.headers.iter().map(|(name, value)| (name.clone(), shown(name, value))).collect()
    }
}

impl fmt::Debug for JournalEntry {
    /// No credential and no body: bodies hold passwords and telephone numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalEntry")
            .field("method", &self.method)
            .field("target", &self.target)
            .field("headers", &self.redacted_headers())
            .field("body_length", &self.body_length)
            .field("complete", &self.complete)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// One push of events, and its outcome.
#[derive(Clone, Debug)]
pub struct PushDelivery {
    /// The agent of the session.
    pub agent: AgentId,
    /// The address of the application.
    pub uri: String,
    /// The number of events in it.
    pub events: usize,
    /// The HTTP status and body of the application's response, or why there is none.
    pub answer: Result<(u16, Bytes), String>,
}

/// The entries, newest last, bounded in number and in bytes.
pub(super) struct Journal {
    kept: Mutex<Kept>,
    limit: usize,
    /// The number of entries ever written.
    pub(super) written: watch::Sender<u64>,
}

#[derive(Default)]
struct Kept {
    entries: VecDeque<Arc<JournalEntry>>,
    body_bytes: usize,
}

impl Journal {
    pub(super) fn new(limit: usize) -> Self {
        Self { kept: Mutex::default(), limit, written: watch::Sender::new(0) }
    }

    pub(super) fn push(&self, entry: JournalEntry) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.body_bytes += entry.body.len();
        kept.entries.push_back(Arc::new(entry));
        while kept.entries.len() > self.limit || kept.body_bytes > MAX_BODY_BYTES {
            let Some(oldest) = kept.entries.pop_front() else { break };
            kept.body_bytes -= oldest.body.len();
        }
        // Under the lock, so that a caller that waits for the n-th entry finds it.
        self.written.send_modify(|written| *written += 1);
    }

    pub(super) fn entries(&self) -> Vec<Arc<JournalEntry>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).entries.iter().cloned().collect()
    }

    /// Takes all entries. No entry is lost between reading and clearing.
    pub(super) fn take(&self) -> Vec<Arc<JournalEntry>> {
        std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner)).entries.into()
    }

    pub(super) fn clear(&self) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Kept::default();
    }
}
