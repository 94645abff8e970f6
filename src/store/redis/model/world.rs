//! The states and steps of the model: gateways, one Redis, and one agent with one preview.

use super::super::record::{Record, SessionRelation, TimedChange};
use super::super::replicas::Replica;
use crate::preview::{Announcement, Bounds, Change, ControlId, DialedNumber, Timestamp};

const BOUNDS: Bounds = Bounds { per_agent: 4 };
const PREVIEW: ControlId = ControlId(7);
/// How far the clock of the second gateway is behind, with [`Fault::Clocks`].
const SKEW: u64 = 1500;

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
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Gateway {
    /// Redis can be reached.
    connected: bool,
    replica: Replica,
    outbox: Vec<TimedChange>,
    /// Everything is to be compared with Redis.
    must_heal: bool,
    /// What others have written, and is on its way.
    broadcasts: Vec<(String, Record)>,
    /// An answer with this event has not reached its client.
    held: Option<Event>,
    /// The write of that answer was tried.
    tried: bool,
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
    guarantee: Guarantee,
    gateways: [Gateway; 2],
    /// Tag and state, if Redis knows the agent.
    redis: Option<(String, Record)>,
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
}

impl World {
    pub(super) fn new(guarantee: Guarantee, faults: &[Fault], interval: u64) -> Self {
        let gateway = Gateway { connected: true, ..Gateway::default() };
        let clocks = faults.contains(&Fault::Clocks);
        let gateways = [gateway.clone(), gateway];
        let (events, redis, replicated) = (Vec::new(), None, None);
        let (writes, faults, acknowledged) = (0, 0, false);
        Self { guarantee, gateways, redis, replicated, writes, events, acknowledged, faults, clocks, interval }
    }

    /// The steps that are possible, with `max_events` events and `max_faults` faults in all.
    pub(super) fn steps(&self, faults: &[Fault], max_events: usize, max_faults: u32) -> Vec<Step> {
        let may = |fault| faults.contains(&fault) && self.faults < max_faults;
        let mut steps = Vec::new();
        for (number, gateway) in self.gateways.iter().enumerate() {
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
        }
        next
    }

    fn happens(&mut self, event: Event, number: usize) {
        self.events.push(event);
        self.acknowledged = false;
        let behind = if self.clocks && number == 1 { SKEW } else { 0 };
        let now = Timestamp(10_000 + self.interval * self.events.len() as u64 - behind);
        let numbers = vec![DialedNumber::new("1")];
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

    /// One attempt to swap the state. `answered`: the gateway learns what became of it.
    fn writes(&mut self, number: usize, answered: bool) {
        let mut changes = self.gateways[number].outbox.clone();
        self.gateways[number].outbox.iter_mut().for_each(|change| change.late = true);
        if self.guarantee == Guarantee::Strict && self.gateways[number].held.is_some() {
            changes.iter_mut().filter(|change| change.is_end()).for_each(|end| end.late = false);
        }
        let Replica { tag, mut record } = self.gateways[number].replica.clone();
        let present = self.redis.clone().unwrap_or_default();
        if tag == present.0 {
            record.apply_all(&changes, BOUNDS);
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

    /// Redis has this record now, and tells the other gateway.
    fn put(&mut self, record: Record, by: usize) -> String {
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

    fn is_cut_off(&mut self, number: usize) {
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
            Guarantee::Strict if !gateway.connected => return false,
            Guarantee::Strict if self.redis.is_none() => record.forget_shown(),
            Guarantee::Strict | Guarantee::Available => {}
        }
        record.apply_all(&gateway.outbox, BOUNDS);
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
            gateway.connected && nothing_waits && !gateway.must_heal
        };
        self.gateways.iter().all(is_quiet)
    }

    /// A gateway that refuses a callout of a preview that was shown, although everything is healed.
    pub(super) fn wrong_refusal(&self) -> Option<usize> {
        let shown = matches!(self.events.last(), Some(Event::Shown | Event::ShownAnew)) && self.acknowledged;
        (0..2).find(|number| shown && self.is_healed() && !self.forwards(*number))
    }
}
