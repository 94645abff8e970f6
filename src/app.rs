//! The composition root: from a checked configuration to a running gateway, and to its orderly end.
//!
//! Nothing here or below is global: two gateways run in one process side by side (the tests do).
//!
//! Threads: each worker has one, with its own runtime, listener and upstream connections. The supervisor has one for
//! everything that must not disturb the workers: the admin listener, housekeeping, and the order of shutting down.

mod saving;
mod snapshotter;
mod supervisor;
mod takeover;

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tracing::Dispatch;

use self::saving::Saving;
use self::snapshotter::Snapshotter;
use self::supervisor::{End, Supervisor, share};
pub use self::takeover::{HandedOver, Predecessor};
use crate::admin::{Admin, AdminSocket};
use crate::audit::{AuditError, AuditGuard};
use crate::config::{self, Config};
use crate::gateway::{AuditTrail, Generation, Services, ServicesError, SetupError};
use crate::preview::{Clock, SystemClock};
use crate::reload::{ReloadError, Reloader, Trigger, report_config};
use crate::server::{self, ActiveGeneration, Admission, PhaseControl, PhaseWatch, Worker};
use crate::socket_passing;
use crate::store::snapshot::SnapshotFile;
use crate::store::{Moment, StateFileError};
use crate::systemd::{Inherited, Notifier};
use crate::telemetry::{Logging, Metrics};

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
        /// The system's error.
        source: io::Error,
    },
    /// The Unix socket of the admin listener cannot be bound.
    #[error("admin.socket {} cannot be bound: {source}", path.display())]
    AdminSocket {
        /// Its path.
        path: PathBuf,
        /// The system's error.
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
    /// The process that runs does not hand over.
    #[error("the running gateway does not hand over: {0}")]
    Takeover(#[source] io::Error),
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
    /// The socket where another process can ask to take over, and what to call when it has.
    offer: Option<(UnixListener, HandedOver)>,
    /// The process from which this one takes over, and since when.
    predecessor: Option<(Predecessor, Moment)>,
    admin_socket: Option<AdminSocket>,
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

    /// Like [`App::bind`], with inherited sockets and a given clock. An inherited socket replaces the configured address.
    /// Previews are judged by the clock.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left bound.
    pub fn bind_with(
        config: Config,
        logging: &Logging,
        inherited: Inherited,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let sockets = Sockets::bind(&config, inherited)?;
        Self::with_sockets(config, logging, sockets, clock, None)
    }

    /// Like [`App::bind`], with the sockets and the state of the running process.
    ///
    /// # Errors
    /// [`StartError`]; the running process continues to serve.
    pub fn take_over(config: Config, logging: &Logging, mut predecessor: Predecessor) -> Result<Self, StartError> {
        let sockets = Sockets::taken_over(&config, &mut predecessor)?;
        Self::with_sockets(config, logging, sockets, Arc::new(SystemClock::new()), Some(predecessor))
    }

    fn with_sockets(
        config: Config,
        logging: &Logging,
        sockets: Sockets,
        clock: Arc<dyn Clock>,
        predecessor: Option<Predecessor>,
    ) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::new());
        let writer = logging.writer.clone();
        metrics.log.dropped_from(move || writer.dropped());
        let writer = logging.writer.clone();
        metrics.log.dropped_by_class_from(move |class| writer.dropped_of(class));
        report_config(&config, &metrics);
        let Sockets { listeners, admin } = sockets;
        let admin_socket = admin_socket(&config.admin, predecessor.as_ref())?;
        let address = listeners.first().map_or(Ok(config.listener.address), std::net::TcpListener::local_addr)?;
        let admin_address = admin.local_addr()?;
        let mut services = Services::new(&config, clock, metrics)?;
        let start_audit = || AuditTrail::start(&config, &services.clock);
        let (trail, audit) = tracing::dispatcher::with_default(&logging.dispatch, start_audit)?;
        services.use_audit(trail, &config);
        services.own_addresses = vec![address, admin_address];
        // The snapshot belongs to the earlier process until that process releases it.
        let restore = || if predecessor.is_none() { snapshotter::restore(&config, &mut services) } else { Ok(None) };
        // Before the first request is served: no callout may be judged without the previews of the last run.
        let snapshot = tracing::dispatcher::with_default(&logging.dispatch, restore)?;
        let (services, snapshot_path) = (Arc::new(services), config.previews.snapshot.clone());
        let active = ActiveGeneration::new(Generation::build(&services, config, None)?);
        let receive =
            || predecessor.map(|predecessor| predecessor.with_state(&services, snapshot_path.as_deref())).transpose();
        // This step is the last: a failure before it changes nothing for the running process.
        let predecessor = tracing::dispatcher::with_default(&logging.dispatch, receive);
        let predecessor = predecessor.map_err(StartError::Takeover)?;
        let reloader = Reloader::new(active.clone(), logging.level.clone());
        let (offer, dispatch) = (None, logging.dispatch.clone());
        Ok(Self {
            active,
            reloader,
            snapshot,
            audit,
            listeners,
            admin,
            admin_socket,
            offer,
            predecessor,
            address,
            admin_address,
            dispatch,
        })
    }

    /// Lets another process take over (`run --takeover`). Calls `handed_over` when it has; this process then drains and
    /// ends.
    #[must_use]
    pub fn offering_takeover(mut self, handed_over: HandedOver) -> Self {
        let inherited = self.predecessor.as_ref().map(|(predecessor, _)| predecessor.offer.try_clone());
        match inherited.unwrap_or_else(|| socket_passing::listen(self.address)) {
            Ok(offer) => self.offer = Some((offer, handed_over)),
            Err(error) => {
                let warn = || tracing::warn!(target: "previewgate", %error, "no process can take over from this one");
                tracing::dispatcher::with_default(&self.dispatch, warn);
            }
        }
        self
    }

    /// Enables reloads: `file` is where the configuration came from.
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
        let mut threads = self.start_workers(&phase, &alive)?;
        drop(alive);
        let generation = self.active.current();
        let services = &generation.services;
        let (stop, stopped) = watch::channel(End::NotYet);
        if services.ledger.is_shared() {
            // The link to the shared store has its own thread: each request that waits for the store waits for this thread.
            threads.push(thread("store", &self.dispatch, share(self.active.clone(), phase.clone(), stopped.clone()))?);
        }
        let reloader = Arc::new(self.reloader);
        let supervisor = Supervisor {
            admin: Admin::new(self.active.clone(), Arc::clone(&reloader), phase),
            snapshotter: self.snapshot.map(|file| Snapshotter::new(file, &generation.config.previews, services)),
            audit: self.audit,
            saving: Saving::default(),
            listeners: self.listeners,
            offer: self.offer,
            predecessor: self.predecessor,
            admin_socket: self.admin_socket,
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

impl App {
    /// Starts a thread for each worker, which holds a copy of `alive` until its last request is recorded.
    fn start_workers(
        &self,
        phase: &PhaseWatch,
        alive: &mpsc::Sender<()>,
    ) -> io::Result<Vec<JoinHandle<io::Result<()>>>> {
        let workers = self.active.current().config.runtime.workers;
        let admission = Admission::new();
        let shares = server::distribute(&self.listeners, workers)?.into_iter().enumerate();
        let start = |(number, listeners): (usize, Vec<std::net::TcpListener>)| {
            let worker = Worker::new(self.active.clone(), Arc::clone(&admission), phase.clone());
            let work = async move {
                let listeners = listeners.into_iter().map(|listener| {
                    listener.set_nonblocking(true)?;
                    tokio::net::TcpListener::from_std(listener)
                });
                worker.run(listeners.collect::<io::Result<Vec<_>>>()?).await;
                Ok(())
            };
            let runtime = worker_runtime(&self.active.current().services)?;
            thread_until_gone(&format!("worker-{number}"), &self.dispatch, runtime, work, alive.clone())
        };
        shares.map(start).collect()
    }
}

/// Listening sockets.
struct Sockets {
    listeners: Vec<std::net::TcpListener>,
    admin: std::net::TcpListener,
}

fn bind_error(key: &'static str, address: SocketAddr) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Bind { key, address, source }
}

impl Sockets {
    /// The inherited sockets, and new ones for the addresses without one.
    fn bind(config: &Config, inherited: Inherited) -> Result<Self, StartError> {
        let listeners = match inherited.listener {
            Some(socket) => Ok(vec![socket]),
            None => server::bind(config.listener.address, config.runtime.workers),
        };
        let listeners = listeners.map_err(bind_error("listener.address", config.listener.address))?;
        let admin = match inherited.admin {
            Some(socket) => Ok(socket),
            None => std::net::TcpListener::bind(config.admin.address),
        };
        let admin = admin.map_err(bind_error("admin.address", config.admin.address))?;
        Ok(Self { listeners, admin })
    }

    /// The sockets of the process that runs. The admin listener may have another address now.
    fn taken_over(config: &Config, predecessor: &mut Predecessor) -> Result<Self, StartError> {
        let listeners = std::mem::take(&mut predecessor.listeners);
        let present = predecessor.admin.local_addr()?;
        let admin = if present == config.admin.address || config.admin.address.port() == 0 {
            predecessor.admin.try_clone()?
        } else {
            std::net::TcpListener::bind(config.admin.address)
                .map_err(bind_error("admin.address", config.admin.address))?
        };
        Ok(Self { listeners, admin })
    }
}

/// In a takeover the socket gets its name when this process serves.
fn admin_socket(admin: &config::Admin, predecessor: Option<&Predecessor>) -> Result<Option<AdminSocket>, StartError> {
    let Some(path) = &admin.socket else { return Ok(None) };
    let socket = match predecessor {
        Some(predecessor) => AdminSocket::bind_aside(path, admin.socket_mode, predecessor.admin_socket),
        None => AdminSocket::bind(path, admin.socket_mode),
    };
    socket.map(Some).map_err(|source| StartError::AdminSocket { path: path.clone(), source })
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

    /// Begins the orderly shutdown: not ready, delay, drain, cut. Returns at once.
    pub fn stop(&self) {
        self.stop.send_if_modified(|end| std::mem::replace(end, (*end).max(End::Orderly)) < End::Orderly);
    }

    /// A handle that can shorten the orderly shutdown from another thread.
    pub fn cutter(&self) -> Cutter {
        Cutter(self.stop.clone())
    }

    /// Reads the configuration file again, as after SIGHUP. The result is also logged.
    ///
    /// # Errors
    /// Every fault of the configuration. Then nothing has changed.
    pub fn reload(&self) -> Result<(), ReloadError> {
        tracing::dispatcher::with_default(&self.dispatch, || self.reloader.reload(Trigger::Signal))
    }

    /// Loads certificates and keys again if their files have changed. The supervisor does so every five seconds; a test
    /// calls this instead of waiting.
    pub fn check_certificate_files(&self) {
        tracing::dispatcher::with_default(&self.dispatch, || self.reloader.check_certificate_files());
    }

    /// Waits until every thread has ended.
    ///
    /// # Errors
    /// When a thread could not do its work.
    pub fn wait(self) -> io::Result<()> {
        let join = |thread: JoinHandle<io::Result<()>>| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread of the gateway panicked")))
        };
        // Joins every thread before it returns the first error.
        self.threads.into_iter().map(join).fold(Ok(()), Result::and)
    }
}

