//! What clients saw, and the rules that it must obey.

use tokio::time::{Duration, Instant};

/// What happened to one agent, in the order of its events.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Events of the platform; the next begins when the client has the one before.
    events: Vec<Event>,
    calls: Vec<Call>,
}

/// The platform showed or released a preview.
#[derive(Debug)]
struct Event {
    /// The preview; none for a release.
    shown: Option<i64>,
    /// From when the platform sent it, to when the client had it.
    began: Instant,
    known: Option<Instant>,
    /// No gateway knows it any more, perhaps: the only one that did has crashed, and could not share it before.
    perhaps_lost: bool,
}

#[derive(Debug)]
struct Call {
    control_id: i64,
    began: Instant,
    ended: Instant,
    forwarded: bool,
    #[allow(dead_code, reason = "shown when a call was wrong")]
    through: usize,
}

impl History {
    pub(crate) fn begins(&mut self, shown: Option<i64>) {
        self.events.push(Event { shown, began: Instant::now(), known: None, perhaps_lost: false });
    }

    /// The client has the last event.
    pub(crate) fn is_known(&mut self) {
        if let Some(event) = self.events.last_mut() {
            event.known = Some(Instant::now());
        }
    }

    /// The place of the last event.
    pub(crate) fn last(&self) -> usize {
        self.events.len() - 1
    }

    /// This event may be lost from now on.
    pub(crate) fn is_perhaps_lost(&mut self, event: usize) {
        self.events[event].perhaps_lost = true;
    }

    pub(crate) fn called(&mut self, control_id: i64, began: Instant, forwarded: bool, through: usize) {
        self.calls.push(Call { control_id, began, ended: Instant::now(), forwarded, through });
    }

    /// The preview that was shown last, whether or not it was released.
    pub(crate) fn last_shown(&self) -> Option<i64> {
        self.events.iter().filter_map(|event| event.shown).max()
    }

    /// When a client knew that this preview was shown.
    pub(crate) fn shown_at(&self, control_id: i64) -> Option<Instant> {
        self.events.iter().find(|event| event.shown == Some(control_id)).and_then(|event| event.known)
    }

    /// Whether the last event was a release.
    pub(crate) fn is_released(&self) -> bool {
        self.events.last().is_some_and(|event| event.shown.is_none())
    }

    pub(crate) fn forwarded(&self) -> usize {
        self.calls.iter().filter(|call| call.forwarded).count()
    }

    /// Calls that were forwarded although no order of events allows it, outside of `excused`.
    pub(crate) fn wrong_forwards(&self, excused: impl Fn(Instant, Instant) -> bool) -> Vec<String> {
        let wrong = |call: &&Call| call.forwarded && !self.may_be_shown(call) && !excused(call.began, call.ended);
        self.calls.iter().filter(wrong).map(|call| format!("forwarded: {call:?} of {:#?}", self.events)).collect()
    }

    /// Calls that were refused although every order of events forwards them, outside of `excused`.
    pub(crate) fn wrong_refusals(&self, excused: impl Fn(Instant, Instant) -> bool) -> Vec<String> {
        let wrong = |call: &&Call| !call.forwarded && !self.may_be_over(call) && !excused(call.began, call.ended);
        self.calls.iter().filter(wrong).map(|call| format!("refused: {call:?} of {:#?}", self.events)).collect()
    }

    /// The states that a call may have met: what the last event before it left, and each event that overlaps it. If that last
    /// event may be lost, also what the one before it left.
    fn met(&self, call: &Call) -> Vec<Option<i64>> {
        let known = |event: &&Event| event.known.is_some_and(|known| known <= call.began);
        let before: Vec<_> = self.events.iter().take_while(known).collect();
        let lost = before.iter().rev().take_while(|event| event.perhaps_lost).count();
        let mut met: Vec<_> = before.iter().rev().take(lost + 1).map(|event| event.shown).collect();
        if lost == before.len() {
            met.push(None);
        }
        let after = self.events.iter().skip_while(known).take_while(|event| event.began <= call.ended);
        met.extend(after.map(|event| event.shown));
        met
    }

    fn may_be_shown(&self, call: &Call) -> bool {
        self.met(call).contains(&Some(call.control_id))
    }

    fn may_be_over(&self, call: &Call) -> bool {
        self.met(call).iter().any(|state| *state != Some(call.control_id))
    }
}

/// The times at which something was wrong, and for how long afterwards it may be felt.
#[derive(Debug, Default)]
pub(crate) struct Troubles(Vec<(Instant, Instant)>);

impl Troubles {
    pub(crate) fn add(&mut self, began: Instant, healed: Instant) {
        self.0.push((began, healed));
    }

    pub(crate) fn touch(&self, began: Instant, ended: Instant, aftermath: Duration) -> bool {
        self.0.iter().any(|(from, to)| *from <= ended && began <= *to + aftermath)
    }
}
