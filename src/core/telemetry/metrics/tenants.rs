//! Decisions by tenant. Tenants come and go with the configuration, so that their family is collected at each scrape.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::families::{StaticFamily, describe};
use super::label_words::words;
use crate::preview::Verdict;

const TENANT_CALLOUTS: &str = "previewgate_tenant_callouts";

/// Decisions by tenant.
#[derive(Clone, Debug, Default)]
pub struct TenantMetrics(Arc<RwLock<Vec<Tenant>>>);

/// The name of a tenant and its counters, one for each verdict.
type Tenant = (String, StaticFamily<Counter>);

impl TenantMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_collector(Box::new(metrics.clone()));
        metrics
    }

    /// Sets the tenants. Tenants that were there before keep their counts.
    pub fn configure<'a>(&self, names: impl Iterator<Item = &'a str>) {
        let mut tenants = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let known = std::mem::take(&mut *tenants);
        let counters =
            |name: &str| StaticFamily::by_pair(("tenant", &[name]), ("decision", words!(Verdict)), Counter::default);
        let tenant = |name: &str| {
            let kept = known.iter().find(|(known, _)| known == name).map(|(_, counters)| counters.clone());
            (name.to_owned(), kept.unwrap_or_else(|| counters(name)))
        };
        tenants.extend(names.map(tenant));
    }

    /// Counts a decision on a callout of this tenant.
    pub fn decided(&self, tenant: &str, verdict: Verdict) {
        let tenants = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, counters)) = tenants.iter().find(|(name, _)| name == tenant) {
            counters.count(verdict.index());
        }
    }
}

impl Collector for TenantMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let tenants = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if tenants.is_empty() {
            return Ok(());
        }
        let help = "Requests to the previewCallout resource, by tenant";
        let mut family = describe(&mut encoder, TENANT_CALLOUTS, help, MetricType::Counter)?;
        tenants.iter().try_for_each(|(_, counters)| counters.encode_samples(&mut family))
    }
}
