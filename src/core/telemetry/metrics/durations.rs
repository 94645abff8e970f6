//! Histograms of durations: all have the same buckets, so that dashboards can compare them.

use prometheus_client::metrics::histogram::Histogram;

/// Seconds, from the gateway's own overhead (100 us) to the longest polls; dense around 10 s, where an unanswered poll
/// should end.
const DURATION_BUCKETS: [f64; 21] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 8.0, 9.0, 10.0,
    11.0, 12.0, 15.0,
];

pub(super) fn duration_histogram() -> Histogram {
    Histogram::new(DURATION_BUCKETS)
}
