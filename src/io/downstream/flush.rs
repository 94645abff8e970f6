//! Callbacks that wait until the bytes of a response have reached the socket.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use smallvec::SmallVec;

/// Called once: with `true` when the bytes are in the socket, with `false` when they cannot get there any more.
type Callback = Box<dyn FnOnce(bool) + Send>;

/// The callbacks of one connection.
#[derive(Default)]
pub(super) struct FlushCallbacks {
    /// Read before each flush, so that a flush without callbacks takes no lock.
    any: AtomicBool,
    /// A response has one at most, so it takes no memory of its own.
    waiting: Mutex<SmallVec<[Callback; 1]>>,
}

impl fmt::Debug for FlushCallbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FlushCallbacks")
    }
}

impl FlushCallbacks {
    /// `callback` waits for what was written up to now.
    pub(super) fn add(&self, callback: Callback) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(callback);
        self.any.store(true, Ordering::Release);
    }

    /// Everything that was written is in the socket, or never will be.
    pub(super) fn flushed(&self, reached: bool) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let callbacks = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            self.any.store(false, Ordering::Release);
            std::mem::take(&mut *waiting)
        };
        callbacks.into_iter().for_each(|callback| callback(reached));
    }
}

/// When the connection ends, the remaining callbacks are called with `false`.
impl Drop for FlushCallbacks {
    fn drop(&mut self) {
        self.flushed(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn each_callback_is_called_once() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let callbacks = FlushCallbacks::default();
        let wait = |name: &'static str| {
            let seen = Arc::clone(&seen);
            callbacks.add(Box::new(move |reached| seen.lock().unwrap().push((name, reached))));
        };
        callbacks.flushed(true);
        wait("one");
        wait("two");
        callbacks.flushed(true);
        wait("three");
        callbacks.flushed(false);
        callbacks.flushed(true);
        wait("four");
        drop(callbacks);
        assert_eq!(*seen.lock().unwrap(), [("one", true), ("two", true), ("three", false), ("four", false)]);
    }
}
