//! Announces checkpoints in the log of the gateway, as soon as the disk has their lines.
//!
//! That log goes elsewhere, so that each announcement is an anchor. With `audit.durability = "written"` the lines are in the
//! memory of the operating system first. If the power failed then, the anchor would name lines that are lost, and an honest
//! log would seem to be cut off. So a thread of its own waits for the disk. No callout waits for that thread, and none waits
//! longer because that thread does.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::disk::LaterSync;
use super::open_segment::Announcement;

/// Publishes an announcement.
type Publish = Arc<dyn Fn(Announcement) + Send + Sync>;

/// The writer's side.
pub(super) struct Announcer {
    shared: Arc<Shared>,
    publish: Publish,
    has_thread: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The latest checkpoint that is not announced yet, and how to wait for its lines.
    waiting: Option<(Announcement, LaterSync)>,
    ended: bool,
}

impl Announcer {
    pub(super) fn new(publish: impl Fn(Announcement) + Send + Sync + 'static) -> Self {
        Self { shared: Arc::default(), publish: Arc::new(publish), has_thread: false }
    }

    /// The disk has the lines of this checkpoint.
    pub(super) fn announce(&self, checkpoint: Announcement) {
        (self.publish)(checkpoint);
    }

    /// Announces this checkpoint when `sync` says that the disk has its lines. It replaces an earlier one that still waits: a
    /// checkpoint seals all lines before it.
    ///
    /// # Errors
    /// When the system refuses another file or thread. Then the checkpoint is not announced; a later one is.
    pub(super) fn announce_later(&mut self, checkpoint: Announcement, sync: LaterSync) -> io::Result<()> {
        if !self.has_thread {
            let (shared, publish) = (Arc::clone(&self.shared), Arc::clone(&self.publish));
            let dispatch = tracing::dispatcher::get_default(Clone::clone);
            // It is never waited for: it may hang in a disk.
            thread::Builder::new().name("audit-anchor".into()).spawn(move || {
                let _log = tracing::dispatcher::set_default(&dispatch);
                shared.run(&publish);
            })?;
            self.has_thread = true;
        }
        self.shared.lock().waiting = Some((checkpoint, sync));
        self.shared.changed.notify_one();
        Ok(())
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn run(&self, publish: &Publish) {
        while let Some((checkpoint, sync)) = self.next() {
            match sync() {
                Ok(()) => publish(checkpoint),
                Err(error) => {
                    tracing::warn!(target: "previewgate::audit", %error, "a checkpoint is not announced: the disk may not have it");
                }
            }
        }
    }

    fn next(&self) -> Option<(Announcement, LaterSync)> {
        let state = self.lock();
        let waited = self.changed.wait_while(state, |state| state.waiting.is_none() && !state.ended);
        waited.unwrap_or_else(PoisonError::into_inner).waiting.take()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
