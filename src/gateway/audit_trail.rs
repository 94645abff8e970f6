//! The audit log as requests use it. Without `[audit]` every function here does nothing.
//!
//! In the life of a callout, [`AuditTrail::events`] runs before the client gets a preview, and `audited_callout` runs
//! before the callout is sent and after its answer. The calls that follow are remembered for some hours, so that the
//! platform's reports on them are recorded too.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::recent_calls::Recent;
use super::refusal_budget::{Counted, RefusalBudget};
use crate::audit::{
    Audit, AuditError, AuditGuard, CallFacts, ConfigTrigger, DecisionFacts, DecisionRef, Digest, Evidence, Settings,
    ShownFacts, Status,
};
use crate::config::{Config, StoreKind};
use crate::preview::{AgentId, Change, Clock, ControlId, RecordId, ShownRef, Timestamp};
use crate::protocol::{CallReport, Delivery, Event, Events};
use crate::store::{EndObserver, EndScope, Ledger, StoreState};
use crate::telemetry::Metrics;

/// Maximum number of calls that are remembered.
const MAX_CALLS: usize = 100_000;
/// The time for which a call is remembered: no call lasts longer.
const LONGEST_CALL: Duration = Duration::from_secs(4 * 60 * 60);

/// The audit log, if there is one.
#[derive(Default)]
pub struct AuditTrail(Option<Trail>);

struct Trail {
    audit: Arc<Audit>,
    refusals: RefusalBudget,
    /// The decision that led to each call, by the platform's call ID.
    calls: Recent<str, RecordId>,
    /// Agents who made a callout recently. Reports on calls of other agents are not recorded.
    callers: Recent<AgentId, ()>,
    clock: Arc<dyn Clock>,
    /// The state of the shared store, and its beginning; `None` if there is no shared store.
    store: Mutex<Option<(StoreState, Timestamp)>>,
}

/// The source of events, for their records.
#[derive(Clone, Copy)]
pub(super) struct EventSource<'a> {
    pub(super) meant_for: Option<AgentId>,
    pub(super) delivery: Delivery,
    pub(super) guid: Option<&'a [u8]>,
    pub(super) at: Timestamp,
    /// The members of `callData` that are kept with a preview.
    pub(super) evidence: &'a dyn Fn(ControlId) -> BTreeMap<String, Evidence>,
}

impl AuditTrail {
    /// Starts the audit log if `config` has one. It ends when the guard is dropped.
    ///
    /// # Errors
    /// [`AuditError`]
    pub fn start(config: &Config, clock: &Arc<dyn Clock>) -> Result<(Self, Option<AuditGuard>), AuditError> {
        let Some(settings) = &config.audit else { return Ok((Self::default(), None)) };
        let (audit, guard) = Audit::start(&Settings::from(settings), Arc::clone(clock))?;
        let trail = Trail {
            audit,
            refusals: RefusalBudget::new(clock.now()),
            calls: Recent::new(MAX_CALLS, LONGEST_CALL),
            callers: Recent::new(MAX_CALLS, LONGEST_CALL),
            clock: Arc::clone(clock),
            store: Mutex::new(
                matches!(config.previews.store, StoreKind::Redis(_)).then(|| (StoreState::Ok, clock.now())),
            ),
        };
        Ok((Self(Some(trail)), Some(guard)))
    }

    /// The log.
    pub fn log(&self) -> Option<&Audit> {
        self.0.as_ref().map(|trail| &*trail.audit)
    }

    /// To be called by a worker whenever it has nothing to do.
    pub fn before_park(&self) {
        if let Some(audit) = self.log() {
            audit.before_park();
        }
    }

    /// Whether there is a log and it cannot be written.
    pub fn is_failing(&self) -> bool {
        self.log().is_some_and(Audit::is_failing)
    }

    /// Makes this log the source of the audit metrics.
    pub fn report_to(&self, metrics: &Metrics) {
        let Some(trail) = &self.0 else { return };
        let (audit, failing) = (Arc::clone(&trail.audit), Arc::clone(&trail.audit));
        metrics.audit.read_from(move || records(&audit.status()), move || failing.is_failing());
    }

    /// The observer that records the ends of previews.
    pub fn end_observer(&self) -> Option<Arc<dyn EndObserver>> {
        let trail = self.0.as_ref()?;
        Some(Arc::new(EndRecords(Arc::clone(&trail.audit))))
    }

    /// A configuration is in force from now on.
    pub fn config(&self, trigger: ConfigTrigger, config: &Config) {
        if let Some(audit) = self.log() {
            audit.config(trigger, config);
        }
    }

    /// Records previews and reports on calls, before the client gets them. Each preview then refers to its record. `body`
    /// is the digest of the answer or push that carries them.
    pub(super) fn events(
        &self,
        found: &mut Events,
        source: &EventSource<'_>,
        body: impl FnOnce() -> Digest,
    ) -> Vec<ShownRef> {
        let Some(trail) = &self.0 else { return Vec::new() };
        let wanted = |event: &Event| matches!(event.change, Some(Change::Shown(_))) || event.call.is_some();
        if !found.events.iter().any(wanted) {
            return Vec::new();
        }
        let digest = body();
        let mut shown = Vec::new();
        for (position, event) in found.events.iter_mut().enumerate() {
            let Some(agent) = event.whose(source.meant_for) else { continue };
            if let Some(call) = &event.call {
                trail.call(agent, call, event.generated_at, digest);
            }
            shown.extend(trail.shown(agent, position, event, source, digest));
        }
        shown
    }

