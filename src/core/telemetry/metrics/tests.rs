//! The page that a scraper reads.

use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use super::label_words::words;
use super::*;
use crate::config::Mode;
use crate::failure::FailureKind;
use crate::preview::{Reason, Timestamp, Verdict};
use crate::protocol::{Delivery, EventType, OperationName};
use crate::telemetry::LineClass;

/// Every documented family: sample name without the suffix of a histogram, type, labels.
const FAMILIES: &[(&str, &str, &[&str])] = &[
    ("previewgate_preview_callouts_total", "counter", &["decision", "reason"]),
    ("previewgate_preview_events_total", "counter", &["event_type", "delivery"]),
    ("previewgate_previews_cached", "gauge", &[]),
    ("previewgate_previews_evicted_total", "counter", &["cause"]),
    ("previewgate_previews_dropped_total", "counter", &["cause"]),
    ("previewgate_preview_numbers_dropped_total", "counter", &["cause"]),
    ("previewgate_snapshot_last_success_timestamp_seconds", "gauge", &[]),
    ("previewgate_snapshot_failures_total", "counter", &[]),
    ("previewgate_store_operations_total", "counter", &["operation", "outcome"]),
    ("previewgate_store_agents_pending", "gauge", &[]),
    ("previewgate_store_up", "gauge", &[]),
    ("previewgate_store_clock_ahead_seconds", "gauge", &[]),
    ("previewgate_store_end_timeouts_total", "counter", &[]),
    ("previewgate_store_data_losses_total", "counter", &[]),
    ("previewgate_audit_failing", "gauge", &[]),
    ("previewgate_audit_records_total", "counter", &["kind"]),
    ("previewgate_audit_records_lost_total", "counter", &["kind"]),
    ("previewgate_audit_unrecorded_callouts_total", "counter", &["action"]),
    ("previewgate_requests_total", "counter", &["operation", "status_class"]),
    ("previewgate_request_duration_seconds", "histogram", &["operation"]),
    ("previewgate_upstream_duration_seconds", "histogram", &["operation"]),
    ("previewgate_upstream_failures_total", "counter", &["endpoint", "kind"]),
    ("previewgate_upstream_healthy", "gauge", &["endpoint"]),
    ("previewgate_upstream_unproven", "gauge", &["endpoint"]),
    ("previewgate_upstream_certificate_not_after_timestamp_seconds", "gauge", &["endpoint"]),
    ("previewgate_connections_open", "gauge", &["side"]),
    ("previewgate_websockets_open", "gauge", &[]),
    ("previewgate_event_parse_failures_total", "counter", &[]),
    ("previewgate_event_bodies_unread_total", "counter", &[]),
    ("previewgate_pushes_total", "counter", &["outcome"]),
    ("previewgate_push_sign_ins_total", "counter", &["handling"]),
    ("previewgate_requests_shed_total", "counter", &["kind"]),
    ("previewgate_polls_delayed_total", "counter", &[]),
    ("previewgate_head_faults_total", "counter", &[]),
    ("previewgate_tenant_callouts_total", "counter", &["tenant", "decision"]),
    ("previewgate_accept_errors_total", "counter", &["reason"]),
    ("previewgate_tls_handshake_failures_total", "counter", &["reason"]),
    ("previewgate_heads_refused_total", "counter", &["reason"]),
    ("previewgate_own_duration_seconds", "histogram", &["operation"]),
    ("previewgate_previews_restored", "gauge", &[]),
    ("process_cpu_seconds_total", "counter", &[]),
    ("process_start_time_seconds", "gauge", &[]),
    ("process_resident_memory_bytes", "gauge", &[]),
    ("process_virtual_memory_bytes", "gauge", &[]),
    ("process_open_fds", "gauge", &[]),
    ("process_max_fds", "gauge", &[]),
    ("previewgate_proxy_header_faults_total", "counter", &["reason"]),
    ("previewgate_preview_age_seconds", "histogram", &[]),
    ("previewgate_validation_mode", "gauge", &["mode"]),
    ("previewgate_log_lines_dropped_total", "counter", &[]),
    ("previewgate_log_lines_dropped_by_class_total", "counter", &["class"]),
    ("previewgate_log_refusals_suppressed_total", "counter", &[]),
    ("previewgate_config_last_reload_successful", "gauge", &[]),
    ("previewgate_certificate_not_after_timestamp_seconds", "gauge", &["role"]),
    ("previewgate_panics_total", "counter", &[]),
    ("previewgate_build_info", "info", &["version"]),
];

