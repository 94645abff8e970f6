//! The Redis that several gateways share. All values are zero with `previews.store.kind = "memory"`.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::families::{ScrapedKind, ScrapedValue, StaticFamily};
use super::label_words::words;
use crate::label_enum;

const STORE_OPERATIONS: &str = "previewgate_store_operations";
const STORE_AGENTS_PENDING: &str = "previewgate_store_agents_pending";
const STORE_UP: &str = "previewgate_store_up";
const STORE_CLOCK_AHEAD: &str = "previewgate_store_clock_ahead_seconds";
const STORE_END_TIMEOUTS: &str = "previewgate_store_end_timeouts";
const STORE_DATA_LOSSES: &str = "previewgate_store_data_losses";

label_enum! {
    /// The operation on Redis.
    pub enum StoreOperation {
        /// Reads the previews of an agent, for a callout.
        Read = "read",
        /// Writes changes of an agent.
        Write = "write",
    }
}

label_enum! {
    /// The result of an operation.
    pub enum StoreOutcome {
        /// Done within the timeout.
        Ok = "ok",
        /// Redis was not connected, or returned an error.
        Failed = "failed",
        /// The operation exceeded `previews.store.timeout`.
        Timeout = "timeout",
        /// Other gateways changed the same agent at each attempt.
        Conflict = "conflict",
    }
}

/// Operations, and changes that are not written yet.
#[derive(Debug)]
pub struct StoreMetrics {
    operations: StaticFamily<Counter>,
    pending: ScrapedValue,
    up: Gauge,
    clock_ahead: Gauge<f64, AtomicU64>,
    end_timeouts: Counter,
    data_losses: Counter,
}

impl StoreMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let labels = (("operation", words!(StoreOperation)), ("outcome", words!(StoreOutcome)));
        let operations = StaticFamily::by_pair(labels.0, labels.1, Counter::default);
        registry.register(STORE_OPERATIONS, "Operations on the shared store", operations.clone());
        let help = "Agents of whom the shared store does not know everything yet";
        let pending = ScrapedValue::register(registry, ScrapedKind::Gauge, STORE_AGENTS_PENDING, help);
        let (up, clock_ahead) = (Gauge::default(), Gauge::<f64, AtomicU64>::default());
        registry.register(STORE_UP, "1 while the shared store is connected and can be written", up.clone());
        let help = "How far the clock of this gateway is ahead of the shared store's; negative if it is behind";
        registry.register(STORE_CLOCK_AHEAD, help, clock_ahead.clone());
        let (end_timeouts, data_losses) = (Counter::default(), Counter::default());
        let help = "Answers that end previews and were not held until the shared store had the end";
        registry.register(STORE_END_TIMEOUTS, help, end_timeouts.clone());
        let help = "How often the shared store had lost data, which was then written again";
        registry.register(STORE_DATA_LOSSES, help, data_losses.clone());
        Self { operations, pending, up, clock_ahead, end_timeouts, data_losses }
    }

    /// `previews.store.end_timeout` was over before the shared store had an end.
    pub fn end_timed_out(&self) {
        self.end_timeouts.inc();
    }

    /// The shared store has lost data.
    pub fn lost_data(&self) {
        self.data_losses.inc();
    }

    /// Whether the shared store can be used.
    pub fn up(&self, up: bool) {
        self.up.set(i64::from(up));
    }

    /// How far this gateway's clock is ahead of the shared store's, in seconds.
    pub fn clock_ahead(&self, seconds: f64) {
        self.clock_ahead.set(seconds);
    }

    /// Counts one operation.
    pub fn finished(&self, operation: StoreOperation, outcome: StoreOutcome) {
        self.operations.count(operation.index() * StoreOutcome::ALL.len() + outcome.index());
    }

    /// Names the function that returns the number of agents with unwritten changes at each scrape.
    pub fn pending_from(&self, source: impl Fn() -> u64 + Send + Sync + 'static) {
        self.pending.read_from(source);
    }
}
