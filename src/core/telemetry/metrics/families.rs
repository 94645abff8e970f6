//! Families of metrics whose label values are the words of an enum.
//!
//! Every series exists from the start, so that a dashboard sees zeros instead of gaps. The data path reaches a series by
//! its position and hashes no label.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;

/// One label: its name, and the word of an enum or a name from the configuration.
pub(super) type Label = (&'static str, String);

/// A family whose series are known from the start, in a fixed order. Clones share the series.
#[derive(Debug)]
pub(super) struct StaticFamily<M>(Arc<[Series<M>]>);

impl<M> Clone for StaticFamily<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Series<M> {
    labels: Vec<Label>,
    metric: M,
}

impl<M> StaticFamily<M> {
    /// One label, one series for each word.
    pub(super) fn by(name: &'static str, words: &[&str], metric: impl Fn() -> M) -> Self {
        let series = |word: &&str| Series { labels: vec![(name, (*word).to_owned())], metric: metric() };
        Self(words.iter().map(series).collect())
    }

    /// Two labels, one series for each pair. The second label varies fastest.
    pub(super) fn by_pair(
        (first, first_words): (&'static str, &[&str]),
        (second, second_words): (&'static str, &[&str]),
        metric: impl Fn() -> M,
    ) -> Self {
        let mut series = Vec::with_capacity(first_words.len() * second_words.len());
        for one in first_words {
            for other in second_words {
                let labels = vec![(first, (*one).to_owned()), (second, (*other).to_owned())];
                series.push(Series { labels, metric: metric() });
            }
        }
        Self(series.into())
    }

    /// The series at `index`. It exists if `index` comes from `index()` of the enums that the family was built from.
    pub(super) fn at(&self, index: usize) -> Option<&M> {
        self.0.get(index).map(|series| &series.metric)
    }
}

impl StaticFamily<Counter> {
    pub(super) fn count(&self, index: usize) {
        if let Some(counter) = self.at(index) {
            counter.inc();
        }
    }
}

impl StaticFamily<Histogram> {
    pub(super) fn observe(&self, index: usize, value: f64) {
        if let Some(histogram) = self.at(index) {
            histogram.observe(value);
        }
    }
}

impl StaticFamily<Gauge> {
    /// Sets one series to 1 and the others to 0.
    pub(super) fn select(&self, index: usize) {
        for (position, series) in self.0.iter().enumerate() {
            series.metric.set(i64::from(position == index));
        }
    }
}

impl<M: EncodeMetric> StaticFamily<M> {
    /// Encodes the series as part of a larger family.
    pub(super) fn encode_samples(&self, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|series| series.metric.encode(encoder.encode_family(&series.labels)?))
    }
}

impl<M: EncodeMetric + TypedMetric> EncodeMetric for StaticFamily<M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.encode_samples(&mut encoder)
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}

/// Gauges, some without a value. A certificate that is not configured must not look as if it had expired in 1970.
#[derive(Clone, Debug)]
pub(super) struct OptionalGaugeFamily(StaticFamily<AtomicI64>);

impl OptionalGaugeFamily {
    const ABSENT: i64 = i64::MIN;

    pub(super) fn by(name: &'static str, words: &[&str]) -> Self {
        Self(StaticFamily::by(name, words, || AtomicI64::new(Self::ABSENT)))
    }

    pub(super) fn set(&self, index: usize, value: Option<i64>) {
        if let Some(gauge) = self.0.at(index) {
            gauge.store(value.unwrap_or(Self::ABSENT), Ordering::Relaxed);
        }
    }

    pub(super) fn value(&self, index: usize) -> Option<i64> {
        self.0.at(index).map(|gauge| gauge.load(Ordering::Relaxed)).filter(|value| *value != Self::ABSENT)
    }
}

impl EncodeMetric for OptionalGaugeFamily {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for series in self.0.0.iter() {
            let value = series.metric.load(Ordering::Relaxed);
            if value != Self::ABSENT {
                ConstGauge::new(value).encode(encoder.encode_family(&series.labels)?)?;
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// A gauge without a value at first. A snapshot that was never written must not have the date 1970.
#[derive(Clone, Debug)]
pub(super) struct OptionalGauge(Arc<AtomicI64>);

impl OptionalGauge {
    const ABSENT: i64 = i64::MIN;

    pub(super) fn absent() -> Self {
        Self(Arc::new(AtomicI64::new(Self::ABSENT)))
    }

    pub(super) fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Its value, if it has one.
    pub(super) fn value(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|value| *value != Self::ABSENT)
    }

    /// Writes its sample, if it has a value, as the one with these labels of the family of `encoder`.
    pub(super) fn encode_labelled(&self, encoder: &mut MetricEncoder<'_>, labels: &[(&str, &str)]) -> fmt::Result {
        match self.0.load(Ordering::Relaxed) {
            Self::ABSENT => Ok(()),
            value => ConstGauge::new(value).encode(encoder.encode_family(&labels)?),
        }
    }
}

impl EncodeMetric for OptionalGauge {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        match self.0.load(Ordering::Relaxed) {
            Self::ABSENT => Ok(()),
            value => ConstGauge::new(value).encode(encoder),
        }
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// Reads a value that another component keeps.
type Source = Box<dyn Fn() -> u64 + Send + Sync>;

/// A metric whose value is read from its owner at each scrape; 0 until the owner is known. Clones share the source.
#[derive(Clone)]
pub(super) struct ScrapedValue {
    kind: ScrapedKind,
    name: &'static str,
    help: &'static str,
    source: Arc<Mutex<Source>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum ScrapedKind {
    Counter,
    Gauge,
}

impl ScrapedValue {
    /// Registers the metric.
    pub(super) fn register(registry: &mut Registry, kind: ScrapedKind, name: &'static str, help: &'static str) -> Self {
        let metric = Self { kind, name, help, source: Arc::new(Mutex::new(Box::new(|| 0))) };
        registry.register_collector(Box::new(metric.clone()));
        metric
    }

    /// Names the owner of the value.
    pub(super) fn read_from(&self, source: impl Fn() -> u64 + Send + Sync + 'static) {
        *self.source.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(source);
    }

    pub(super) fn read(&self) -> u64 {
        let source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        (*source)()
    }
}

impl fmt::Debug for ScrapedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScrapedValue({:?})", self.name)
    }
}

impl Collector for ScrapedValue {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let value = self.read();
        match self.kind {
            ScrapedKind::Counter => {
                let encoder = describe(&mut encoder, self.name, self.help, MetricType::Counter)?;
                ConstCounter::new(value).encode(encoder)
            }
            ScrapedKind::Gauge => {
                let encoder = describe(&mut encoder, self.name, self.help, MetricType::Gauge)?;
                ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(encoder)
            }
        }
    }
}

/// Begins a family of a collector. The registry ends the help text of its own families with a full stop.
pub(super) fn describe<'s>(
    encoder: &'s mut DescriptorEncoder<'_>,
    name: &'static str,
    help: &'static str,
    kind: MetricType,
) -> Result<MetricEncoder<'s>, fmt::Error> {
    encoder.encode_descriptor(name, &format!("{help}."), None, kind)
}
