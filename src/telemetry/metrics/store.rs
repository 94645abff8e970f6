//! The Redis that several gateways share. All zero with `previews.store.kind = "memory"`.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::families::{ScrapedKind, ScrapedValue, StaticFamily};
use super::label_words::words;
use crate::label_enum;

const STORE_OPERATIONS: &str = "previewgate_store_operations";
const STORE_AGENTS_PENDING: &str = "previewgate_store_agents_pending";

label_enum! {
    /// What Redis was asked for.
    pub enum StoreOperation {
        /// The previews of an agent, for a callout.
        Read = "read",
        /// To take changes of an agent.
        Write = "write",
    }
}

label_enum! {
    /// What came of it.
    pub enum StoreOutcome {
        /// Done in time.
        Ok = "ok",
        /// Not connected, or answered with an error: full, not allowed, starting.
        Failed = "failed",
        /// Not done within `previews.store.timeout`.
        Timeout = "timeout",
        /// Another gateway changed the same agent again and again.
        Conflict = "conflict",
    }
}

/// Operations, and what still has to be written.
#[derive(Debug)]
pub struct StoreMetrics {
    operations: StaticFamily<Counter>,
    pending: ScrapedValue,
}

impl StoreMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let labels = (("operation", words!(StoreOperation)), ("outcome", words!(StoreOutcome)));
        let operations = StaticFamily::by_pair(labels.0, labels.1, Counter::default);
        registry.register(STORE_OPERATIONS, "Operations on the shared store", operations.clone());
        let help = "Agents of whom the shared store does not know everything yet";
        let pending = ScrapedValue::register(registry, ScrapedKind::Gauge, STORE_AGENTS_PENDING, help);
        Self { operations, pending }
    }

    /// One operation is over.
    pub fn finished(&self, operation: StoreOperation, outcome: StoreOutcome) {
        self.operations.count(operation.index() * StoreOutcome::ALL.len() + outcome.index());
    }

    /// How many agents have changes that are not written yet, asked at each scrape.
    pub fn pending_from(&self, source: impl Fn() -> u64 + Send + Sync + 'static) {
        self.pending.read_from(source);
    }
}
