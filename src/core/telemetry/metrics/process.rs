//! Metrics of the process: log, configuration, certificates, panics.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::families::{OptionalGauge, OptionalGaugeFamily, ScrapedKind, ScrapedValue, StaticFamily, describe};
use super::label_words::words;
use crate::config::Mode;
use crate::label_enum;
use crate::telemetry::LineClass;

const VALIDATION_MODE: &str = "previewgate_validation_mode";
const LOG_LINES_DROPPED: &str = "previewgate_log_lines_dropped";
const LOG_LINES_DROPPED_BY_CLASS: &str = "previewgate_log_lines_dropped_by_class";
const REFUSALS_SUPPRESSED: &str = "previewgate_log_refusals_suppressed";
const LAST_RELOAD_SUCCESSFUL: &str = "previewgate_config_last_reload_successful";
const LAST_RELOAD_TIMESTAMP: &str = "previewgate_config_last_reload_timestamp_seconds";
/// The encoder appends `_info`.
const CONFIG: &str = "previewgate_config";
const CERTIFICATE_NOT_AFTER: &str = "previewgate_certificate_not_after_timestamp_seconds";
const PANICS: &str = "previewgate_panics";
/// The encoder appends `_info`.
const BUILD: &str = "previewgate_build";

/// The log.
#[derive(Debug)]
pub struct LogMetrics {
    dropped: ScrapedValue,
    dropped_by_class: DroppedByClass,
    refusals_suppressed: Counter,
}

impl LogMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let help = "Log lines that were dropped and will not be written";
        let dropped = ScrapedValue::register(registry, ScrapedKind::Counter, LOG_LINES_DROPPED, help);
        let (dropped_by_class, refusals_suppressed) = (DroppedByClass::default(), Counter::default());
        registry.register_collector(Box::new(dropped_by_class.clone()));
        let help = "Refused callouts without a log line, because their client was refused too often";
        registry.register(REFUSALS_SUPPRESSED, help, refusals_suppressed.clone());
        Self { dropped, dropped_by_class, refusals_suppressed }
    }

    /// Names the function that returns the number of dropped lines at each scrape.
    pub fn dropped_from(&self, source: impl Fn() -> u64 + Send + Sync + 'static) {
        self.dropped.read_from(source);
    }

    /// The number of dropped lines.
    pub fn dropped(&self) -> u64 {
        self.dropped.read()
    }

    /// Names the function that returns the number of dropped lines of a class at each scrape.
    pub fn dropped_by_class_from(&self, source: impl Fn(LineClass) -> u64 + Send + Sync + 'static) {
        *self.dropped_by_class.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(source));
    }

    /// Counts a refused callout that has no log line.
    pub fn refusal_suppressed(&self) {
        self.refusals_suppressed.inc();
    }
}

/// Lines for which the log's buffer had no room, by what they are about.
#[derive(Clone, Default)]
struct DroppedByClass(Arc<Mutex<Option<ByClass>>>);

type ByClass = Box<dyn Fn(LineClass) -> u64 + Send + Sync>;

impl fmt::Debug for DroppedByClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DroppedByClass")
    }
}

impl Collector for DroppedByClass {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let source = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let help = "Log lines for which the buffer had no room";
        let mut family = describe(&mut encoder, LOG_LINES_DROPPED_BY_CLASS, help, MetricType::Counter)?;
        for class in LineClass::ALL {
            let dropped = source.as_ref().map_or(0, |source| source(*class));
            ConstCounter::new(dropped).encode(family.encode_family(&[("class", class.as_str())])?)?;
        }
        Ok(())
    }
}

label_enum! {
    /// The purpose of a certificate.
    pub enum CertificateRole {
        /// The gateway's own certificate, for clients.
        Server = "server",
        /// CA of the clients' certificates.
        ClientCa = "client_ca",
        /// The gateway's certificate for endpoints.
        UpstreamClient = "upstream_client",
        /// CA of the endpoints' certificates.
        UpstreamCa = "upstream_ca",
        /// The certificate that an endpoint shows: of all endpoints, the one that ends first.
        Upstream = "upstream",
        /// CA of the certificates of applications that receive pushes.
        PushCa = "push_ca",
        /// CA of the certificate of the shared store.
        StoreCa = "store_ca",
    }
}

