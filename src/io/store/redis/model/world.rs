//! The states and steps of the model: gateways, one Redis, and one agent with one preview.

use std::time::Duration;

use super::super::record::{AtOnce, Record, SessionRelation, TimedChange};
use super::super::replicas::Replica;
use super::counting::number_of_preview;
use crate::preview::{Announcement, Bounds, Change, ControlId, Timestamp};

pub(super) const BOUNDS: Bounds = Bounds { per_agent: 4 };
pub(super) const PREVIEW: ControlId = ControlId(7);
/// How far the clock of the second gateway is behind, with [`Fault::Clocks`].
const SKEW: u64 = 1500;
/// How long a gateway is paused: longer than anything that it holds.
const PAUSE: u64 = 60_000;
const CHANGE_AT_ONCE: Duration = Duration::from_millis(400);
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// What is chosen by configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Guarantee {
    /// `on_store_failure = "local"`
    Available,
    /// `on_store_failure = "reject"`, `on_end_timeout = "fail"`
    Strict,
}

/// What may go wrong in one search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fault {
    /// A gateway cannot reach Redis for a while. A write may have been executed although its answer was lost.
    CutOff,
    /// A gateway is killed and started again. Its journal survives.
    Kill,
    /// Redis is empty.
    MemoryLost,
    /// Redis goes back to an earlier state: a replica becomes the master before it has the last writes.
    Failover,
    /// The clocks of the gateways differ by more than the time between two events.
    Clocks,
    /// A gateway stands still between reading and writing, and then goes on. Its clients give up meanwhile.
    Pause,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Gateway {
    /// Redis can be reached.
    pub(super) connected: bool,
    pub(super) replica: Replica,
    pub(super) outbox: Vec<TimedChange>,
    /// Everything is to be compared with Redis.
    must_heal: bool,
    /// What others have written, and is on its way.
    broadcasts: Vec<(String, Record)>,
    /// An answer with this event has not reached its client.
    pub(super) held: Option<Event>,
    /// The write of that answer was tried.
    tried: bool,
    pub(super) paused: Option<Paused>,
}

/// What a gateway that is paused was about to send.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Paused {
    /// These changes, on top of what it took for Redis's state.
    Write(Replica, Vec<TimedChange>),
    /// A call that was judged by this state.
    Call(Replica),
}

/// What the platform tells an agent's client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Event {
    Shown,
    Ended,
    /// In one answer: everything ends, and the preview is shown anew.
    ShownAnew,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) guarantee: Guarantee,
    pub(super) gateways: [Gateway; 2],
    /// Tag and state, if Redis knows the agent.
    pub(super) redis: Option<(String, Record)>,
    /// What a replica of Redis has.
    replicated: Option<(String, Record)>,
    writes: u32,
    events: Vec<Event>,
    /// The client has the answer with the last event.
    acknowledged: bool,
    faults: u32,
    clocks: bool,
    /// Events of the platform are this far apart, in milliseconds.
    interval: u64,
    /// How long gateways were paused, in milliseconds.
    paused_for: u64,
    /// Callouts so far, and those of them that were forwarded. Only with `calls_per_number = 1`.
    pub(super) calls: u64,
    pub(super) forwarded: u32,
    pub(super) max_calls: u64,
}

/// One step, with the gateway that takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    Happens(Event, usize),
    Writes(usize),
    /// Redis executes the write, and its answer is lost with the connection.
    WritesUnknowingly(usize),
    /// A write is tried that cannot reach Redis.
    Fails(usize),
    Answers(usize),
    Hears(usize),
    Heals(usize),
    Replicates,
    IsCutOff(usize),
    IsConnected(usize),
    IsKilled(usize),
    LosesMemory,
    FailsOver,
    Pauses(usize),
    PausesInCall(usize),
    Resumes(usize),
    Calls(usize),
    /// Redis counts the call, and its answer is lost with the connection.
    CallsUnknowingly(usize),
}

impl World {
    pub(super) fn new(guarantee: Guarantee, faults: &[Fault], interval: u64) -> Self {
        let gateway = Gateway { connected: true, ..Gateway::default() };
        let clocks = faults.contains(&Fault::Clocks);
        let gateways = [gateway.clone(), gateway];
        let (events, redis, replicated) = (Vec::new(), None, None);
        let (writes, faults, acknowledged) = (0, 0, false);
        let (paused_for, calls, forwarded, max_calls) = (0, 0, 0, 0);
        Self {
            guarantee,
            gateways,
            redis,
            replicated,
            writes,
            events,
            acknowledged,
            faults,
            clocks,
            interval,
            paused_for,
            calls,
            forwarded,
            max_calls,
        }
    }

