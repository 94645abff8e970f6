//! A whole gateway over in-memory pipes: no socket, no thread of its own, and time that passes only when all wait.
//!
//! To be used under `#[tokio::test(start_paused = true)]`: an hour passes in a moment, and a time that was measured is
//! exact. There is no operators' listener; [`MemoryLab::metric`] reads the metrics.

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use previewgate::config::{self, Config, Files};
use previewgate::failure::FailureKind;
use previewgate::gateway::{Generation, Services};
use previewgate::preview::{Clock, Timestamp};
use previewgate::server::{ActiveGeneration, Admission, Listener, Phase, PhaseControl, Worker};
use previewgate::simulator::{Simulator, SimulatorConfig};
use previewgate::store::{DialStore, Ledger};
use previewgate::stream::Stream;
use previewgate::telemetry::{Logging, Metrics};
use previewgate::upstream::{Dial, DialError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::access::value_of;
use super::{Access, CapturedLog, PATIENCE, Pipes, within};

/// The name that the simulator has in `upstream.endpoints`. No other name can be reached.
pub(crate) const PLATFORM: &str = "platform";

/// The gateway and the simulator of one test.
pub(crate) struct MemoryLab {
    access: Access,
    generation: Arc<Generation>,
    control: PhaseControl,
    worker: Option<JoinHandle<()>>,
    /// The connection to the shared store.
    connected: Option<JoinHandle<()>>,
    log: CapturedLog,
    logging: Logging,
    /// Connections that the gateway tried to open to its upstreams.
    pub(crate) dialed: Arc<AtomicU64>,
    _simulator: Arc<Simulator>,
    _dispatch: tracing::dispatcher::DefaultGuard,
}

/// What kind of lab.
pub(crate) struct MemorySetup {
    settings: String,
    simulator: SimulatorConfig,
    adjust: Box<dyn FnOnce(&mut Config)>,
    /// Another one that runs already.
    platform: Option<Arc<Simulator>>,
    clock: Option<Arc<dyn Clock>>,
    store: Option<Arc<dyn DialStore>>,
}

impl MemorySetup {
    /// Every key at its default.
    pub(crate) fn new() -> Self {
        let (settings, simulator) = (String::new(), SimulatorConfig::default());
        Self { settings, simulator, adjust: Box::new(|_| {}), platform: None, clock: None, store: None }
    }

    /// Lines of the configuration file, dotted keys first.
    pub(crate) fn settings(self, settings: &str) -> Self {
        Self { settings: settings.to_owned(), ..self }
    }

    /// Changes the simulator's configuration.
    pub(crate) fn simulator(mut self, adjust: impl FnOnce(&mut SimulatorConfig)) -> Self {
        adjust(&mut self.simulator);
        self
    }

    /// Changes the gateway's configuration after it was read. Values below the loader's minimum are possible.
    pub(crate) fn config(self, adjust: impl FnOnce(&mut Config) + 'static) -> Self {
        Self { adjust: Box::new(adjust), ..self }
    }

    /// Puts the gateway in front of this platform, as one of several gateways.
    pub(crate) fn platform(self, platform: &Arc<Simulator>) -> Self {
        Self { platform: Some(Arc::clone(platform)), ..self }
    }

    /// Has the gateway judge by this clock.
    pub(crate) fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// How the gateway reaches the Redis that its settings name.
    pub(crate) fn store(self, store: Arc<dyn DialStore>) -> Self {
        Self { store: Some(store), ..self }
    }

    /// Starts both, on the runtime of the test.
    pub(crate) fn start(self) -> MemoryLab {
        let mut config = configuration(&self.settings);
        (self.adjust)(&mut config);
        let simulator = self.platform.unwrap_or_else(|| Arc::new(Simulator::in_memory(self.simulator)));
        let log = CapturedLog::default();
        let logging = Logging::start(config.log.format, config.log.level, Box::new(log.clone())).unwrap();
        let dispatch = tracing::dispatcher::set_default(&logging.dispatch);
        let dialed = Arc::new(AtomicU64::new(0));
        let dial = SimulatorDial { simulator: Arc::clone(&simulator), dialed: Arc::clone(&dialed) };
        let clock = self.clock.unwrap_or_else(|| Arc::new(PausedClock::new()));
        let mut services = Services::new(&config, clock, Arc::new(Metrics::new())).unwrap();
        services.dial = Arc::new(dial);
        let connected = self.store.map(|store| {
            let ledger = Arc::clone(&services.ledger);
            ledger.reach_store_by(store);
            tokio::spawn(async move { ledger.stay_connected_until(std::future::pending()).await })
        });
        let active = ActiveGeneration::new(Generation::build(&Arc::new(services), config, None).unwrap());
        let generation = active.current();
        let (control, phase) = PhaseControl::new();
        let (pipes, accepted) = mpsc::channel(64);
        let worker = Worker::new(active, Admission::new(), phase);
        let worker = tokio::spawn(worker.run(Listener::Memory(accepted)));
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let access = Access {
            address: nowhere,
            admin_address: nowhere,
            simulator: simulator.handle(),
            tls: None,
            pipes: Some(Pipes::new(pipes)),
        };
        let (worker, _simulator, _dispatch) = (Some(worker), simulator, dispatch);
        MemoryLab { access, generation, control, worker, connected, log, logging, dialed, _simulator, _dispatch }
    }
}

fn configuration(settings: &str) -> Config {
    let endpoints = if settings.contains("upstream.endpoints") {
        String::new()
    } else {
        format!("upstream.endpoints = [\"http://{PLATFORM}:8043\"]\n")
    };
    let text = format!("{endpoints}log.access = \"all\"\n{settings}\n");
    config::parse(&text, Path::new("/"), Files::Skip).unwrap_or_else(|problems| panic!("{problems}"))
}

impl Deref for MemoryLab {
    type Target = Access;

    fn deref(&self) -> &Access {
        &self.access
    }
}

impl MemoryLab {
    /// The present value of a series, spelled as on the metrics page. 0 if it is absent.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        value_of(&self.generation.services.metrics.encode(), series)
    }

    /// Everything that was logged so far.
    pub(crate) fn logged(&self) -> CapturedLog {
        assert!(self.logging.writer.flush(PATIENCE));
        self.log.clone()
    }

    /// Probes the endpoints that are due, as the supervisor of a gateway does several times a second.
    pub(crate) async fn probe_endpoints(&self) {
        self.generation.upstream.probe_due().await;
    }

    /// The previews and sessions that it knows.
    pub(crate) fn store(&self) -> &Ledger {
        &self.generation.services.ledger
    }

    /// Ends the gateway as `kill -9` does.
    pub(crate) fn kill(&self) {
        self.worker.iter().chain(&self.connected).for_each(JoinHandle::abort);
    }

    /// Moves the gateway on towards its end.
    pub(crate) fn announce(&self, phase: Phase) {
        self.control.announce(phase);
    }

    /// Waits until the worker has ended.
    pub(crate) async fn ended(&mut self) {
        within("the worker to end", self.worker.take().unwrap()).await.unwrap();
    }
}

