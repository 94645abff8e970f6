//! The number of requests in flight, by kind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::clients::ClientPlace;

/// The number of requests in flight, in all workers together.
#[derive(Debug, Default)]
pub struct Load {
    held_polls: AtomicUsize,
    requests: AtomicUsize,
}

/// A place among the requests in flight, held until this is dropped.
pub(super) struct Permit {
    load: Arc<Load>,
    kind: Kind,
    _of_client: Option<ClientPlace>,
}

/// What a place is for.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    HeldPoll,
    Request,
}

impl Load {
    /// Polls that the upstream has not answered yet.
    pub fn held_polls(&self) -> usize {
        self.held_polls.load(Ordering::Relaxed)
    }

    fn counter(&self, kind: Kind) -> &AtomicUsize {
        match kind {
            Kind::HeldPoll => &self.held_polls,
            Kind::Request => &self.requests,
        }
    }

    /// Takes a place of this kind; `None` if `max` are taken.
    pub(super) fn enter(self: &Arc<Self>, kind: Kind, max: usize) -> Option<Permit> {
        let permit = Permit { load: Arc::clone(self), kind, _of_client: None };
        let before = self.counter(kind).fetch_add(1, Ordering::Relaxed);
        (before < max).then_some(permit)
    }
}

impl Permit {
    /// Also holds the place of the client.
    pub(super) fn with(self, place: Option<ClientPlace>) -> Self {
        let mut permit = self;
        permit._of_client = place;
        permit
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.load.counter(self.kind).fetch_sub(1, Ordering::Relaxed);
    }
}