    /// The same; up to `max_calls` callouts are made, of which one is permitted (`calls_per_number = 1`).
    pub(super) fn counting(self, max_calls: u64) -> Self {
        Self { max_calls, ..self }
    }

    /// The steps that are possible, with `max_events` events and `max_faults` faults in all.
    pub(super) fn steps(&self, faults: &[Fault], max_events: usize, max_faults: u32) -> Vec<Step> {
        let may = |fault| faults.contains(&fault) && self.faults < max_faults;
        let mut steps = Vec::new();
        for (number, gateway) in self.gateways.iter().enumerate() {
            if gateway.paused.is_some() {
                steps.push(Step::Resumes(number));
                continue;
            }
            self.steps_of_calls(number, may(Fault::Pause), may(Fault::CutOff), &mut steps);
            let others_wait = self.gateways.iter().any(|gateway| gateway.held.is_some());
            if self.events.len() < max_events && !others_wait {
                match self.events.last() {
                    None | Some(Event::Ended) => steps.push(Step::Happens(Event::Shown, number)),
                    Some(Event::Shown | Event::ShownAnew) => {
                        steps.extend([Event::Ended, Event::ShownAnew].map(|event| Step::Happens(event, number)));
                    }
                }
            }
            if gateway.connected {
                if !gateway.outbox.is_empty() {
                    steps.push(Step::Writes(number));
                    if may(Fault::Pause) {
                        steps.push(Step::Pauses(number));
                    }
                    if may(Fault::CutOff) {
                        steps.push(Step::WritesUnknowingly(number));
                    }
                }
                if gateway.must_heal {
                    steps.push(Step::Heals(number));
                }
                if !gateway.broadcasts.is_empty() {
                    steps.push(Step::Hears(number));
                }
                if may(Fault::CutOff) {
                    steps.push(Step::IsCutOff(number));
                }
            } else {
                steps.push(Step::IsConnected(number));
                if gateway.held.is_some() && !gateway.tried {
                    steps.push(Step::Fails(number));
                }
            }
            if gateway.held.is_some() && self.may_answer(gateway) {
                steps.push(Step::Answers(number));
            }
            if may(Fault::Kill) {
                steps.push(Step::IsKilled(number));
            }
        }
        if may(Fault::MemoryLost) && self.redis.is_some() {
            steps.push(Step::LosesMemory);
        }
        if may(Fault::Failover) && self.replicated != self.redis {
            steps.extend([Step::Replicates, Step::FailsOver]);
        }
        steps
    }

    /// Whether an answer may reach its client: after its write was tried, or with *strict* and an end, after it is stored.
    fn may_answer(&self, gateway: &Gateway) -> bool {
        match (self.guarantee, gateway.held) {
            (Guarantee::Strict, Some(Event::Ended | Event::ShownAnew)) => {
                !gateway.outbox.iter().any(TimedChange::is_end)
            }
            _ => gateway.tried || gateway.outbox.is_empty(),
        }
    }

    pub(super) fn after(&self, step: Step) -> Self {
        let mut next = self.clone();
        match step {
            Step::Happens(event, number) => next.happens(event, number),
            Step::Writes(number) => next.writes(number, true),
            Step::WritesUnknowingly(number) => {
                next.writes(number, false);
                next.is_cut_off(number);
            }
            Step::Fails(number) => {
                next.gateways[number].tried = true;
                next.gateways[number].outbox.iter_mut().for_each(|change| change.late = true);
            }
            Step::Answers(number) => {
                next.gateways[number].held = None;
                next.acknowledged = true;
            }
            Step::Hears(number) => {
                let gateway = &mut next.gateways[number];
                let (tag, record) = gateway.broadcasts.remove(0);
                gateway.replica.learn(&tag, &record, BOUNDS);
            }
            Step::Heals(number) => next.heals(number),
            Step::Replicates => next.replicated = next.redis.clone(),
            Step::IsCutOff(number) => next.is_cut_off(number),
            Step::IsConnected(number) => {
                next.gateways[number].connected = true;
                next.gateways[number].must_heal = true;
            }
            Step::IsKilled(number) => next.is_killed(number),
            Step::LosesMemory => next.loses(None),
            Step::FailsOver => next.loses(next.replicated.clone()),
            Step::Pauses(number) => next.pauses(number),
            Step::PausesInCall(number) => next.pauses_in_call(number),
            Step::Resumes(number) => next.resumes(number),
            Step::Calls(number) => next.calls(number),
            Step::CallsUnknowingly(number) => next.calls_unknowingly(number),
        }
        next
    }

