//! The one owner of the agents' state: previews, sessions, and what ended recently.
//!
//! The live path, push and `explain` all change and read that state here, so they apply the same rules. A request meets
//! the ledger twice: when it begins ([`Ledger::moment`]), and when its answer has been read ([`Ledger::record`],
//! [`Ledger::end`], [`Ledger::sign_in`]). [`Ledger::share`] follows before the client sees the answer. A callout asks
//! [`Ledger::previews`].
//!
//! All changes of one agent in one answer are one step: a lock of that agent covers its previews, its fence and the
//! order in which other gateways get the changes.

mod calls;
mod clocks;
mod ends;
mod local_state;
mod sharing;
#[cfg(test)]
mod tests;
mod unclaimed;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwapOption;
use smallvec::{SmallVec, smallvec};

use super::answer::{Answer, Outcome, Pending, Recorded, Source, cause_of, only_agent, shows_preview};
use super::common_clock::CommonClock;
use super::fences::{Fence, Fences, TimedEnd};
use super::found_ends::FoundEnds;
use super::guid_key::GuidKey;
use super::journal::{Entry, Event as JournalEvent, Journal};
use super::memory::Surpluses;
use super::moment::{IssueTimes, LedgerTime, Moment};
use super::preview_log::log_shown;
use super::recent_ends::{EndCause, RecentEnd, RecentEnds};
use super::redis::{Fence as SharedFence, SessionRelation, SharedStore, TimedChange};
use super::sessions::{Learnt, Ownership, Proof, Sessions};
use super::sign_in::SignIn;
use super::succession::Succession;
use super::wall_clock::WallClock;
use super::{EndObserver, MemoryStore};
use crate::config::{Previews, RedisStore, StoreKind};
use crate::preview::{AgentId, Change, Clock, Timestamp};
use crate::protocol::envelope::{SUCCESS, says_signed_out};
use crate::protocol::{Delivery, Event, EventType, Events};
use crate::telemetry::Metrics;
pub use calls::Counted;
pub use sharing::LookUp;

/// Agents share their locks, so that the number of locks is bounded.
const LOCKS: usize = 256;

/// Changes of one agent. Nearly every answer has one.
type Changes = SmallVec<[Change; 1]>;

/// The state of all agents. See the module.
pub struct Ledger {
    local: Arc<MemoryStore>,
    shared: Option<SharedStore>,
    sessions: Sessions,
    fences: Fences,
    recent_ends: RecentEnds,
    locks: Vec<Mutex<()>>,
    /// Where ends are appended to, if a snapshot is kept.
    journal: OnceLock<Journal>,
    /// Where changes go while another process takes over from this one.
    succession: ArcSwapOption<Succession>,
    time: Arc<LedgerTime>,
    wall: WallClock,
    issue_times: IssueTimes,
    metrics: Arc<Metrics>,
    calls_per_number: u32,
}

impl Ledger {
    /// An empty ledger. Does not connect to a shared store: see [`Self::stay_connected_until`].
    pub fn new(config: &Previews, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        let local = Arc::new(MemoryStore::new(config, Arc::clone(&metrics)));
        let clock = Arc::new(CommonClock::new(clock));
        let shared = match &config.store {
            StoreKind::Memory => None,
            StoreKind::Redis(redis) => {
                let (settings, metrics) = (RedisStore::clone(redis), Arc::clone(&metrics));
                Some(SharedStore::new(settings, config, metrics, Arc::clone(&local), Arc::clone(&clock)))
            }
        };
        let sessions = Sessions::new(config.max_agents, config.ttl.saturating_mul(2));
        let fences = Fences::new(config.max_agents);
        let locks = std::iter::repeat_with(Mutex::default).take(LOCKS).collect();
        Self {
            local,
            shared,
            sessions,
            fences,
            recent_ends: RecentEnds::new(),
            locks,
            journal: OnceLock::new(),
            succession: ArcSwapOption::empty(),
            time: Arc::new(LedgerTime::new(clock)),
            wall: WallClock::default(),
            issue_times: IssueTimes::default(),
            metrics,
            calls_per_number: config.calls_per_number,
        }
    }

    /// The present moment, to be taken when a poll begins and when a push arrives.
    pub fn moment(&self) -> Moment {
        self.time.moment()
    }

    /// The present moment, to be taken when a sign-in begins: its time is later than that of every preview recorded before.
    pub fn moment_of_sign_in(&self) -> Moment {
        self.time.boundary()
    }

