//! Connections of one worker that wait for their next request.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::connect::Sender;

/// Connections that are looked at in vain before a new one is opened.
const MOST_PASSED_OVER: usize = 8;

/// Idle connections to one endpoint, the most recently used last.
pub(super) struct Pool {
    idle: Mutex<Vec<Idle>>,
    /// Nobody will take from it any more.
    retired: AtomicBool,
    most: usize,
    idle_timeout: Duration,
}

struct Idle {
    sender: Sender,
    since: Instant,
}

impl Pool {
    pub(super) fn new(most: usize, idle_timeout: Duration) -> Arc<Self> {
        Arc::new(Self { idle: Mutex::new(Vec::new()), retired: AtomicBool::new(false), most, idle_timeout })
    }

    /// The most recently used connection that can take a request. Looks at the newest few only, however many there
    /// are: two thousand polls that end together must not each look through two thousand connections.
    ///
    /// A connection is given back when its last answer has been read, which can be a moment before hyper has seen to
    /// it that the connection is clean; until then it is passed over.
    pub(super) fn take(&self) -> Option<Sender> {
        let now = Instant::now();
        let mut idle = self.lock();
        let mut not_yet_clean = 0;
        while not_yet_clean < MOST_PASSED_OVER {
            let position = idle.len().checked_sub(1 + not_yet_clean)?;
            let connection = idle.get(position)?;
            if !self.is_good(connection, now) {
                idle.swap_remove(position);
            } else if connection.sender.is_ready() {
                return Some(idle.swap_remove(position).sender);
            } else {
                not_yet_clean += 1;
            }
        }
        None
    }

    /// Closes what has been idle for too long. Without it, unused connections would stay until the upstream closes.
    pub(super) fn expire(&self) {
        let now = Instant::now();
        self.lock().retain(|connection| self.is_good(connection, now));
    }

    /// Closes what is idle, and from now on whatever is given back.
    pub(super) fn retire(&self) {
        let mut idle = self.lock();
        self.retired.store(true, Ordering::Relaxed);
        idle.clear();
    }

    fn is_good(&self, connection: &Idle, now: Instant) -> bool {
        !connection.sender.is_closed() && now.duration_since(connection.since) < self.idle_timeout
    }

    fn put(&self, sender: Sender) {
        let mut idle = self.lock();
        if idle.len() < self.most && !sender.is_closed() && !self.retired.load(Ordering::Relaxed) {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        // The list is whole between any two statements that hold the lock.
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
    /// The answer has been read to its end: the connection may be used again.
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