const ENDPOINT: &str = "https://10.0.0.11:8043";

/// Metrics with at least one sample in every family.
fn used() -> Metrics {
    let metrics = Metrics::new();
    metrics.callouts.decided(Verdict::Rejected, Reason::NumberNotInPreview);
    metrics.callouts.preview_age(Duration::from_secs(3));
    metrics.events.seen(EventType::PreviewCallOutEx, Delivery::Push);
    metrics.requests.finished(OperationName::GetAgentEvent, None, Duration::from_millis(10_050));
    metrics.upstream.answered(OperationName::Unroutable, Duration::from_micros(150));
    metrics.upstream.endpoint(ENDPOINT).failed(FailureKind::Closed);
    metrics.upstream.endpoint(ENDPOINT).health(true, false);
    metrics.upstream.endpoint(ENDPOINT).certificate_not_after(UNIX_EPOCH + Duration::from_secs(1_900_000_000));
    metrics
        .process
        .certificate_not_after(CertificateRole::UpstreamCa, Some(UNIX_EPOCH + Duration::from_secs(1_800_000_000)));
    metrics.process.mode(Mode::Monitor);
    metrics.tenants.configure(["north", "south"].into_iter());
    metrics.tenants.decided("north", Verdict::Forwarded);
    metrics.snapshots.saved(Timestamp(1_700_000_000_999));
    metrics.audit.read_from(|| vec![("decision", 2, 1)], || true);
    metrics
}

#[derive(Debug)]
struct Sample<'a> {
    name: &'a str,
    labels: Vec<(&'a str, &'a str)>,
    value: &'a str,
}

impl<'a> Sample<'a> {
    fn parse(line: &'a str) -> Self {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) =
            series.split_once('{').map_or((series, ""), |(name, rest)| (name, rest.strip_suffix('}').unwrap()));
        let label = |label: &'a str| {
            let (key, quoted) = label.split_once('=').unwrap();
            (key, quoted.strip_prefix('"').unwrap().strip_suffix('"').unwrap())
        };
        Self { name, labels: labels.split(',').filter(|label| !label.is_empty()).map(label).collect(), value }
    }

    /// Whether the sample belongs to the family. Histograms have three kinds of samples.
    fn is_of(&self, (name, kind, _): &(&str, &str, &[&str])) -> bool {
        match self.name.strip_prefix(name) {
            Some("") => *kind != "histogram",
            Some("_bucket" | "_sum" | "_count") => *kind == "histogram",
            _ => false,
        }
    }
}

fn samples(page: &str) -> Vec<Sample<'_>> {
    page.lines().filter(|line| !line.starts_with('#')).map(Sample::parse).collect()
}

fn value(page: &str, series: &str) -> String {
    let found = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {series} in {page}")).to_owned()
}

#[test]
fn the_page_has_exactly_the_documented_families() {
    let page = used().encode();
    let samples = samples(&page);
    for family in FAMILIES {
        let (name, kind, labels) = family;
        let described = name.strip_suffix("_total").or_else(|| name.strip_suffix("_info")).unwrap_or(name);
        assert!(page.contains(&format!("# TYPE {described} {kind}\n")), "{name}");
        let of_family: Vec<_> = samples.iter().filter(|sample| sample.is_of(family)).collect();
        assert!(!of_family.is_empty(), "{name}");
        for sample in of_family {
            let keys: Vec<_> = sample.labels.iter().map(|(key, _)| *key).filter(|key| *key != "le").collect();
            assert_eq!(keys, *labels, "{sample:?}");
        }
    }
    for sample in &samples {
        assert!(FAMILIES.iter().any(|family| sample.is_of(family)), "{sample:?}");
    }
}

#[test]
fn the_page_is_well_formed() {
    let page = used().encode();
    assert!(page.ends_with("# EOF\n"));
    assert_eq!(page.matches("# EOF").count(), 1);
    let mut series = BTreeSet::new();
    let mut types = BTreeSet::new();
    for line in page.lines() {
        assert!(
            line.starts_with("# HELP ") || line.starts_with("# TYPE ") || line == "# EOF" || !line.starts_with('#')
        );
        if let Some(help) = line.strip_prefix("# HELP ") {
            assert!(help.ends_with('.') && !help.ends_with(".."), "{line}");
        }
        if let Some(described) = line.strip_prefix("# TYPE ") {
            assert!(types.insert(described.split(' ').next().unwrap()), "twice: {line}");
        }
    }
    for sample in samples(&page) {
        assert!(sample.value.parse::<f64>().is_ok(), "{sample:?}");
        assert!(series.insert((sample.name, format!("{:?}", sample.labels))), "twice: {sample:?}");
    }
}

