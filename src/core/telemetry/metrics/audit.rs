//! The audit log. Without `[audit]` there are no records.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::registry::Registry;

use super::families::{ScrapedKind, ScrapedValue, StaticFamily, describe};
use super::label_words::words;
use crate::label_enum;

const AUDIT_FAILING: &str = "previewgate_audit_failing";
const AUDIT_RECORDS: &str = "previewgate_audit_records";
const AUDIT_RECORDS_LOST: &str = "previewgate_audit_records_lost";
const AUDIT_UNRECORDED_CALLOUTS: &str = "previewgate_audit_unrecorded_callouts";

label_enum! {
    /// What happened to a callout that could not be recorded in time.
    pub enum UnrecordedCallout {
        /// It was refused (`audit.on_failure = "refuse"`).
        Refused = "refused",
        /// It was sent (`audit.on_failure = "forward"`).
        Forwarded = "forwarded",
    }
}

/// Each kind of record, how many were taken, and how many were lost.
type Records = Box<dyn Fn() -> Vec<(&'static str, u64, u64)> + Send + Sync>;

/// Records, and callouts that could not be recorded.
#[derive(Debug)]
pub struct AuditMetrics {
    failing: ScrapedValue,
    records: RecordCounts,
    unrecorded: StaticFamily<Counter>,
}

impl AuditMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let help = "1 while the audit log cannot be written";
        let failing = ScrapedValue::register(registry, ScrapedKind::Gauge, AUDIT_FAILING, help);
        let records = RecordCounts::default();
        registry.register_collector(Box::new(records.clone()));
        let unrecorded = StaticFamily::by("action", words!(UnrecordedCallout), Counter::default);
        let help = "Callouts that the audit log could not record in time";
        registry.register(AUDIT_UNRECORDED_CALLOUTS, help, unrecorded.clone());
        Self { failing, records, unrecorded }
    }

    /// Names the functions that are asked at each scrape: for the records of each kind, and whether the log is failing.
    pub fn read_from(
        &self,
        records: impl Fn() -> Vec<(&'static str, u64, u64)> + Send + Sync + 'static,
        failing: impl Fn() -> bool + Send + Sync + 'static,
    ) {
        self.failing.read_from(move || u64::from(failing()));
        *self.records.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(records));
    }

    /// Counts a callout that could not be recorded in time.
    pub fn unrecorded(&self, action: UnrecordedCallout) {
        self.unrecorded.count(action.index());
    }
}

#[derive(Clone, Default)]
struct RecordCounts(Arc<Mutex<Option<Records>>>);

impl fmt::Debug for RecordCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordCounts")
    }
}

impl Collector for RecordCounts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let source = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = source.as_ref().map(|source| source()).unwrap_or_default();
        let mut family = describe(&mut encoder, AUDIT_RECORDS, "Audit records, by kind", MetricType::Counter)?;
        for (kind, taken, _) in &counts {
            ConstCounter::new(*taken).encode(family.encode_family(&[("kind", *kind)])?)?;
        }
        let help = "Audit records that could not be kept until the disk took them, by kind";
        let mut family = describe(&mut encoder, AUDIT_RECORDS_LOST, help, MetricType::Counter)?;
        for (kind, _, lost) in &counts {
            ConstCounter::new(*lost).encode(family.encode_family(&[("kind", *kind)])?)?;
        }
        Ok(())
    }
}
