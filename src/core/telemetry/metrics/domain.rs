//! Decisions, events, and remembered previews.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::families::{OptionalGauge, ScrapedKind, ScrapedValue, StaticFamily};
use super::label_words::words;
use crate::label_enum;
use crate::preview::{Reason, Surplus, Timestamp, Verdict};
use crate::protocol::{Delivery, EventType};

// The encoder appends `_total` to counters.
const PREVIEW_CALLOUTS: &str = "previewgate_preview_callouts";
const PREVIEW_AGE: &str = "previewgate_preview_age_seconds";
const PREVIEW_EVENTS: &str = "previewgate_preview_events";
const EVENT_PARSE_FAILURES: &str = "previewgate_event_parse_failures";
const EVENT_BODIES_UNREAD: &str = "previewgate_event_bodies_unread";
const PREVIEWS_CACHED: &str = "previewgate_previews_cached";
const PREVIEWS_EVICTED: &str = "previewgate_previews_evicted";
const PREVIEWS_DROPPED: &str = "previewgate_previews_dropped";
const NUMBERS_DROPPED: &str = "previewgate_preview_numbers_dropped";
const SNAPSHOT_LAST_SUCCESS: &str = "previewgate_snapshot_last_success_timestamp_seconds";
const SNAPSHOT_FAILURES: &str = "previewgate_snapshot_failures";
const PREVIEWS_RESTORED: &str = "previewgate_previews_restored";

/// Seconds. An agent looks at a contact for seconds to minutes; an hour exceeds any sensible TTL.
const AGE_BUCKETS: [f64; 12] = [1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0];

/// Requests to the previewCallout resource.
#[derive(Debug)]
pub struct CalloutMetrics {
    decided: StaticFamily<Counter>,
    preview_age: Histogram,
}

impl CalloutMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let decided =
            StaticFamily::by_pair(("decision", words!(Verdict)), ("reason", words!(Reason)), Counter::default);
        let preview_age = Histogram::new(AGE_BUCKETS);
        registry.register(PREVIEW_CALLOUTS, "Requests to the previewCallout resource", decided.clone());
        registry.register(PREVIEW_AGE, "Age of the preview when it was called", preview_age.clone());
        Self { decided, preview_age }
    }

    /// Counts one decision.
    pub fn decided(&self, verdict: Verdict, reason: Reason) {
        self.decided.count(verdict.index() * Reason::ALL.len() + reason.index());
    }

    /// Records the age of the preview that a callout named, valid or expired.
    pub fn preview_age(&self, age: Duration) {
        self.preview_age.observe(age.as_secs_f64());
    }
}

/// Events on their way to applications.
#[derive(Debug)]
pub struct EventMetrics {
    seen: StaticFamily<Counter>,
    parse_failures: Counter,
    bodies_unread: Counter,
}

impl EventMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let seen =
            StaticFamily::by_pair(("event_type", words!(EventType)), ("delivery", words!(Delivery)), Counter::default);
        let (parse_failures, bodies_unread) = (Counter::default(), Counter::default());
        registry.register(PREVIEW_EVENTS, "Events seen on their way to applications", seen.clone());
        registry.register(EVENT_PARSE_FAILURES, "Event bodies that could not be understood", parse_failures.clone());
        let help = "Event bodies that passed unseen, being too large to look into";
        registry.register(EVENT_BODIES_UNREAD, help, bodies_unread.clone());
        Self { seen, parse_failures, bodies_unread }
    }

    /// Counts one event.
    pub fn seen(&self, event_type: EventType, delivery: Delivery) {
        self.seen.count(event_type.index() * Delivery::ALL.len() + delivery.index());
    }

    /// Counts an event body that could not be parsed: previews may be missing.
    pub fn parse_failed(&self) {
        self.parse_failures.inc();
    }

    /// Counts an event body larger than `limits.event_body` that was forwarded unparsed: previews may be missing.
    pub fn body_unread(&self) {
        self.bodies_unread.inc();
    }
}

label_enum! {
    /// Why a preview was forgotten without an event.
    pub enum EvictionCause {
        /// The agent was evicted because of `previews.max_agents`.
        Capacity = "capacity",
        /// Newer previews of the same agent replaced it.
        PerAgent = "per_agent",
        /// It was older than the TTL.
        Expired = "expired",
    }
}