#[test]
fn labels_are_words_of_enums_or_configured_endpoints() {
    let mut allowed: BTreeSet<&str> =
        [ENDPOINT, env!("CARGO_PKG_VERSION"), "enforce", "monitor", "north", "south"].into();
    for words in [
        words!(Verdict),
        words!(Reason),
        words!(EventType),
        words!(Delivery),
        words!(OperationName),
        words!(EvictionCause),
        words!(DropCause),
        words!(NumberDropCause),
        words!(StoreOperation),
        words!(StoreOutcome),
        words!(StatusClass),
        words!(FailureKind),
        words!(ShedKind),
        words!(ProxyHeaderFault),
        words!(HandshakeFailure),
        words!(AcceptError),
        words!(crate::failure::HeadFault),
        words!(CertificateRole),
        words!(PushOutcome),
        words!(SignInHandling),
        words!(Side),
        words!(LineClass),
        words!(UnrecordedCallout),
        &["decision"],
    ] {
        allowed.extend(words);
    }
    let page = used().encode();
    for sample in samples(&page) {
        for (key, value) in sample.labels {
            assert!(key == "le" || allowed.contains(value), "{key}={value}");
        }
    }
}

#[test]
fn every_pair_of_labels_has_its_own_counter() {
    let metrics = Metrics::new();
    let mut expected = Vec::new();
    let pairs = Verdict::ALL.iter().flat_map(|verdict| Reason::ALL.iter().map(move |reason| (*verdict, *reason)));
    for (times, (verdict, reason)) in (1..).zip(pairs) {
        (0..times).for_each(|_| metrics.callouts.decided(verdict, reason));
        let series = format!("previewgate_preview_callouts_total{{decision=\"{verdict}\",reason=\"{reason}\"}}");
        expected.push((series, times.to_string()));
    }
    let page = metrics.encode();
    for (series, times) in expected {
        assert_eq!(value(&page, &series), times, "{series}");
    }
}

#[test]
fn each_method_changes_its_own_series() {
    let metrics = used();
    metrics.previews.evicted(EvictionCause::PerAgent, 3);
    metrics.previews.dropped(DropCause::Outdated);
    metrics.previews.cached_from(|| 17);
    metrics.store.finished(StoreOperation::Write, StoreOutcome::Timeout);
    metrics.store.pending_from(|| 2);
    metrics.log.dropped_from(|| 5);
    metrics.log.dropped_by_class_from(|class| if class == LineClass::Refusal { 3 } else { 0 });
    metrics.log.refusal_suppressed();
    metrics.requests.shed(ShedKind::Poll);
    metrics.requests.head_fault();
    metrics.events.parse_failed();
    metrics.pushes.ended(PushOutcome::RefusedTarget);
    metrics.pushes.signed_in(SignInHandling::Passed);
    metrics.events.body_unread();
    metrics.snapshots.failed();
    metrics.process.panicked();
    metrics.process.reloaded(false);
    let page = metrics.encode();
    for (series, expected) in [
        ("previewgate_preview_events_total{event_type=\"AgentEvent_Preview_CallOut_Ex\",delivery=\"push\"}", "1"),
        ("previewgate_previews_evicted_total{cause=\"per_agent\"}", "3"),
        ("previewgate_previews_cached", "17"),
        ("previewgate_store_operations_total{operation=\"write\",outcome=\"timeout\"}", "1"),
        ("previewgate_store_agents_pending", "2"),
        ("previewgate_log_lines_dropped_total", "5"),
        ("previewgate_log_lines_dropped_by_class_total{class=\"refusal\"}", "3"),
        ("previewgate_log_lines_dropped_by_class_total{class=\"call\"}", "0"),
        ("previewgate_log_refusals_suppressed_total", "1"),
        ("previewgate_requests_total{operation=\"getAgentEvent\",status_class=\"none\"}", "1"),
        ("previewgate_request_duration_seconds_bucket{le=\"10.0\",operation=\"getAgentEvent\"}", "0"),
        ("previewgate_request_duration_seconds_bucket{le=\"11.0\",operation=\"getAgentEvent\"}", "1"),
        ("previewgate_upstream_duration_seconds_count{operation=\"unroutable\"}", "1"),
        ("previewgate_upstream_failures_total{endpoint=\"https://10.0.0.11:8043\",kind=\"closed\"}", "1"),
        ("previewgate_upstream_healthy{endpoint=\"https://10.0.0.11:8043\"}", "1"),
        (
            "previewgate_upstream_certificate_not_after_timestamp_seconds{endpoint=\"https://10.0.0.11:8043\"}",
            "1900000000",
        ),
        ("previewgate_requests_shed_total{kind=\"poll\"}", "1"),
        ("previewgate_pushes_total{outcome=\"refused_target\"}", "1"),
        ("previewgate_push_sign_ins_total{handling=\"passed\"}", "1"),
        ("previewgate_head_faults_total", "1"),
        ("previewgate_event_parse_failures_total", "1"),
        ("previewgate_event_bodies_unread_total", "1"),
        ("previewgate_preview_age_seconds_bucket{le=\"5.0\"}", "1"),
        ("previewgate_validation_mode{mode=\"enforce\"}", "0"),
        ("previewgate_validation_mode{mode=\"monitor\"}", "1"),
        ("previewgate_config_last_reload_successful", "0"),
        ("previewgate_certificate_not_after_timestamp_seconds{role=\"upstream_ca\"}", "1800000000"),
        ("previewgate_snapshot_last_success_timestamp_seconds", "1700000000"),
        ("previewgate_snapshot_failures_total", "1"),
        ("previewgate_panics_total", "1"),
    ] {
        assert_eq!(value(&page, series), expected, "{series}");
    }
    // A certificate that is not configured has no sample: 0 would mean expired.
    assert!(!page.contains("role=\"server\""));
    assert!(!Metrics::new().encode().contains("\npreviewgate_snapshot_last_success_timestamp_seconds"));
}

