//! Requests to CC-Gateway or NSLB, and the state of each endpoint.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::durations::duration_histogram;
use super::families::{OptionalGauge, StaticFamily, describe};
use super::label_words::words;
use super::process::seconds;
use crate::failure::FailureKind;
use crate::protocol::OperationName;

const UPSTREAM_DURATION: &str = "previewgate_upstream_duration_seconds";
const UPSTREAM_FAILURES: &str = "previewgate_upstream_failures";
const UPSTREAM_HEALTHY: &str = "previewgate_upstream_healthy";
const UPSTREAM_CERTIFICATE_NOT_AFTER: &str = "previewgate_upstream_certificate_not_after_timestamp_seconds";
const UPSTREAM_UNPROVEN: &str = "previewgate_upstream_unproven";

/// Requests to endpoints.
#[derive(Debug)]
pub struct UpstreamMetrics {
    duration: StaticFamily<Histogram>,
    endpoints: Endpoints,
}

impl UpstreamMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let duration = StaticFamily::by("operation", words!(OperationName), duration_histogram);
        let endpoints = Endpoints::default();
        registry.register(UPSTREAM_DURATION, "From the request sent to the response head", duration.clone());
        registry.register_collector(Box::new(endpoints.clone()));
        Self { duration, endpoints }
    }

    /// Records the time to a response head.
    pub fn answered(&self, operation: OperationName, duration: Duration) {
        self.duration.observe(operation.index(), duration.as_secs_f64());
    }

    /// The metrics of one endpoint, the same for the same name. `name` comes from the configuration.
    pub fn endpoint(&self, name: &str) -> Arc<EndpointMetrics> {
        let mut endpoints = self.endpoints.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = endpoints.iter().find(|endpoint| endpoint.name == name) {
            return Arc::clone(known);
        }
        let new = Arc::new(EndpointMetrics::new(name));
        endpoints.push(Arc::clone(&new));
        new
    }

    /// Removes the endpoints that a new configuration does not name.
    pub fn retain_endpoints(&self, named: impl Fn(&str) -> bool) {
        let mut endpoints = self.endpoints.0.write().unwrap_or_else(PoisonError::into_inner);
        endpoints.retain(|endpoint| named(&endpoint.name));
    }
}

/// One endpoint, unproven at first.
#[derive(Debug)]
pub struct EndpointMetrics {
    name: String,
    failures: StaticFamily<Counter>,
    healthy: Gauge,
    unproven: Gauge,
    certificate_not_after: OptionalGauge,
}

impl EndpointMetrics {
    fn new(name: &str) -> Self {
        let failures = StaticFamily::by_pair(("endpoint", &[name]), ("kind", words!(FailureKind)), Counter::default);
        let (healthy, unproven) = (Gauge::default(), Gauge::default());
        unproven.set(1);
        let certificate_not_after = OptionalGauge::absent();
        Self { name: name.to_owned(), failures, healthy, unproven, certificate_not_after }
    }

    /// Counts a failed attempt.
    pub fn failed(&self, kind: FailureKind) {
        self.failures.count(kind.index());
    }

    /// Sets when the certificate that the endpoint shows expires.
    pub fn certificate_not_after(&self, end: SystemTime) {
        self.certificate_not_after.set(seconds(end));
    }

    /// Sets whether the endpoint is known to work, and whether nothing is known about it yet.
    pub fn health(&self, healthy: bool, unproven: bool) {
        self.healthy.set(i64::from(healthy));
        self.unproven.set(i64::from(unproven));
    }
}

/// All endpoints, in the order of their first use.
#[derive(Clone, Debug, Default)]
struct Endpoints(Arc<RwLock<Vec<Arc<EndpointMetrics>>>>);

impl Endpoints {
    fn try_each(&self, encode: impl FnMut(&Arc<EndpointMetrics>) -> fmt::Result) -> fmt::Result {
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().try_for_each(encode)
    }
}

/// Endpoints come and go with the configuration, so that their families are collected at each scrape.
impl Collector for Endpoints {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut failures = describe(&mut encoder, UPSTREAM_FAILURES, "Failed attempts", MetricType::Counter)?;
        self.try_each(|endpoint| endpoint.failures.encode_samples(&mut failures))?;
        let help = "1 when the endpoint is known to work";
        let mut healthy = describe(&mut encoder, UPSTREAM_HEALTHY, help, MetricType::Gauge)?;
        self.try_each(|endpoint| {
            let labels = [("endpoint", endpoint.name.as_str())];
            endpoint.healthy.encode(healthy.encode_family(&labels)?)
        })?;
        let help = "1 until the endpoint is first reached or fails";
        let mut unproven = describe(&mut encoder, UPSTREAM_UNPROVEN, help, MetricType::Gauge)?;
        self.try_each(|endpoint| {
            let labels = [("endpoint", endpoint.name.as_str())];
            endpoint.unproven.encode(unproven.encode_family(&labels)?)
        })?;
        let help = "When the certificate that the endpoint shows becomes invalid";
        let mut not_after = describe(&mut encoder, UPSTREAM_CERTIFICATE_NOT_AFTER, help, MetricType::Gauge)?;
        self.try_each(|endpoint| {
            let labels = [("endpoint", endpoint.name.as_str())];
            endpoint.certificate_not_after.encode_labelled(&mut not_after, &labels)
        })
    }
}