    fn happens(&mut self, event: Event, number: usize) {
        self.events.push(event);
        self.acknowledged = false;
        let now = self.now(number);
        let numbers = vec![number_of_preview()];
        let shown = Change::Shown(Announcement { control_id: PREVIEW, numbers, shown: Vec::new() });
        let changes = match event {
            Event::Shown => vec![shown],
            Event::Ended => vec![Change::Cancelled(PREVIEW)],
            Event::ShownAnew => vec![Change::Ended, shown],
        };
        let gateway = &mut self.gateways[number];
        for change in changes {
            let known = gateway.replica.record.latest().unwrap_or(now);
            let before = gateway.outbox.last().map_or(now, |last| Timestamp(last.at.0 + 1));
            let at = now.max(known).max(before);
            let own = gateway.outbox.iter().filter_map(|waiting| waiting.end_of(PREVIEW)).max();
            let known_end = gateway.replica.record.end_of(PREVIEW).max(own);
            let (change, session) = (Some(change), SessionRelation::Any);
            let timed = TimedChange { change, learnt: None, at, seen: now, session, late: false, known_end };
            gateway.outbox.push(timed);
        }
        gateway.held = Some(event);
        gateway.tried = false;
    }

    /// The time by the clock of this gateway.
    pub(super) fn now(&self, number: usize) -> Timestamp {
        let behind = if self.clocks && number == 1 { SKEW } else { 0 };
        Timestamp(10_000 + self.interval * self.events.len() as u64 + self.paused_for - behind)
    }

    /// What this gateway has not written yet, as it counts now.
    pub(super) fn pending(&self, number: usize) -> Vec<TimedChange> {
        self.attempted(&self.gateways[number].outbox, self.now(number))
    }

    fn attempted(&self, changes: &[TimedChange], now: Timestamp) -> Vec<TimedChange> {
        let held_end = (self.guarantee == Guarantee::Strict).then_some(END_TIMEOUT);
        let at_once = AtOnce { change: CHANGE_AT_ONCE, held_end };
        changes.iter().map(|change| change.attempted(now, at_once)).collect()
    }

    /// One attempt to swap the state. `answered`: the gateway learns what became of it.
    fn writes(&mut self, number: usize, answered: bool) {
        let changes = self.gateways[number].outbox.clone();
        self.gateways[number].outbox.iter_mut().for_each(|change| change.late = true);
        let now = self.now(number);
        self.swaps(number, self.gateways[number].replica.clone(), &changes, now, answered);
    }

    /// Redis executes a write that was made at `now`.
    fn swaps(&mut self, number: usize, base: Replica, changes: &[TimedChange], now: Timestamp, answered: bool) {
        let Replica { tag, mut record } = base;
        let present = self.redis.clone().unwrap_or_default();
        if tag == present.0 {
            record.apply_all(&self.attempted(changes, now), BOUNDS);
            for waiting in &mut self.gateways[number].outbox {
                waiting.known_end = waiting.known_end.max(waiting.shows().and_then(|id| record.outlived_by(id)));
            }
            let tag = self.put(record.clone(), number);
            if answered {
                let gateway = &mut self.gateways[number];
                gateway.replica.learn(&tag, &record, BOUNDS);
                gateway.outbox.clear();
                gateway.tried = true;
            }
        } else if answered {
            // Nothing was executed: the changes are as they were, for the next attempt.
            let gateway = &mut self.gateways[number];
            gateway.replica.learn(&present.0, &present.1, BOUNDS);
            let in_time = changes.iter().map(|change| change.late);
            gateway.outbox.iter_mut().zip(in_time).for_each(|(change, late)| change.late = late);
        }
    }

    fn pauses(&mut self, number: usize) {
        self.stands_still(number);
        let gateway = &mut self.gateways[number];
        let changes = gateway.outbox.clone();
        gateway.outbox.iter_mut().for_each(|change| change.late = true);
        gateway.paused = Some(Paused::Write(gateway.replica.clone(), changes));
    }