    /// Records whether the answer or push with these previews reached the application.
    pub(super) fn delivered(&self, shown: &[ShownRef], result: &'static str) {
        if let Some(audit) = self.log() {
            audit.delivered(shown, result);
        }
    }

    /// Records a callout that was refused. If this client has too many refusals, it is only counted.
    pub(super) fn refused(&self, facts: &DecisionFacts<'_>, client: IpAddr) -> Option<DecisionRef> {
        let trail = self.0.as_ref()?;
        trail.refusals.allow(client, facts.reason, facts.at).then(|| trail.audit.note_decision(facts))?
    }

    /// Counts a callout that was refused because it could not be recorded.
    pub(super) fn refused_unrecorded(&self, facts: &DecisionFacts<'_>) {
        if let Some(trail) = &self.0 {
            trail.refusals.count(facts.reason, facts.at);
        }
    }

    /// Remembers an agent whose callout was forwarded.
    pub(super) fn calls_soon(&self, agent: Option<AgentId>) {
        if let (Some(trail), Some(agent)) = (&self.0, agent) {
            trail.callers.insert(&agent, (), trail.clock.now());
        }
    }

    /// Remembers the call that a decision led to.
    pub(super) fn called(&self, call_id: &str, decision: RecordId) {
        if let Some(trail) = &self.0 {
            trail.calls.insert(call_id, decision, trail.clock.now());
        }
    }

    /// Records the counted refusals, and a change of the shared store's state. Called periodically.
    pub fn maintain(&self, ledger: &Ledger, now: Timestamp) {
        if let Some(trail) = &self.0 {
            trail.store(ledger.state(), now);
            trail.record(&trail.refusals.due(now));
            trail.calls.maintain(now);
            trail.callers.maintain(now);
        }
    }

    /// Records the refusals that were counted so far, before the log ends.
    pub fn finish(&self, now: Timestamp) {
        if let Some(trail) = &self.0 {
            trail.record(&trail.refusals.rest(now));
        }
    }
}

impl Trail {
    fn shown(
        &self,
        agent: AgentId,
        position: usize,
        event: &mut Event,
        source: &EventSource<'_>,
        digest: Digest,
    ) -> Option<ShownRef> {
        let Some(Change::Shown(announcement)) = &mut event.change else { return None };
        let facts = ShownFacts {
            agent,
            announcement,
            event_type: event.event_type.as_str(),
            delivery: source.delivery.as_str(),
            event: digest,
            position: position as u64,
            generated_at: event.generated_at,
            guid: source.guid,
            evidence: &(source.evidence)(announcement.control_id),
        };
        let reference = self.audit.shown(source.at, &facts)?;
        announcement.shown.push(reference);
        Some(reference)
    }

    fn call(&self, agent: AgentId, call: &CallReport, generated_at: Option<u64>, event: Digest) {
        let decision = self.calls.get(call.call_id.as_str());
        if decision.is_none() && !self.is_shared() && self.callers.get(&agent).is_none() {
            return;
        }
        let facts = CallFacts {
            agent,
            call_id: &call.call_id,
            event_type: call.event.as_str(),
            phase: call.event.phase(),
            event,
            generated_at,
        };
        self.audit.call(&facts, decision);
    }

    /// Another gateway may have forwarded the callout of a call.
    fn is_shared(&self) -> bool {
        self.store.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn store(&self, state: StoreState, now: Timestamp) {
        let mut known = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, since)) = &mut *known
            && *before != state
        {
            self.audit.store(state == StoreState::Failing, *since);
            (*before, *since) = (state, now);
        }
    }

    fn record(&self, counted: &[Counted]) {
        for Counted { client, since, reasons } in counted {
            let client = client.map(|client| client.to_string());
            self.audit.refusals(*since, client.as_deref(), reasons);
        }
    }
}

/// For each kind of record: its name, the number taken, and the number lost.
fn records(status: &Status) -> Vec<(&'static str, u64, u64)> {
    let lost = |kind| status.lost.iter().find(|(of, _)| *of == kind).map_or(0, |(_, count)| *count);
    status.taken.iter().map(|(kind, taken)| (kind.as_str(), *taken, lost(*kind))).collect()
}

/// Records ends of previews. A preview without a record of its showing gets no record of its end.
struct EndRecords(Arc<Audit>);

impl EndObserver for EndRecords {
    fn ended(&self, agent: AgentId, control_id: Option<ControlId>, shown: &[ShownRef], cause: &'static str) {
        self.0.ended(agent, control_id, shown, cause);
    }

    fn ended_elsewhere(&self, agent: AgentId, scope: EndScope, cause: &'static str) {
        match scope {
            EndScope::One(control_id) => self.0.ended(agent, Some(control_id), &[], cause),
            EndScope::All => self.0.ended(agent, None, &[], cause),
            EndScope::Before(moment) => self.0.ended_before(agent, moment, cause),
        }
    }
}
