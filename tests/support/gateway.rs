//! A gateway in this process.

use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use previewgate::app::{App, Running};
use previewgate::config::Config;
use previewgate::preview::{AgentId, Clock};
use previewgate::protocol::{Delivery, parse_events};
use previewgate::reload::ReloadError;
use previewgate::simulator::SimulatorHandle;
use previewgate::store::{Ledger, Source, StoreState};
use previewgate::systemd::Inherited;
use previewgate::telemetry::Logging;
use rustls::ClientConfig;

use super::access::value_of;
use super::{Access, CapturedLog, PATIENCE, eventually, id, within};

/// A gateway in this process. Dropping it begins its end; [`Gateway::close`] waits for it.
pub(crate) struct Gateway {
    access: Access,
    /// Everything that it logged.
    pub(crate) log: CapturedLog,
    running: Option<Running>,
    /// After `running`, which writes to it to the end.
    logging: Logging,
}

/// A gateway that is bound and does not serve yet: connections wait in its backlog.
pub(crate) struct Bound {
    app: App,
    log: CapturedLog,
    logging: Logging,
    simulator: SimulatorHandle,
    tls: Option<Arc<ClientConfig>>,
}

impl Bound {
    /// `file` is where the configuration came from: what a reload reads.
    pub(super) fn new(
        config: Config,
        file: PathBuf,
        simulator: SimulatorHandle,
        tls: Option<Arc<ClientConfig>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let log = CapturedLog::default();
        let logging = Logging::start(config.log.format, config.log.level, Box::new(log.clone())).unwrap();
        let app = App::bind_with(config, &logging, Inherited::default(), clock).unwrap().reloading(file);
        Self { app, log, logging, simulator, tls }
    }

    /// Where applications connect to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.app.address()
    }

    /// Begins to serve.
    pub(crate) fn start(self) -> Gateway {
        let Self { app, log, logging, simulator, tls } = self;
        let running = app.start().unwrap();
        let access =
            Access { address: running.address, admin_address: running.admin_address, simulator, tls, pipes: None };
        Gateway { access, log, running: Some(running), logging }
    }
}

impl Deref for Gateway {
    type Target = Access;

    fn deref(&self) -> &Access {
        &self.access
    }
}

impl Gateway {
    /// The running gateway.
    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// The previews and sessions that it knows.
    pub(crate) fn store(&self) -> Arc<Ledger> {
        Arc::clone(&self.running().services.ledger)
    }

    /// Waits until its clock, which has milliseconds, shows another time: two events that are told apart by their time
    /// need different ones.
    pub(crate) async fn clock_ticks(&self) {
        let clock = &self.running().services.clock;
        let now = clock.now();
        while clock.now() == now {
            tokio::task::yield_now().await;
        }
    }

    /// Whether it is connected to the shared store, which knows everything that this gateway does.
    pub(crate) fn is_well(&self) -> bool {
        self.store().state() == StoreState::Ok
    }

    /// As if the agent had been shown this number, without a poll.
    pub(crate) fn learns(&self, agent: u32, control_id: i64, number: &str) {
        record(&self.store(), id(agent), control_id, number);
    }

    /// The present value of a series, spelled as in `GET /metrics`: `previewgate_head_faults_total`. 0 if absent.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        value_of(&self.running().services.metrics.encode(), series)
    }

    /// Waits until a series has this value: an exchange is counted when it is over, which can be a moment after the
    /// client has read its answer. Metrics give no signal when they change, so this looks again and again.
    #[track_caller]
    pub(crate) fn metric_becomes(&self, series: &str, value: f64) -> impl Future<Output = ()> {
        eventually(format!("{series} to become {value}"), move || (self.metric(series) - value).abs() < f64::EPSILON)
    }

    /// Reads the configuration file again and puts it in force.
    pub(crate) fn reload(&self) -> Result<(), ReloadError> {
        self.running().reload()
    }

    /// Looks whether certificate files have changed, as the gateway does every few seconds.
    pub(crate) fn check_certificate_files(&self) {
        self.running().check_certificate_files();
    }

    /// Begins the orderly end.
    pub(crate) fn stop(&self) {
        self.running().stop();
    }

    /// Waits for the end, and returns what the process would end with.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> impl Future<Output = io::Result<()>> + use<> {
        let running = self.running.take().unwrap();
        let ended = tokio::task::spawn_blocking(move || running.wait());
        within("the gateway to end", async { ended.await.unwrap() })
    }

    /// Ends it in order and returns its log.
    pub(crate) async fn close(mut self) -> CapturedLog {
        self.stop();
        self.ended().await.unwrap();
        self.flush_log();
        self.log.clone()
    }

    /// Waits until everything that was logged so far can be read.
    pub(crate) fn flush_log(&self) {
        assert!(self.logging.writer.flush(PATIENCE));
    }

    /// Everything that was logged so far.
    pub(crate) fn logged(&self) -> String {
        self.flush_log();
        self.log.text()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.stop();
        }
        if !std::thread::panicking() {
            self.log.assert_follows_schema();
        }
    }
}

/// Records that the agent was shown this number, as a poll of all agents would.
pub(crate) fn record(ledger: &Ledger, agent: AgentId, control_id: i64, number: &str) {
    let event = serde_json::json!({
        "eventType": "AgentEvent_Preview_CallOut",
        "workNo": agent.to_string(),
        "content": {"controlid": control_id, "dialeddigits": number},
    });
    let source = Source {
        meant_for: None,
        delivery: Delivery::PollAll,
        session: None,
        began: ledger.moment(),
        at: ledger.clock().now(),
    };
    ledger.record(parse_events(event.to_string().as_bytes()).unwrap(), &source);
}