    /// Time passes, and whoever waited for this gateway has given up.
    pub(super) fn stands_still(&mut self, number: usize) {
        self.faults += 1;
        self.paused_for += PAUSE;
        self.gateways[number].held = None;
    }

    /// Sends what it was about to send.
    fn resumes(&mut self, number: usize) {
        match self.gateways[number].paused.take() {
            Some(Paused::Write(base, changes)) => {
                let before = Timestamp(self.now(number).0 - PAUSE);
                self.swaps(number, base, &changes, before, true);
            }
            Some(Paused::Call(base)) if self.redis.clone().unwrap_or_default().0 == base.tag => {
                self.counts(number, base.record);
                self.forwarded += 1;
            }
            // Another gateway was faster: it judges again.
            Some(Paused::Call(_)) => self.calls(number),
            None => {}
        }
    }

    /// Redis has this record now, and tells the other gateway.
    pub(super) fn put(&mut self, record: Record, by: usize) -> String {
        self.writes += 1;
        let tag = self.writes.to_string();
        self.redis = Some((tag.clone(), record.clone()));
        let other = &mut self.gateways[1 - by];
        if other.connected {
            other.broadcasts.push((tag.clone(), record));
        }
        tag
    }

    fn heals(&mut self, number: usize) {
        let (tag, in_redis) = self.redis.clone().unwrap_or_default();
        let gateway = &mut self.gateways[number];
        gateway.must_heal = false;
        gateway.replica.learn(&tag, &in_redis, BOUNDS);
        let known = gateway.replica.record.clone();
        if known != in_redis {
            let tag = self.put(known.clone(), number);
            self.gateways[number].replica.learn(&tag, &known, BOUNDS);
        }
    }

    pub(super) fn is_cut_off(&mut self, number: usize) {
        self.faults += 1;
        let gateway = &mut self.gateways[number];
        gateway.connected = false;
        gateway.broadcasts.clear();
    }

    fn is_killed(&mut self, number: usize) {
        self.faults += 1;
        let gateway = &mut self.gateways[number];
        let ends = gateway.outbox.drain(..).filter(TimedChange::is_end);
        let outbox = ends.map(|end| TimedChange { late: true, ..end }).collect();
        *gateway = Gateway { connected: true, outbox, must_heal: true, ..Gateway::default() };
    }

    fn loses(&mut self, state: Option<(String, Record)>) {
        self.faults += 1;
        self.redis = state.clone();
        self.replicated = state;
        self.gateways.iter_mut().filter(|gateway| gateway.connected).for_each(|gateway| gateway.must_heal = true);
    }

    /// Whether a callout through this gateway would be forwarded.
    pub(super) fn forwards(&self, number: usize) -> bool {
        let gateway = &self.gateways[number];
        let mut record = gateway.replica.record.clone();
        if gateway.connected {
            let present = self.redis.clone().unwrap_or_default();
            record.merge(&present.1);
        }
        match self.guarantee {
            _ if gateway.paused.is_some() => return false,
            Guarantee::Strict if !gateway.connected => return false,
            Guarantee::Strict if self.redis.is_none() => record.forget_shown(),
            Guarantee::Strict | Guarantee::Available => {}
        }
        record.apply_all(&self.pending(number), BOUNDS);
        record.previews(BOUNDS).find(PREVIEW).is_some()
    }

    /// A gateway that would forward a callout of a preview whose end its client knows.
    pub(super) fn wrong_forward(&self) -> Option<usize> {
        let ended = self.events.last() == Some(&Event::Ended) && self.acknowledged;
        (0..2).find(|number| ended && self.forwards(*number))
    }

    /// Whether nothing is under way any more.
    pub(super) fn is_healed(&self) -> bool {
        let is_quiet = |gateway: &Gateway| {
            let nothing_waits = gateway.outbox.is_empty() && gateway.broadcasts.is_empty() && gateway.held.is_none();
            gateway.connected && nothing_waits && !gateway.must_heal && gateway.paused.is_none()
        };
        self.gateways.iter().all(is_quiet)
    }

    /// A gateway that refuses a callout of a preview that was shown, although everything is healed.
    pub(super) fn wrong_refusal(&self) -> Option<usize> {
        let shown = matches!(self.events.last(), Some(Event::Shown | Event::ShownAnew)) && self.acknowledged;
        (0..2).find(|number| shown && self.is_healed() && !self.forwards(*number))
    }
}
