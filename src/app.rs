//! The composition root: from a checked configuration to a running gateway, and to its orderly end.
//!
//! Nothing here or below is global: two gateways run in one process side by side (the tests do).
//!
//! Threads: one per worker with its own runtime, listener and upstream connections, and one supervisor for everything
//! that must not disturb them: the admin listener, housekeeping, and the order of shutting down.

mod snapshotter;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::Dispatch;

use self::snapshotter::Snapshotter;
use crate::admin::Admin;
use crate::audit::{AuditError, AuditGuard};
use crate::config::Config;
use crate::gateway::{AuditTrail, DrainStage, Generation, Services, ServicesError, SetupError};
use crate::preview::{Clock, SystemClock};
use crate::reload::{ReloadError, Reloader, Trigger, report_config};
use crate::server::{self, ActiveGeneration, Admission, Phase, PhaseControl, PhaseWatch, Worker};
use crate::store::StateFileError;
use crate::store::snapshot::SnapshotFile;
use crate::systemd::{Inherited, Notifier};
use crate::telemetry::{Logging, Metrics};

/// Interval of the reports about refusals without a log line.
const REFUSAL_REPORTS: Duration = Duration::from_secs(10);
/// Interval of the ledger's housekeeping.
const HOUSEKEEPING: Duration = Duration::from_millis(250);
/// Interval of the check for changed certificate files.
const CERTIFICATES: Duration = Duration::from_secs(5);
/// Interval of the report about certificates that expire soon.
const CERTIFICATE_REPORTS: Duration = Duration::from_secs(24 * 60 * 60);
/// Interval of the check for probes that are due.
const PROBES: Duration = Duration::from_millis(100);
/// The first requests show the state of the endpoints in use. So only the others are probed when this time is over.
const FIRST_PROBES: Duration = Duration::from_millis(500);
/// Interval of the check whether the held polls have their answers.
const LINGER_LOOKS: Duration = Duration::from_millis(20);
/// The longest time that an application waits between two polls (docs/protocol.md 6.1), and some reserve.
const PAUSE_BETWEEN_POLLS: Duration = Duration::from_millis(600);
/// Time to record the requests that are cut at the drain deadline.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Time to write what the shared store does not have yet, if nothing is left of `shutdown.drain`.
const LAST_WRITES: Duration = Duration::from_secs(1);

