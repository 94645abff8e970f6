//! A sign-in, as far as it changes the state of its agent (docs/protocol.md 7).

use super::moment::{LedgerTime, Moment};
use crate::preview::Change;

/// A sign-in that succeeded.
#[derive(Clone, Copy, Debug)]
pub struct SignIn<'a> {
    /// When the gateway began to forward it.
    pub began: Moment,
    /// The sign-in asked for push through this gateway. The first push of the new session may arrive before the answer
    /// to its sign-in, so what was shown since `began` stays.
    pub pushes: bool,
    /// The GUID of the new session (`Set-GUID` of the answer), where it is known.
    pub session: Option<&'a [u8]>,
}

impl SignIn<'_> {
    /// What it ends.
    pub(super) fn change(&self, time: &LedgerTime) -> Change {
        if self.pushes { Change::EndedBefore(time.of(self.began)) } else { Change::Ended }
    }

    /// What was pushed before this belongs to the session before. `now` is when the answer to the sign-in was read.
    pub(super) fn pushes_since(&self, now: Moment) -> Moment {
        if self.pushes { self.began } else { now }
    }
}
