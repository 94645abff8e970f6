//! Requests that wait until an endpoint can be reached. Thousands may wait: one of them at a time tries to connect, and its
//! success wakes the others.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// The pause before the second attempt. Each later one is twice as long, up to the longest.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Requests that wait until an endpoint can be reached.
#[derive(Debug)]
pub(super) struct Reconnection {
    /// Who may try.
    turn: Semaphore,
    restored: Notify,
}

impl Default for Reconnection {
    fn default() -> Self {
        Self { turn: Semaphore::new(1), restored: Notify::new() }
    }
}

impl Reconnection {
    /// An endpoint has been reached: whatever waits should try now.
    pub(super) fn restored(&self) {
        self.restored.notify_waiters();
    }

    /// Waits until an endpoint has been reached, or until it is this request's turn to try. `None` when neither has
    /// happened before `deadline`.
    pub(super) async fn chance(&self, pause: &mut Duration, deadline: Instant) -> Option<Chance<'_>> {
        let mut restored = pin!(self.restored.notified());
        loop {
            let next = Instant::now() + *pause;
            *pause = (*pause * 2).min(LONGEST_PAUSE);
            tokio::select! {
                () = restored.as_mut() => return Some(Chance { _turn: None }),
                () = tokio::time::sleep_until(next.min(deadline)) => {}
            }
            if Instant::now() >= deadline {
                return None;
            }
            if let Ok(turn) = self.turn.try_acquire() {
                return Some(Chance { _turn: Some(turn) });
            }
        }
    }
}

/// A request that waited may try again: an endpoint has been reached, or it is this request's turn to find out.
pub(super) struct Chance<'a> {
    _turn: Option<SemaphorePermit<'a>>,
}