/// Why the gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be bound.
    #[error("{key} {address} cannot be bound: {source}")]
    Bind {
        /// The key of the address.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's words.
        source: io::Error,
    },
    /// The files that the configuration names cannot be used.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The services of the process cannot be built.
    #[error(transparent)]
    Services(#[from] ServicesError),
    /// The snapshot must not be used.
    #[error("previews.snapshot: {0}")]
    Snapshot(#[from] StateFileError),
    /// The audit log cannot be started.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Threads or their runtimes cannot be made.
    #[error("a worker cannot be started: {0}")]
    Thread(#[from] io::Error),
}

/// A gateway that is bound to its addresses and does not serve yet.
pub struct App {
    active: ActiveGeneration,
    reloader: Reloader,
    snapshot: Option<SnapshotFile>,
    audit: Option<AuditGuard>,
    listeners: Vec<std::net::TcpListener>,
    admin: std::net::TcpListener,
    address: SocketAddr,
    admin_address: SocketAddr,
    dispatch: Dispatch,
}

impl App {
    /// Reads certificates and keys, restores previews and binds all addresses.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left bound.
    pub fn bind(config: Config, logging: &Logging) -> Result<Self, StartError> {
        Self::bind_with(config, logging, Inherited::default(), Arc::new(SystemClock::new()))
    }

    /// Like [`App::bind`], with inherited sockets in place of the configured addresses where there are any, and with a
    /// clock of the caller's choice: previews are judged by it.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left bound.
    pub fn bind_with(
        config: Config,
        logging: &Logging,
        inherited: Inherited,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::new());
        let writer = logging.writer.clone();
        metrics.log.dropped_from(move || writer.dropped());
        let writer = logging.writer.clone();
        metrics.log.dropped_by_class_from(move |class| writer.dropped_of(class));
        report_config(&config, &metrics);
        let bound = |key, address| move |source| StartError::Bind { key, address, source };
        let workers = config.runtime.workers;
        let listeners = match inherited.listener {
            Some(socket) => server::share(socket, workers),
            None => server::bind(config.listener.address, workers),
        }
        .map_err(bound("listener.address", config.listener.address))?;
        let admin = match inherited.admin {
            Some(socket) => Ok(socket),
            None => std::net::TcpListener::bind(config.admin.address),
        }
        .map_err(bound("admin.address", config.admin.address))?;
        let address = listeners.first().map_or(Ok(config.listener.address), std::net::TcpListener::local_addr)?;
        let admin_address = admin.local_addr()?;
        let start_audit = || AuditTrail::start(&config, &clock);
        let (trail, audit) = tracing::dispatcher::with_default(&logging.dispatch, start_audit)?;
        let mut services = Services::new(&config, clock, metrics)?;
        services.use_audit(trail, &config);
        services.own_addresses = vec![address, admin_address];
        // Before the first request is served: no callout may be judged without the previews of the last run.
        let restore = || snapshotter::restore(&config, &mut services);
        let snapshot = tracing::dispatcher::with_default(&logging.dispatch, restore)?;
        let active = ActiveGeneration::new(Generation::build(&Arc::new(services), config, None)?);
        let reloader = Reloader::new(active.clone(), logging.level.clone());
        let dispatch = logging.dispatch.clone();
        Ok(Self { active, reloader, snapshot, audit, listeners, admin, address, admin_address, dispatch })
    }

    /// Reloads `file` when asked to: it is where the configuration came from.
    #[must_use]
    pub fn reloading(mut self, file: PathBuf) -> Self {
        self.reloader = self.reloader.from_file(file);
        self
    }

    /// The address that applications connect to. Connections wait until [`App::start`].
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Tells systemd of reloads.
    #[must_use]
    pub fn notifying(mut self, notifier: Notifier) -> Self {
        self.reloader = self.reloader.notifying(notifier);
        self
    }

    /// Starts to serve.
    ///
    /// # Errors
    /// When threads or runtimes cannot be made.
    pub fn start(self) -> Result<Running, StartError> {
        let (control, phase) = PhaseControl::new();
        let (alive, gone) = mpsc::channel::<()>(1);
        let mut threads = Vec::new();
        let admission = Admission::new();
        for (number, listener) in self.listeners.into_iter().enumerate() {
            listener.set_nonblocking(true)?;
            let worker = Worker::new(self.active.clone(), Arc::clone(&admission), phase.clone());
            let alive = alive.clone();
            threads.push(thread(&format!("worker-{number}"), &self.dispatch, async move {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                worker.run(listener).await;
                drop(alive);
                Ok(())
            })?);
        }
        drop(alive);
        let generation = self.active.current();
        let services = &generation.services;
        let (stop, stopped) = watch::channel(End::NotYet);
        if services.ledger.is_shared() {
            // A thread of its own: everybody who waits for the shared store waits for it.
            threads.push(thread("store", &self.dispatch, share(self.active.clone(), phase.clone(), stopped.clone()))?);
        }
        let reloader = Arc::new(self.reloader);
        let supervisor = Supervisor {
            admin: Admin::new(self.active.clone(), Arc::clone(&reloader), phase),
            snapshotter: self.snapshot.map(|file| Snapshotter::new(file, &generation.config.previews, services)),
            audit: self.audit,
            active: self.active.clone(),
            reloader: Arc::clone(&reloader),
            control,
            gone,
        };
        let admin = self.admin;
        admin.set_nonblocking(true)?;
        threads.push(thread("supervisor", &self.dispatch, async move {
            let admin = tokio::net::TcpListener::from_std(admin)?;
            supervisor.run(admin, stopped).await;
            Ok(())
        })?);
        let (address, admin_address) = (self.address, self.admin_address);
        Ok(Running {
            address,
            admin_address,
            services: Arc::clone(services),
            active: self.active.clone(),
            reloader,
            stop,
            threads,
            dispatch: self.dispatch,
        })
    }
}

/// A gateway that serves.
pub struct Running {
    /// The address that applications connect to.
    pub address: SocketAddr,
    /// The address of the admin listener.
    pub admin_address: SocketAddr,
    /// The services of the process; for tests.
    pub services: Arc<Services>,
    active: ActiveGeneration,
    reloader: Arc<Reloader>,
    stop: watch::Sender<End>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    /// The caller provides the log, if it wants one.
    dispatch: Dispatch,
}

impl Running {
    /// The configuration in force, and what follows from it; for tests.
    pub fn generation(&self) -> Arc<Generation> {
        self.active.current()
    }

    /// Begins the orderly end: not ready, delay, drain, cut. Returns at once.
    pub fn stop(&self) {
        self.stop.send_if_modified(|end| std::mem::replace(end, (*end).max(End::Orderly)) < End::Orderly);
    }

    /// Can shorten the orderly end, from another thread.
    pub fn cutter(&self) -> Cutter {
        Cutter(self.stop.clone())
    }

    /// Reads the configuration file again, as after SIGHUP. The result is also logged.
    ///
    /// # Errors
    /// All faults of the configuration. Nothing has changed then.
    pub fn reload(&self) -> Result<(), ReloadError> {
        tracing::dispatcher::with_default(&self.dispatch, || self.reloader.reload(Trigger::Signal))
    }

    /// Looks whether certificates or keys have been replaced. The supervisor does so every few seconds; this is for
    /// who cannot wait.
    pub fn look_at_certificates(&self) {
        tracing::dispatcher::with_default(&self.dispatch, || self.reloader.look_at_certificates());
    }

    /// Waits until every thread has ended.
    ///
    /// # Errors
    /// When a thread could not do its work.
    pub fn wait(self) -> io::Result<()> {
        let join = |thread: JoinHandle<io::Result<()>>| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread of the gateway panicked")))
        };
        // Joins all before it complains about one.
        self.threads.into_iter().map(join).fold(Ok(()), Result::and)
    }
}

