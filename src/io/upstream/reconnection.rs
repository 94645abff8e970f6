//! Requests that wait until an endpoint can be reached. Thousands may wait: one of them at a time tries to connect, and its
//! success wakes the others.

use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// The pause before the second attempt. Each later one is twice as long, up to the longest.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The shortest time between the beginnings of two attempts.
const GAP: Duration = Duration::from_millis(50);

/// Requests that wait until an endpoint can be reached.
#[derive(Debug)]
pub(super) struct Reconnection {
    /// The right to try.
    turn: Semaphore,
    /// When the next attempt may begin. A refused attempt takes almost no time, so one at a time is not enough.
    next: Mutex<Instant>,
    restored: Notify,
}

impl Default for Reconnection {
    fn default() -> Self {
        Self { turn: Semaphore::new(1), next: Mutex::new(Instant::now()), restored: Notify::new() }
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
            if let Some(turn) = self.try_turn() {
                return Some(Chance { _turn: Some(turn) });
            }
        }
    }

    fn try_turn(&self) -> Option<SemaphorePermit<'_>> {
        let now = Instant::now();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = if now < *next { None } else { self.turn.try_acquire().ok() };
        if turn.is_some() {
            *next = now + GAP;
        }
        turn
    }
}

/// A request that waited may try again: an endpoint has been reached, or it is this request's turn to find out.
pub(super) struct Chance<'a> {
    _turn: Option<SemaphorePermit<'a>>,
}
