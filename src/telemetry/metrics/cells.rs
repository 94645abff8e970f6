//! Metric types over closed lists: every row exists from the start, and a hot path reaches its row by position, without
//! hashing a label.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric};

/// One label: its name, and a word of a closed list or a configured name.
pub(super) type Label = (&'static str, String);

/// A family whose rows are known from the start, in a fixed order. Clones share the rows.
#[derive(Debug)]
pub(super) struct Rows<M>(Arc<[Row<M>]>);

impl<M> Clone for Rows<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Row<M> {
    labels: Vec<Label>,
    metric: M,
}

impl<M> Rows<M> {
    /// One label, one row for each word.
    pub(super) fn by(name: &'static str, words: &[&str], metric: impl Fn() -> M) -> Self {
        let row = |word: &&str| Row { labels: vec![(name, (*word).to_owned())], metric: metric() };
        Self(words.iter().map(row).collect())
    }

    /// Two labels, one row for each pair; the second label varies fastest.
    pub(super) fn by_pair(
        (first, first_words): (&'static str, &[&str]),
        (second, second_words): (&'static str, &[&str]),
        metric: impl Fn() -> M,
    ) -> Self {
        let mut rows = Vec::with_capacity(first_words.len() * second_words.len());
        for one in first_words {
            for other in second_words {
                let labels = vec![(first, (*one).to_owned()), (second, (*other).to_owned())];
                rows.push(Row { labels, metric: metric() });
            }
        }
        Self(rows.into())
    }

    /// The row at `index`; positions come from `index()` of the closed lists, so that it is always there.
    pub(super) fn at(&self, index: usize) -> Option<&M> {
        self.0.get(index).map(|row| &row.metric)
    }
}

impl Rows<Counter> {
    pub(super) fn count(&self, index: usize) {
        if let Some(counter) = self.at(index) {
            counter.inc();
        }
    }
}

impl Rows<Histogram> {
    pub(super) fn observe(&self, index: usize, value: f64) {
        if let Some(histogram) = self.at(index) {
            histogram.observe(value);
        }
    }
}

impl Rows<Gauge> {
    /// One row is 1, the others are 0.
    pub(super) fn select(&self, index: usize) {
        for (position, row) in self.0.iter().enumerate() {
            row.metric.set(i64::from(position == index));
        }
    }
}

impl<M: EncodeMetric> Rows<M> {
    /// The rows, as part of a family.
    pub(super) fn encode_rows(&self, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|row| row.metric.encode(encoder.encode_family(&row.labels)?))
    }
}

impl<M: EncodeMetric + TypedMetric> EncodeMetric for Rows<M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.encode_rows(&mut encoder)
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}

/// Gauges of which some have no value: a certificate that is not configured must not look as if it had expired in 1970.
#[derive(Clone, Debug)]
pub(super) struct OptionalRows(Rows<AtomicI64>);

impl OptionalRows {
    const ABSENT: i64 = i64::MIN;

    pub(super) fn by(name: &'static str, words: &[&str]) -> Self {
        Self(Rows::by(name, words, || AtomicI64::new(Self::ABSENT)))
    }

    pub(super) fn set(&self, index: usize, value: Option<i64>) {
        if let Some(cell) = self.0.at(index) {
            cell.store(value.unwrap_or(Self::ABSENT), Ordering::Relaxed);
        }
    }
}

impl EncodeMetric for OptionalRows {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for row in self.0.0.iter() {
            let value = row.metric.load(Ordering::Relaxed);
            if value != Self::ABSENT {
                ConstGauge::new(value).encode(encoder.encode_family(&row.labels)?)?;
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// A gauge that has no value yet: a moment that never was must not look like 1970.
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

/// Where a value that somebody else keeps is read at each scrape.
pub(super) type Source = Box<dyn Fn() -> u64 + Send + Sync>;

/// A value that somebody else keeps; 0 until its source is known.
#[derive(Clone)]
pub(super) struct ReadAtScrape {
    kind: ReadAs,
    source: Arc<Mutex<Source>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum ReadAs {
    Counter,
    Gauge,
}

impl ReadAtScrape {
    pub(super) fn new(kind: ReadAs) -> Self {
        Self { kind, source: Arc::new(Mutex::new(Box::new(|| 0))) }
    }

    pub(super) fn read_from(&self, source: impl Fn() -> u64 + Send + Sync + 'static) {
        *self.source.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(source);
    }

    fn read(&self) -> u64 {
        let source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        (*source)()
    }
}

impl fmt::Debug for ReadAtScrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadAtScrape({:?})", self.kind)
    }
}

impl EncodeMetric for ReadAtScrape {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        let value = self.read();
        match self.kind {
            ReadAs::Counter => ConstCounter::new(value).encode(encoder),
            ReadAs::Gauge => ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(encoder),
        }
    }

    fn metric_type(&self) -> MetricType {
        match self.kind {
            ReadAs::Counter => MetricType::Counter,
            ReadAs::Gauge => MetricType::Gauge,
        }
    }
}