/// How the process shall end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    NotYet,
    Orderly,
    AtOnce,
}

/// Shortens the orderly end of a gateway.
#[derive(Clone, Debug)]
pub struct Cutter(watch::Sender<End>);

impl Cutter {
    /// Cuts open connections at once. Their requests are recorded, and previews are saved.
    pub fn cut(&self) {
        self.0.send_replace(End::AtOnce);
    }
}

struct Supervisor {
    admin: Admin,
    active: ActiveGeneration,
    reloader: Arc<Reloader>,
    snapshotter: Option<Snapshotter>,
    /// Ends the audit log when dropped.
    audit: Option<AuditGuard>,
    control: PhaseControl,
    /// Closed when the last worker has ended.
    gone: mpsc::Receiver<()>,
}

impl Supervisor {
    async fn run(mut self, admin: tokio::net::TcpListener, mut stopped: watch::Receiver<End>) {
        tokio::spawn(self.admin.clone().run(admin));
        let services = Arc::clone(&self.active.current().services);
        tokio::spawn(probe_endpoints(self.active.clone()));
        tokio::spawn(snapshotter::announce_end_of_warm_up(Arc::clone(&services)));
        let saving = self.snapshotter.clone().map(|snapshotter| tokio::spawn(snapshotter.run()));
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        let mut certificates = tokio::time::interval(CERTIFICATES);
        let mut refusals = tokio::time::interval(REFUSAL_REPORTS);
        // The first tick is at the start.
        let mut reports = tokio::time::interval(CERTIFICATE_REPORTS);
        loop {
            tokio::select! {
                _ = housekeeping.tick() => {
                    services.ledger.maintain();
                    services.audit.maintain(&services.ledger, services.clock.now());
                }
                _ = certificates.tick() => self.reloader.look_at_certificates(),
                _ = refusals.tick() => services.refusal_lines.report(),
                _ = reports.tick() => self.reloader.report_certificates(),
                _ = stopped.wait_for(|end| *end > End::NotYet) => break,
            }
        }
        self.shut_down(&mut stopped).await;
        if let Some(saving) = saving {
            saving.abort();
        }
        // The save follows the end of the last worker, so it contains every preview that was shown.
        if let Some(snapshotter) = &self.snapshotter {
            snapshotter.finish().await;
        }
        services.refusal_lines.report();
        services.audit.finish(services.clock.now());
        drop(self.audit.take());
        tracing::info!(target: "previewgate", "ended");
    }

    async fn shut_down(&mut self, stopped: &mut watch::Receiver<End>) {
        let generation = self.active.current();
        let open = || generation.services.metrics.connections.downstream.open();
        let drained = tokio::select! {
            drained = self.drain(&generation) => drained,
            _ = stopped.wait_for(|end| *end == End::AtOnce) => {
                tracing::warn!(target: "previewgate", connections = open(), "asked again to end: cutting what is still open");
                false
            }
        };
        if !drained {
            self.control.announce(Phase::Cut);
            let _ = tokio::time::timeout(LAST_WORDS, self.gone.recv()).await;
        }
        self.control.announce(Phase::Ended);
    }