/// Runs `work` and returns how long it took, in whole seconds of paused time.
pub(crate) async fn seconds(work: impl Future<Output = ()>) -> u64 {
    let start = Instant::now();
    work.await;
    start.elapsed().as_secs()
}

/// Follows the paused time of tokio. Each look is a millisecond later than the one before: the gateway tells events apart
/// by their time.
struct PausedClock {
    start: Instant,
    looks: AtomicU64,
}

impl PausedClock {
    fn new() -> Self {
        Self { start: Instant::now(), looks: AtomicU64::new(1_700_000_000_000) }
    }
}

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.looks.fetch_add(1, Ordering::Relaxed)).after(self.start.elapsed())
    }
}

/// Connects [`PLATFORM`] to the simulator and refuses all other hosts.
struct SimulatorDial {
    simulator: Arc<Simulator>,
    dialed: Arc<AtomicU64>,
}

impl Dial for SimulatorDial {
    fn dial<'a>(&'a self, host: &'a str, port: u16, _: Duration) -> BoxFuture<'a, Result<Stream, DialError>> {
        self.dialed.fetch_add(1, Ordering::Relaxed);
        let reached = host == PLATFORM;
        let stream = reached.then(|| Stream::Memory(self.simulator.connect(([192, 0, 2, 1], port).into())));
        Box::pin(std::future::ready(stream.ok_or((FailureKind::Connect, None))))
    }
}
