//! Connections of one worker that wait for their next request.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::connect::Sender;

/// Connections that are not ready and are skipped before a new one is opened.
const MAX_SKIPPED: usize = 8;

/// Idle connections to one endpoint, the most recently used last.
pub(super) struct Pool {
    idle: Mutex<Vec<Idle>>,
    /// No request will take a connection from it any more.
    retired: AtomicBool,
    max_idle: usize,
    idle_timeout: Duration,
}

struct Idle {
    sender: Sender,
    since: Instant,
}

impl Pool {
    pub(super) fn new(max_idle: usize, idle_timeout: Duration) -> Arc<Self> {
        Arc::new(Self { idle: Mutex::new(Vec::new()), retired: AtomicBool::new(false), max_idle, idle_timeout })
    }

    /// The most recently used connection that can take a request at `now`. It looks only at the newest few, however many there
    /// are: if two thousand polls end together, each must not search two thousand connections.
    ///
    /// A connection is given back when its last response has been read. hyper may need a moment longer to make it ready
    /// for the next request; until then it is skipped.
    pub(super) fn take(&self, now: Instant) -> Option<Sender> {
        let mut idle = self.lock();
        let mut skipped = 0;
        while skipped < MAX_SKIPPED {
            let position = idle.len().checked_sub(1 + skipped)?;
            let connection = idle.get(position)?;
            if !self.is_good(connection, now) {
                idle.swap_remove(position);
            } else if connection.sender.http.is_ready() {
                return Some(idle.swap_remove(position).sender);
            } else {
                skipped += 1;
            }
        }
        None
    }

    /// Closes connections that have been idle for too long. Without this, they would stay until the upstream closes them.
    pub(super) fn expire(&self) {
        let now = Instant::now();
        self.lock().retain(|connection| self.is_good(connection, now));
    }

    /// Closes the idle connections, and from now on every connection that is given back.
    pub(super) fn retire(&self) {
        let mut idle = self.lock();
        self.retired.store(true, Ordering::Relaxed);
        idle.clear();
    }

    fn is_good(&self, connection: &Idle, now: Instant) -> bool {
        !connection.sender.http.is_closed() && now.duration_since(connection.since) < self.idle_timeout
    }

    fn put(&self, sender: Sender) {
        let mut idle = self.lock();
        if idle.len() < self.max_idle && !sender.http.is_closed() && !self.retired.load(Ordering::Relaxed) {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        // The list is consistent between any two statements that hold the lock.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in use. Dropping it closes the connection.
pub(super) struct Lease {
    pub(super) sender: Sender,
    pub(super) pool: Arc<Pool>,
    /// Whether another request may follow.
    pub(super) reusable: bool,
}

impl Lease {
    /// The response has been read to its end: the connection may be used again.
    pub(super) fn give_back(self) {
        if self.reusable {
            self.pool.put(self.sender);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lease")
    }
}