/// Shortens the orderly shutdown of a gateway.
#[derive(Clone, Debug)]
pub struct Cutter(watch::Sender<End>);

impl Cutter {
    /// Cuts open connections at once. Their requests are recorded, and previews are saved.
    pub fn cut(&self) {
        self.0.send_replace(End::AtOnce);
    }
}

/// Starts a thread with its own runtime. It logs to the log of the gateway.
fn thread(
    name: &str,
    dispatch: &Dispatch,
    work: impl Future<Output = io::Result<()>> + Send + 'static,
) -> io::Result<JoinHandle<io::Result<()>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread_until_gone(name, dispatch, runtime, work, ())
}

/// The runtime of a worker. When it has nothing to do, it wakes the writer of the audit log for its callouts.
fn worker_runtime(services: &Arc<Services>) -> io::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    if services.audit.log().is_some() {
        let services = Arc::clone(services);
        builder.on_thread_park(move || services.audit.before_park());
    }
    builder.enable_all().build()
}

/// Does `work` like [`thread`], with this runtime, and drops `held` when nothing of the work is left. Requests that are cut are
/// recorded when their tasks end with the runtime, which is after `work`.
fn thread_until_gone(
    name: &str,
    dispatch: &Dispatch,
    runtime: Runtime,
    work: impl Future<Output = io::Result<()>> + Send + 'static,
    held: impl Send + 'static,
) -> io::Result<JoinHandle<io::Result<()>>> {
    let dispatch = dispatch.clone();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _log = tracing::dispatcher::set_default(&dispatch);
        let outcome = runtime.block_on(work);
        // All necessary work has ended. A hanging disk or name server must not keep the process alive.
        runtime.shutdown_background();
        drop(held);
        outcome
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::Duration;

    use super::*;
    use crate::config::{self, Files, LogFormat};
    use crate::server::Phase;

    /// The shutdown may be announced before a worker accepts for the first time, or between two accepts.
    #[test]
    fn a_connection_that_waits_to_be_accepted_at_shutdown_is_answered() {
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