    /// The clock that orders previews and sessions, for everything that is compared with them. A session begins later than
    /// what was recorded before, so it can be some milliseconds ahead of the clock that the ledger was made with. Gateways that
    /// share previews have one clock in common, which it follows.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.time) as Arc<dyn Clock>
    }

    /// The time at which the push addresses of a sign-in are issued: no other sign-in has the same.
    pub fn issue_time(&self) -> Timestamp {
        self.issue_times.next(self.time.now())
    }

    /// Records the events of one answer or push. The previews are visible to callouts when this returns; for other
    /// gateways to see them, [`Self::share`] must follow.
    pub fn record(&self, found: Events, source: &Source<'_>) -> Recorded {
        let Events { events, unreadable, retcode, dropped_numbers } = found;
        self.metrics.previews.numbers_dropped(dropped_numbers);
        let outcomes = smallvec![Outcome::Irrelevant; events.len()];
        let mut recorded = Recorded { unreadable, outcomes, ..Recorded::default() };
        let retcode = retcode.as_deref();
        self.record_session(retcode, &events, source, &mut recorded);
        let answer = Answer { source, succeeded: retcode.is_none_or(|code| code == SUCCESS) };
        let mut pending = self.by_agent(events, source, &mut recorded).into_iter().peekable();
        while let Some(agent) = pending.peek().map(|next| next.agent) {
            let of_agent = std::iter::from_fn(|| pending.next_if(|next| next.agent == agent));
            self.record_of_agent(agent, of_agent, &answer, &mut recorded);
        }
        for _ in 0..recorded.unreadable {
            self.metrics.events.parse_failed();
        }
        recorded
    }

    /// What an answer to a poll of one agent, or a push, says about that agent's session.
    fn record_session(&self, retcode: Option<&str>, events: &[Event], source: &Source<'_>, recorded: &mut Recorded) {
        let Some(guid) = source.session else { return };
        if matches!(retcode, None | Some(SUCCESS))
            && let Some(agent) = source.meant_for.or_else(|| only_agent(events))
        {
            recorded.agents.extend(self.claim_session(agent, guid));
        }
        let changed = match (source.delivery, source.meant_for, retcode) {
            (Delivery::Poll, Some(agent), Some(SUCCESS)) => {
                let proof = if shows_preview(events, agent) { Proof::Shown } else { Proof::Accepted };
                self.observe_poll(agent, guid, proof, source.began).then_some(agent)
            }
            (Delivery::Poll, Some(agent), Some(retcode)) if says_signed_out(retcode) => {
                self.end_if_own(agent, guid, EndCause::NoSession)
            }
            // Only the platform knows the address that it pushes to (docs/protocol.md 6.3).
            (Delivery::Push | Delivery::PushUrl, agent, None | Some(SUCCESS)) => {
                let agent = agent.or_else(|| only_agent(events));
                agent.filter(|agent| self.observe_push(*agent, guid, source.began))
            }
            (Delivery::Poll | Delivery::PollAll | Delivery::Push | Delivery::PushUrl, _, _) => None,
        };
        recorded.agents.extend(changed.filter(|agent| !recorded.agents.contains(agent)));
    }

    /// The events that change something, by agent, those of one agent in their order.
    fn by_agent(&self, events: Vec<Event>, source: &Source<'_>, recorded: &mut Recorded) -> SmallVec<[Pending; 1]> {
        let mut by_agent = SmallVec::new();
        for (position, event) in events.into_iter().enumerate() {
            self.metrics.events.seen(event.event_type, source.delivery);
            let agent = event.whose(source.meant_for);
            let Event { event_type, generated_at, change: Some(change), .. } = event else { continue };
            match agent {
                Some(agent) => by_agent.push(Pending { agent, position, event_type, change, generated_at }),
                None => {
                    recorded.unreadable += 1;
                    recorded.note(position, Outcome::NoAgent);
                }
            }
        }
        by_agent.sort_by_key(|pending: &Pending| pending.agent);
        by_agent
    }

    /// All changes of one agent, in order, as one step.
    fn record_of_agent(
        &self,
        agent: AgentId,
        pending: impl Iterator<Item = Pending>,
        answer: &Answer<'_>,
        recorded: &mut Recorded,
    ) {
        let _lock = self.lock(agent);
        let mut ends = FoundEnds::new(answer.source.at, self.local.bounds());
        let (positions, changes) = self.still_valid(agent, pending, answer, recorded, &mut ends);
        if changes.is_empty() {
            return;
        }
        let surpluses =
            self.apply_at(agent, changes, answer.session_relation(&self.time), answer.source.at.min(self.time.now()));
        for (position, surplus) in positions.into_iter().zip(surpluses) {
            recorded.note_evicted(position, surplus.previews);
        }
        self.note_ends(agent, ends.found);
        // Only the agent that was polled or pushed to can have been noted before.
        if recorded.agents.first() != Some(&agent) {
            recorded.agents.push(agent);
        }
    }

    /// The changes that are not over already, and the positions of their events. Ends are noted in `ends` and in the agent's
    /// fence.
    fn still_valid(
        &self,
        agent: AgentId,
        pending: impl Iterator<Item = Pending>,
        answer: &Answer<'_>,
        recorded: &mut Recorded,
        ends: &mut FoundEnds,
    ) -> (SmallVec<[usize; 1]>, Changes) {
        let now = self.time.now();
        let mut fence = self.fences.of(agent);
        let mut changed_fence = false;
        let mut valid = (SmallVec::new(), Changes::new());
        for Pending { position, event_type, change, generated_at, .. } in pending {
            if let Change::Shown(announcement) = &change {
                if let Some(cause) = answer.objection(&fence, announcement.control_id, generated_at, now) {
                    self.note_dropped(agent, announcement, cause);
                    recorded.outdated += 1;
                    recorded.note(position, Outcome::Dropped(agent, cause));
                    continue;
                }
                log_shown(agent, announcement, answer.source.delivery);
                ends.shown(&change);
                recorded.note(position, Outcome::Shown { agent, evicted: 0 });
            } else {
                if event_type == EventType::ShutdownService {
                    fence.end_push_addresses(self.issue_time());
                    changed_fence = true;
                }
                if let Some(generated_at) = generated_at {
                    fence.note_end(change.ended_preview(), TimedEnd { generated_at, recorded_at: now });
                    changed_fence = true;
                }
                let known = || self.local.previews(agent).map(Arc::unwrap_or_clone).unwrap_or_default();
                ends.ended(known, &valid.1, &change, cause_of(event_type));
                recorded.note(position, Outcome::Ended(agent, change.ended_preview()));
            }
            valid.0.push(position);
            valid.1.push(change);
        }
        if changed_fence {
            self.fences.set(agent, fence);
        }
        valid
    }

    /// A poll of `agent` with this GUID, which began at `began`, succeeded: the agent is signed in. A poll that began before
    /// the agent's present session, or with another agent's GUID, does not prove that. Returns whether something was learnt
    /// about the GUID.
    fn observe_poll(&self, agent: AgentId, guid: &[u8], proof: Proof, began: Moment) -> bool {
        if proof == Proof::Accepted && matches!(self.session_of(guid, agent), Ownership::Other(_)) {
            return false;
        }
        let mut fence = self.fences.of(agent);
        if fence.is_signed_out() {
            let _lock = self.lock(agent);
            fence = self.fences.of(agent);
            fence.sign_in(began);
            self.fences.set(agent, fence.clone());
        }
        if fence.is_signed_out() || fence.is_earlier_poll(began) {
            return false;
        }
        let learnt = self.sessions.confirm(agent, guid, proof, self.time.now());
        self.keep_session(agent, Some(guid), learnt, SessionRelation::PolledSince(self.time.of(began)))
    }

    /// A push for `agent` with this GUID arrived at `began`. Returns whether something was learnt.
    fn observe_push(&self, agent: AgentId, guid: &[u8], began: Moment) -> bool {
        if self.fences.of(agent).is_earlier_push(began) {
            return false;
        }
        let learnt = self.sessions.confirm(agent, guid, Proof::Shown, self.time.now());
        self.keep_session(agent, Some(guid), learnt, SessionRelation::Any)
    }

    /// Ends previews of `agent` for another reason than an event. [`Self::share`] must follow.
    pub fn end(&self, agent: AgentId, change: Change, cause: EndCause) {
        let _lock = self.lock(agent);
        let mut fence = self.fences.of(agent);
        let mut session = SessionRelation::Any;
        match cause {
            EndCause::SignedOut | EndCause::NoSession => {
                let now = self.moment();
                fence.end_session(now, now);
                fence.sign_out(now, self.issue_time());
                session = SessionRelation::Over(self.shared_fence(now, now));
                self.fences.set(agent, fence);
            }
            // The session may be over: what its polls and pushes still bring does not count.
            EndCause::UnknownOutcome if change == Change::Ended => {
                let now = self.moment();
                fence.end_session(now, now);
                session = SessionRelation::Over(self.shared_fence(now, now));
                self.fences.set(agent, fence);
            }
            EndCause::Released
            | EndCause::ShutDown
            | EndCause::SignedIn
            | EndCause::Cancelled
            | EndCause::UnknownOutcome => {}
        }
        self.apply_end(agent, change, cause, session);
    }

    /// The outcome of a sign-in of `agent` is unknown: what it ends if it succeeded has ended. [`Self::share`] must follow.
    pub fn end_by_unclear_sign_in(&self, agent: AgentId, sign_in: &SignIn<'_>) {
        let _lock = self.lock(agent);
        let (now, _) = self.begin_session(agent, sign_in);
        let session = SessionRelation::Over(self.shared_fence(now, sign_in.pushes_since(now)));
        self.apply_end(agent, sign_in.change(&self.time), EndCause::UnknownOutcome, session);
    }

    /// A sign-in of `agent` succeeded: earlier previews are void, and so is what earlier polls and pushes show from now
    /// on. [`Self::share`] must follow.
    pub fn sign_in(&self, agent: AgentId, sign_in: &SignIn<'_>) {
        let _lock = self.lock(agent);
        let (now, mut fence) = self.begin_session(agent, sign_in);
        fence.sign_in(now);
        if !sign_in.pushes {
            fence.end_push_addresses(self.issue_time());
        }
        self.fences.set(agent, fence);
        let session = SessionRelation::Begins(self.shared_fence(now, sign_in.pushes_since(now)));
        self.apply_end(agent, sign_in.change(&self.time), EndCause::SignedIn, session);
        let learnt = self.sessions.begin(agent, sign_in.session);
        self.keep_session(agent, sign_in.session, Some(learnt), SessionRelation::Any);
    }

    /// A sign-in of `agent` succeeded whose push addresses were issued at `issued` ([`Self::issue_time`]): those of earlier
    /// sign-ins are over.
    pub fn begin_push_session(&self, agent: AgentId, issued: Timestamp) {
        let _lock = self.lock(agent);
        let mut fence = self.fences.of(agent);
        fence.end_push_addresses(issued);
        self.fences.set(agent, fence);
    }

    /// What polls and pushes of the session before bring does not count from now on. The caller holds the agent's lock.
    fn begin_session(&self, agent: AgentId, sign_in: &SignIn<'_>) -> (Moment, Fence) {
        let now = self.time.boundary();
        let mut fence = self.fences.of(agent);
        // A poll of the new session begins after its client has seen the answer to the sign-in. A push may come before.
        fence.end_session(now, sign_in.pushes_since(now));
        self.fences.set(agent, fence.clone());
        (now, fence)
    }

    /// Ends all previews of `agent` if `guid` is the agent's own. Returns the agent whose previews ended, for
    /// [`Self::share`]. This is for answers that the agent has no session: a stranger must not end previews that way.
    pub fn end_if_own(&self, agent: AgentId, guid: &[u8], cause: EndCause) -> Option<AgentId> {
        if !self.session_of(guid, agent).speaks_for_agent() {
            return None;
        }
        self.end(agent, Change::Ended, cause);
        Some(agent)
    }

    /// `guid` is the agent's own, from now on and alone.
    pub fn learn_session(&self, agent: AgentId, guid: &[u8]) {
        let learnt = self.sessions.begin(agent, Some(guid));
        self.keep_session(agent, Some(guid), Some(learnt), SessionRelation::Any);
    }

    /// The platform has answered a request of `agent` that had the GUID `from` with the new GUID `to` (`Set-GUID`,
    /// docs/protocol.md 2). Both are the agent's own if `from` is: requests with the old one may be on their way.
    /// Returns whether this was new; [`Self::share`] must follow then.
    pub fn renew_session(&self, agent: AgentId, from: &[u8], to: &[u8]) -> bool {
        let learnt = self.sessions.renew(agent, from, to, self.time.now());
        self.keep_session(agent, Some(to), learnt, SessionRelation::Any)
    }

    /// What is known about `guid` and `agent`.
    pub fn session_of(&self, guid: &[u8], agent: AgentId) -> Ownership {
        self.sessions.ownership(guid, agent, self.time.now())
    }

    /// Whether the agent signed out through this gateway, has not signed in since, and has no preview.
    pub fn is_signed_out(&self, agent: AgentId) -> bool {
        self.fences.of(agent).is_signed_out() && self.local.previews(agent).is_none()
    }

    /// Whether the session that began at `issued` is over: the agent has signed out since, or a later session began. A push
    /// address dies with its session.
    pub fn is_push_session_over(&self, agent: AgentId, issued: Timestamp) -> bool {
        self.fences.of(agent).is_over(issued)
    }

    /// What ended previews of `agent` lately in this gateway, the newest first. No decision depends on it.
    pub fn recent_ends(&self, agent: AgentId) -> Vec<RecentEnd> {
        self.recent_ends.of(agent)
    }

    /// Applies changes of one agent in order. The caller holds the agent's lock. Returns for each change what was not kept.
    fn apply(&self, agent: AgentId, changes: Changes, session: SessionRelation) -> Surpluses {
        self.apply_at(agent, changes, session, self.time.now())
    }

    fn apply_at(&self, agent: AgentId, changes: Changes, session: SessionRelation, at: Timestamp) -> Surpluses {
        let surplus = self.apply_here(agent, &changes, at);
        if let Some(shared) = &self.shared {
            shared.add(agent, changes.into_iter().map(|change| TimedChange::new(change, at, session)));
        }
        surplus
    }

    /// Has what was learnt about a session survive this process, and reach other gateways. `guid` is what was learnt, and
    /// `session` says how it was. Returns whether [`Self::share`] must follow.
    fn keep_session(
        &self,
        agent: AgentId,
        guid: Option<&[u8]>,
        learnt: Option<Learnt>,
        session: SessionRelation,
    ) -> bool {
        let Some(learnt) = learnt else { return false };
        let at = self.time.now();
        if let Some(journal) = self.journal.get() {
            let event = JournalEvent::Session(self.sessions.key().id(), learnt);
            journal.append(Entry { agent, at, event });
        }
        if let Some(shared) = &self.shared
            && let Some(learnt) = shared.learnt(guid, learnt.begins)
        {
            let learnt = Some(learnt);
            shared.add(
                agent,
                [TimedChange { change: None, learnt, at, seen: at, session, late: false, known_end: None }],
            );
        }
        self.journal.get().is_some() || self.shared.is_some()
    }

    /// Hashes GUIDs under this key, so that other processes with the same key can compare the hashes. To be called before
    /// anything else.
    pub fn use_session_key(&self, secret: &[u8]) {
        self.sessions.use_key(GuidKey::new(secret));
        if let Some(shared) = &self.shared {
            shared.use_guid_key(GuidKey::new(secret));
        }
    }

    /// Appends every end from now on to `journal`. To be called once, after previews were restored.
    pub fn start_journal(&self, journal: Journal) {
        // A second journal is dropped, and the first goes on.
        let _ = self.journal.set(journal);
    }

    /// Begins a new file of the journal, before the previews are collected for a snapshot. Its times are those of the wall clock,
    /// which is so many milliseconds ahead. Returns its number; 0 without a journal.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub(crate) fn rotate_journal(&self, wall_ahead: i64) -> io::Result<u64> {
        let Some(journal) = self.journal.get() else { return Ok(0) };
        // The snapshot knows that these previews have ended. The shared store does not, and would not after a crash.
        let unwritten = self.shared.as_ref().map(SharedStore::pending_ends).unwrap_or_default();
        let kept = unwritten.iter().filter_map(|(agent, change, at)| Entry::of(*agent, change, *at));
        journal.rotate(kept.collect(), wall_ahead)
    }

    /// The previews in this gateway's own memory: for snapshots, and for operators.
    pub fn local(&self) -> &MemoryStore {
        &self.local
    }

    /// The sessions, for snapshots.
    pub(super) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Does the pending housekeeping of the caches. Called now and then from a thread outside the data path.
    pub fn maintain(&self) {
        self.local.maintain();
        self.sessions.maintain();
        if let Some(shared) = &self.shared {
            shared.maintain();
        }
    }

    fn shared_fence(&self, polls: Moment, pushes: Moment) -> SharedFence {
        SharedFence { polls: Some(self.time.of(polls)), pushes: Some(self.time.of(pushes)) }
    }

    /// The locks of all agents. Nobody else holds one and waits for another.
    fn lock_all(&self) -> Vec<MutexGuard<'_, ()>> {
        self.locks.iter().map(|lock| lock.lock().unwrap_or_else(PoisonError::into_inner)).collect()
    }

    fn lock(&self, agent: AgentId) -> Option<MutexGuard<'_, ()>> {
        let lock = self.locks.get(agent.as_u32() as usize % LOCKS)?;
        Some(lock.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Names who learns which previews are over. Only the first one counts.
    pub fn observe_ends(&self, observer: Arc<dyn EndObserver>) {
        self.local.ends().observe(observer);
    }
}