#[test]
fn a_status_has_its_class() {
    let class = |status| StatusClass::of(Some(status)).as_str();
    assert_eq!(
        [101, 200, 299, 304, 408, 499, 502, 999].map(class),
        ["1xx", "2xx", "2xx", "3xx", "4xx", "4xx", "5xx", "5xx"]
    );
    assert_eq!(StatusClass::of(None).as_str(), "none");
}

#[test]
fn open_connections_are_counted_by_guards() {
    let metrics = Metrics::new();
    let guards = (metrics.connections.downstream.enter(), metrics.connections.downstream.enter());
    assert_eq!((metrics.connections.downstream.open(), metrics.connections.upstream.open()), (2, 0));
    assert_eq!(value(&metrics.encode(), "previewgate_connections_open{side=\"downstream\"}"), "2");
    drop(guards);
    assert_eq!(metrics.connections.downstream.open(), 0);
}

#[test]
fn endpoints_appear_and_disappear_with_the_configuration() {
    let metrics = Metrics::new();
    let first = metrics.upstream.endpoint("a");
    metrics.upstream.endpoint("c").health(false, false);
    metrics.upstream.endpoint("a").failed(FailureKind::Reset);
    first.failed(FailureKind::Reset);
    let page = metrics.encode();
    assert_eq!(value(&page, "previewgate_upstream_failures_total{endpoint=\"a\",kind=\"reset\"}"), "2");
    for (endpoint, healthy, unproven) in [("a", "0", "1"), ("c", "0", "0")] {
        assert_eq!(value(&page, &format!("previewgate_upstream_healthy{{endpoint=\"{endpoint}\"}}")), healthy);
        assert_eq!(value(&page, &format!("previewgate_upstream_unproven{{endpoint=\"{endpoint}\"}}")), unproven);
    }
    metrics.upstream.retain_endpoints(|name| name == "a");
    assert!(!metrics.encode().contains("endpoint=\"c\""));
}

#[test]
fn two_gateways_share_no_counter() {
    let (one, other) = (Metrics::new(), Metrics::new());
    one.process.panicked();
    assert_eq!(value(&other.encode(), "previewgate_panics_total"), "0");
}

#[test]
fn tenants_follow_the_configuration_and_keep_their_counts() {
    let metrics = Metrics::new();
    assert!(!metrics.encode().contains("previewgate_tenant_callouts"), "without tenants");
    metrics.tenants.configure(["north"].into_iter());
    metrics.tenants.decided("north", Verdict::Rejected);
    metrics.tenants.decided("unknown", Verdict::Rejected);
    metrics.tenants.configure(["south", "north"].into_iter());
    let series = |tenant| format!("previewgate_tenant_callouts_total{{tenant=\"{tenant}\",decision=\"rejected\"}}");
    let page = metrics.encode();
    assert_eq!((value(&page, &series("north")), value(&page, &series("south"))), ("1".to_owned(), "0".to_owned()));
    metrics.tenants.configure(["south"].into_iter());
    assert!(!metrics.encode().contains("north"));
}