impl CertificateRole {
    /// Whether a file for this role holds alternatives, not a chain.
    pub fn is_set_of_authorities(self) -> bool {
        match self {
            Self::ClientCa | Self::UpstreamCa | Self::PushCa | Self::StoreCa => true,
            Self::Server | Self::UpstreamClient | Self::Upstream => false,
        }
    }
}

/// Configuration, certificates, panics.
#[derive(Debug)]
pub struct ProcessMetrics {
    mode: StaticFamily<Gauge>,
    last_reload_successful: Gauge,
    last_reload: OptionalGauge,
    config: ConfigInfo,
    not_after: OptionalGaugeFamily,
    panics: Counter,
}

impl ProcessMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            mode: StaticFamily::by("mode", words!(Mode), Gauge::default),
            last_reload_successful: Gauge::default(),
            last_reload: OptionalGauge::absent(),
            config: ConfigInfo::default(),
            not_after: OptionalGaugeFamily::by("role", words!(CertificateRole)),
            panics: Counter::default(),
        };
        // The configuration was valid at the start.
        metrics.reloaded(true);
        registry.register(VALIDATION_MODE, "1 for the mode that is on", metrics.mode.clone());
        let help = "1 when the running configuration is the latest one";
        registry.register(LAST_RELOAD_SUCCESSFUL, help, metrics.last_reload_successful.clone());
        let help = "When the running configuration was put in force";
        registry.register(LAST_RELOAD_TIMESTAMP, help, metrics.last_reload.clone());
        registry.register_collector(Box::new(metrics.config.clone()));
        let help = "When the certificate that ends first becomes invalid";
        registry.register(CERTIFICATE_NOT_AFTER, help, metrics.not_after.clone());
        registry.register(PANICS, "Defects that were caught", metrics.panics.clone());
        let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register(BUILD, "The running version", version);
        metrics
    }

    /// Sets the validation mode.
    pub fn mode(&self, mode: Mode) {
        self.mode.select(mode.index());
    }

    /// A configuration with this hash was put in force at this time, in seconds since the Unix epoch.
    pub fn configured(&self, hash: &str, timestamp: i64) {
        self.config.set(hash);
        self.last_reload.set(timestamp);
    }

    /// Records the result of a reload.
    pub fn reloaded(&self, successful: bool) {
        self.last_reload_successful.set(i64::from(successful));
    }

    /// Sets when the certificate of this role expires (the first to expire, if there are several); `None` if there is
    /// no certificate.
    pub fn certificate_not_after(&self, role: CertificateRole, end: Option<SystemTime>) {
        self.not_after.set(role.index(), end.map(seconds));
    }

    /// The certificates, each with the time when it expires, in seconds since the Unix epoch.
    pub fn certificates(&self) -> Vec<(CertificateRole, i64)> {
        let known = |role: &CertificateRole| Some((*role, self.not_after.value(role.index())?));
        CertificateRole::ALL.iter().filter_map(known).collect()
    }

    /// The number of caught panics.
    pub fn panics(&self) -> u64 {
        self.panics.get()
    }

    /// Counts a caught panic.
    pub fn panicked(&self) {
        self.panics.inc();
    }
}

/// A time in seconds since the Unix epoch.
pub(super) fn seconds(time: SystemTime) -> i64 {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX)
}

/// The hash of the running configuration as a label. Each reload can change it, and only one series exists at a time.
#[derive(Clone, Debug, Default)]
struct ConfigInfo(Arc<Mutex<Option<String>>>);

impl ConfigInfo {
    fn set(&self, hash: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(hash.to_owned());
    }
}

impl Collector for ConfigInfo {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let hash = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut encoder = describe(&mut encoder, CONFIG, "The hash of the running configuration", MetricType::Info)?;
        hash.map_or(Ok(()), |hash| encoder.encode_info(&[("hash", hash)]))
    }
}