    /// Lets open requests finish. Returns whether all have.
    async fn drain(&mut self, generation: &Generation) -> bool {
        let shutdown = &generation.config.shutdown;
        let open = || generation.services.metrics.connections.downstream.open();
        tracing::info!(target: "previewgate", connections = open(), "shutting down: not ready any more");
        self.control.announce(Phase::NotReady);
        tokio::time::sleep(shutdown.delay).await;
        let deadline = Instant::now() + shutdown.drain;
        self.control.announce(Phase::Lingering);
        generation.services.drain.advance(DrainStage::Draining);
        tracing::info!(target: "previewgate", connections = open(), "draining: until the held polls have their answers");
        let _ = tokio::time::timeout_at(deadline, linger(&generation.services)).await;
        tracing::info!(target: "previewgate", connections = open(), "closing: no new connections");
        self.control.announce(Phase::Draining);
        if tokio::time::timeout_at(deadline, self.gone.recv()).await.is_ok() {
            return true;
        }
        tracing::warn!(target: "previewgate", connections = open(), "drain deadline: cutting what is still open");
        false
    }
}

/// Keeps the shared store connected. When the last worker has ended, what waits is written for what is left of
/// `shutdown.drain`, and for [`LAST_WRITES`] at least; for no longer if the end is asked for again.
async fn share(active: ActiveGeneration, mut phase: PhaseWatch, mut stopped: watch::Receiver<End>) -> io::Result<()> {
    let services = Arc::clone(&active.current().services);
    let mut asked_again = stopped.clone();
    let end = async {
        phase.until(Phase::Draining).await;
        let drained = Instant::now() + active.current().config.shutdown.drain;
        phase.until(Phase::Ended).await;
        let soon = Instant::now() + LAST_WRITES;
        if *stopped.borrow_and_update() == End::AtOnce { soon } else { drained.max(soon) }
    };
    let at_once = async {
        if asked_again.wait_for(|end| *end == End::AtOnce).await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(LAST_WORDS + LAST_WRITES * 2).await;
    };
    tokio::select! {
        () = services.ledger.stay_connected_until(end) => {}
        () = at_once => {}
    }
    Ok(())
}

/// Waits until the upstream holds no poll. If it held any, the agents that pause between two polls get the time to ask
/// once more: their polls are parked, and all are answered when the listeners close.
async fn linger(services: &Services) {
    if services.forwarded_polls() == 0 {
        return;
    }
    let mut looks = tokio::time::interval(LINGER_LOOKS);
    while services.forwarded_polls() > 0 {
        looks.tick().await;
    }
    services.drain.advance(DrainStage::Settling);
    tokio::time::sleep(PAUSE_BETWEEN_POLLS).await;
}

/// Probes endpoints, until the runtime ends.
async fn probe_endpoints(active: ActiveGeneration) {
    let mut ticks = tokio::time::interval_at(Instant::now() + FIRST_PROBES, PROBES);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let upstream = Arc::clone(&active.current().upstream);
        upstream.probe_due().await;
    }
}

/// A thread with a runtime of its own, whose log goes where the gateway's goes.
fn thread(
    name: &str,
    dispatch: &Dispatch,
    work: impl Future<Output = io::Result<()>> + Send + 'static,
) -> io::Result<JoinHandle<io::Result<()>>> {
    let dispatch = dispatch.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _log = tracing::dispatcher::set_default(&dispatch);
        let outcome = runtime.block_on(work);
        // All necessary work has ended. A hanging disk or name server must not keep the process alive.
        runtime.shutdown_background();
        outcome
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::config::{self, Files, LogFormat};

    /// The end may be announced before a worker has looked at its listener for the first time, or between two looks.
    #[test]
    fn who_waits_when_the_end_is_announced_gets_an_answer() {
        let text = "listener.address = \"127.0.0.1:0\"\nadmin.address = \"127.0.0.1:0\"\nruntime.workers = 1\n\
                    upstream.endpoints = [\"http://127.0.0.1:1\"]\n";
        let config = config::parse(text, std::path::Path::new("."), Files::Check).unwrap();
        let logging = Logging::start(LogFormat::Json, tracing::Level::ERROR, Box::new(io::sink())).unwrap();
        let mut app = App::bind(config, &logging).unwrap();
        let mut client = std::net::TcpStream::connect(app.address()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        client.write_all(b"GET /agentgateway/x HTTP/1.1\r\nHost: gateway\r\n\r\n").unwrap();

        let (control, phase) = PhaseControl::new();
        control.announce(Phase::Draining);
        let listener = app.listeners.remove(0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let worker = Worker::new(app.active, Admission::new(), phase);
            tokio::time::timeout(Duration::from_secs(30), worker.run(listener)).await.unwrap();
        });
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        // Nothing listens at port 1, so the answer is the gateway's own.
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer:?}");
    }
}