label_enum! {
    /// Why a preview that an event showed was not recorded.
    pub enum DropCause {
        /// The platform had made the event before an end that was recorded a moment earlier.
        Outdated = "outdated",
        /// The poll or push belongs to a session that is over.
        EarlierSession = "earlier_session",
        /// The answer has a `retcode` that is not a success.
        FailedAnswer = "failed_answer",
    }
}

label_enum! {
    /// Why a number of a preview was not kept.
    pub enum NumberDropCause {
        /// The preview has newer numbers, as many as are kept.
        TooMany = "too_many",
        /// Longer than a telephone number can be.
        TooLong = "too_long",
    }
}

/// Previews that are remembered.
#[derive(Debug)]
pub struct PreviewMetrics {
    cached: ScrapedValue,
    evicted: StaticFamily<Counter>,
    dropped: StaticFamily<Counter>,
    numbers_dropped: StaticFamily<Counter>,
}

impl PreviewMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let help = "Previews that are remembered";
        let cached = ScrapedValue::register(registry, ScrapedKind::Gauge, PREVIEWS_CACHED, help);
        let evicted = StaticFamily::by("cause", words!(EvictionCause), Counter::default);
        registry.register(PREVIEWS_EVICTED, "Previews that were forgotten without an event", evicted.clone());
        let dropped = StaticFamily::by("cause", words!(DropCause), Counter::default);
        registry.register(PREVIEWS_DROPPED, "Previews that were shown but not recorded", dropped.clone());
        let numbers_dropped = StaticFamily::by("cause", words!(NumberDropCause), Counter::default);
        let help = "Numbers of previews that were not kept because of a bound";
        registry.register(NUMBERS_DROPPED, help, numbers_dropped.clone());
        Self { cached, evicted, dropped, numbers_dropped }
    }

    /// A change brought more than the bounds allow.
    pub fn surplus(&self, surplus: &Surplus) {
        if *surplus == Surplus::default() {
            return;
        }
        self.evicted(EvictionCause::PerAgent, surplus.previews as u64);
        for (cause, numbers) in
            [(NumberDropCause::TooMany, surplus.numbers), (NumberDropCause::TooLong, surplus.long_numbers)]
        {
            if let Some(counter) = self.numbers_dropped.at(cause.index()) {
                counter.inc_by(numbers as u64);
            }
        }
    }

    /// The parser of events did not keep so many numbers, because of either bound.
    pub fn numbers_dropped(&self, numbers: usize) {
        self.surplus(&Surplus { numbers, ..Surplus::default() });
    }

    /// A preview was shown but not recorded.
    pub fn dropped(&self, cause: DropCause) {
        self.dropped.count(cause.index());
    }

    /// Names the function that returns the number of previews at each scrape. If its owner also owns these metrics, it
    /// must hold a weak reference.
    pub fn cached_from(&self, source: impl Fn() -> u64 + Send + Sync + 'static) {
        self.cached.read_from(source);
    }

    /// Counts forgotten previews.
    pub fn evicted(&self, cause: EvictionCause, previews: u64) {
        if let Some(counter) = self.evicted.at(cause.index()) {
            counter.inc_by(previews);
        }
    }
}

/// The snapshot that survives a restart.
#[derive(Debug)]
pub struct SnapshotMetrics {
    last_success: OptionalGauge,
    failures: Counter,
    restored: Gauge,
}

impl SnapshotMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let (last_success, failures) = (OptionalGauge::absent(), Counter::default());
        let help = "When previews were last saved; absent until then";
        registry.register(SNAPSHOT_LAST_SUCCESS, help, last_success.clone());
        let help = "Snapshots of previews that could not be saved or restored";
        registry.register(SNAPSHOT_FAILURES, help, failures.clone());
        let restored = Gauge::default();
        registry.register(PREVIEWS_RESTORED, "Previews that the start has restored", restored.clone());
        Self { last_success, failures, restored }
    }

    /// Records a snapshot written at this time.
    pub fn saved(&self, at: Timestamp) {
        self.last_success.set(i64::try_from(at.0 / 1000).unwrap_or(i64::MAX));
    }

    /// When previews were last saved.
    pub fn last_success(&self) -> Option<SystemTime> {
        let seconds = u64::try_from(self.last_success.value()?).ok()?;
        Some(UNIX_EPOCH + Duration::from_secs(seconds))
    }

    /// Records how many previews the start has restored.
    pub fn restored(&self, previews: usize) {
        self.restored.set(i64::try_from(previews).unwrap_or(i64::MAX));
    }

    /// Counts a snapshot that could not be written or restored.
    pub fn failed(&self) {
        self.failures.inc();
    }
}
