//! Callouts with `calls_per_number = 1`: at most one is forwarded.

use super::super::record::{Record, SessionRelation, TimedChange};
use super::super::replicas::Replica;
use super::world::{BOUNDS, Guarantee, PREVIEW, Paused, Step, World};
use crate::preview::{AgentPreviews, Change, CountedCall, DialedNumber, RecordId};

pub(super) fn number_of_preview() -> DialedNumber {
    DialedNumber::new("1")
}

impl World {
    pub(super) fn steps_of_calls(&self, number: usize, may_pause: bool, may_be_cut_off: bool, steps: &mut Vec<Step>) {
        let gateway = &self.gateways[number];
        // A gateway with changes writes these first.
        let is_ready = gateway.outbox.is_empty() || !gateway.connected;
        if self.calls >= self.max_calls || !is_ready || !self.permits(number) {
            return;
        }
        steps.push(Step::Calls(number));
        if gateway.connected && may_pause {
            steps.push(Step::PausesInCall(number));
        }
        if gateway.connected && may_be_cut_off {
            steps.push(Step::CallsUnknowingly(number));
        }
    }

    /// The state by which a call is judged: Redis's and the replica's.
    fn judged(&self, number: usize) -> Option<Replica> {
        let gateway = &self.gateways[number];
        let mut record = gateway.replica.record.clone();
        if !gateway.connected {
            record.apply_all(&self.pending(number), BOUNDS);
            return (self.guarantee == Guarantee::Available).then_some(Replica { tag: String::new(), record });
        }
        let (tag, present) = self.redis.clone().unwrap_or_default();
        record.merge(&present);
        Some(Replica { tag, record })
    }

    fn permits(&self, number: usize) -> bool {
        let permitted = |previews: &AgentPreviews| {
            previews.find(PREVIEW).is_some_and(|preview| !preview.calls.is_used(&number_of_preview(), 1))
        };
        let judged = self.judged(number).map(|replica| replica.record.previews(BOUNDS));
        let is_lost = self.guarantee == Guarantee::Strict && self.redis.is_none();
        judged.is_some_and(|previews| permitted(&previews)) && !is_lost
    }

    /// The present call, as a change.
    fn call(&self, number: usize) -> TimedChange {
        let (id, at) = (RecordId { run: 1, number: self.calls }, self.now(number));
        let call = CountedCall { number: number_of_preview(), id, at };
        TimedChange::new(Change::Called(PREVIEW, call), at, SessionRelation::Any)
    }

    /// A callout is judged, counted and forwarded, or refused.
    pub(super) fn calls(&mut self, number: usize) {
        self.calls += 1;
        if !self.permits(number) {
            return;
        }
        self.forwarded += 1;
        match self.judged(number) {
            Some(judged) if self.gateways[number].connected => self.counts(number, judged.record),
            _ => {
                let call = self.call(number);
                self.gateways[number].outbox.push(call);
            }
        }
    }

    /// Redis counts the present call.
    pub(super) fn counts(&mut self, number: usize, mut record: Record) {
        record.apply_all(&[self.call(number)], BOUNDS);
        let tag = self.put(record.clone(), number);
        self.gateways[number].replica.learn(&tag, &record, BOUNDS);
    }

    /// Redis counts the call, and the gateway does not learn of it: *strict* refuses the callout and gives it back, and
    /// *available* judges by what it knows itself.
    pub(super) fn calls_unknowingly(&mut self, number: usize) {
        self.calls += 1;
        let Some(judged) = self.judged(number) else { return };
        let (call, mut record) = (self.call(number), judged.record);
        record.apply_all(std::slice::from_ref(&call), BOUNDS);
        self.put(record, number);
        self.is_cut_off(number);
        let id = RecordId { run: 1, number: self.calls };
        if self.guarantee == Guarantee::Available && self.permits(number) {
            self.forwarded += 1;
            self.gateways[number].outbox.push(call);
        } else {
            let returned = TimedChange::new(Change::CallReturned(PREVIEW, id), self.now(number), SessionRelation::Any);
            self.gateways[number].outbox.push(returned);
        }
    }

    pub(super) fn pauses_in_call(&mut self, number: usize) {
        self.calls += 1;
        self.stands_still(number);
        self.gateways[number].paused = self.judged(number).map(Paused::Call);
    }

    /// The number was called more often than `calls_per_number` permits.
    pub(super) fn called_too_often(&self) -> Option<u32> {
        (self.forwarded > 1).then_some(self.forwarded)
    }
}
