//! The supervisor: everything that must not disturb the workers, and the order in which the process ends.
//!
//! It runs the admin listener, the housekeeping of the ledger, the checks of certificate files, probes and snapshots. At
//! the end it announces the phases of the shutdown, or hands over to another process.

use std::future::pending;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::saving::Saving;
use super::snapshotter::{self, Snapshotter};
use super::takeover::{HandedOver, Offer, Predecessor, Successor};
use crate::admin::{Admin, AdminSocket, SocketLeaver};
use crate::audit::AuditGuard;
use crate::gateway::{DrainStage, Generation, Services};
use crate::reload::Reloader;
use crate::server::{ActiveGeneration, Phase, PhaseControl, PhaseWatch};
use crate::store::{Ledger, Moment};

/// Interval of the ledger's housekeeping.
const HOUSEKEEPING: Duration = Duration::from_millis(250);
/// Interval of the check for changed certificate files.
const CERTIFICATES: Duration = Duration::from_secs(5);
/// Interval of the check for probes that are due.
const PROBES: Duration = Duration::from_millis(100);
/// Delay of the first check. The first requests show the state of the endpoints in use, so that only the others are probed.
const FIRST_PROBE: Duration = Duration::from_millis(500);
/// Interval of the check whether the held polls have their answers.
const HELD_POLL_CHECKS: Duration = Duration::from_millis(20);
/// Maximum time that an application waits between two polls (docs/protocol.md 6.1), and a reserve.
const PAUSE_BETWEEN_POLLS: Duration = Duration::from_millis(600);
/// Interval of the reports about refusals that have no log line of their own.
const REFUSAL_REPORTS: Duration = Duration::from_secs(10);
/// Time to record the requests that are cut at the drain deadline.
const RECORD_GRACE: Duration = Duration::from_secs(1);
/// Minimum time to write to the shared store what it does not have yet, even if nothing is left of `shutdown.drain`.
const WRITE_GRACE: Duration = Duration::from_secs(1);

/// How the process shall end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    NotYet,
    Orderly,
    AtOnce,
}

/// The machine's clock was wrong, or is wrong now: an operator wants to know.
fn follow_wall_clock(ledger: &Ledger) {
    if let Some(step_ms) = ledger.follow_wall_clock() {
        tracing::warn!(
            target: "previewgate::previews",
            step_ms,
            "the machine's clock was set: previews that were restored have another age now"
        );
    }
}

/// What the supervisor's thread owns.
pub(super) struct Supervisor {
    pub(super) admin: Admin,
    pub(super) active: ActiveGeneration,
    pub(super) reloader: Arc<Reloader>,
    pub(super) snapshotter: Option<Snapshotter>,
    pub(super) saving: Saving,
    /// Kept only for the offer to another process; the workers have their own copies.
    pub(super) listeners: Vec<std::net::TcpListener>,
    pub(super) offer: Option<(UnixListener, HandedOver)>,
    pub(super) predecessor: Option<(Predecessor, Moment)>,
    pub(super) admin_socket: Option<AdminSocket>,
    /// Ends the audit log when dropped.
    pub(super) audit: Option<AuditGuard>,
    pub(super) control: PhaseControl,
    /// Closed when the last worker has ended and its requests are recorded.
    pub(super) gone: mpsc::Receiver<()>,
}

impl Supervisor {
    /// Runs until the shutdown is complete.
    pub(super) async fn run(mut self, admin: tokio::net::TcpListener, mut stopped: watch::Receiver<End>) {
        let services = Arc::clone(&self.active.current().services);
        let offer = self.open_offer(&admin, &services);
        let admin = tokio::spawn(self.admin.clone().run(admin));
        tokio::spawn(probe_endpoints(self.active.clone()));
        tokio::spawn(snapshotter::announce_end_of_warm_up(Arc::clone(&services)));
        let socket_file = self.admin_socket.as_ref().map(AdminSocket::leaver);
        // Before the earlier process learns that this one serves: until then it listens where its clients look.
        self.open_admin_socket();
        self.begin_saving(&services);
        let successor = self.serve(&services, offer, &mut stopped).await;
        if let Some(successor) = successor {
            admin.abort();
            // The other process replaces it.
            socket_file.inspect(SocketLeaver::leave);
            self.hand_over(successor, &mut stopped).await;
        } else {
            self.shut_down(&mut stopped).await;
        }
        // The save follows the end of the last worker, so it contains every preview that was shown.
        self.saving.end().await;
        services.refusal_lines.report();
        services.audit.finish(services.clock.now());
        drop(self.audit.take());
        tracing::info!(target: "previewgate", "ended");
    }

    /// Serves until the process must end (`None`), or until another process has taken over.
    async fn serve(
        &mut self,
        services: &Services,
        offer: Option<(Offer, HandedOver)>,
        stopped: &mut watch::Receiver<End>,
    ) -> Option<Successor> {
        let (offer, handed_over) = offer.unzip();
        let mut taken = pin!(async {
            match &offer {
                Some(offer) => offer.taken().await,
                None => pending().await,
            }
        });
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        let mut certificates = tokio::time::interval(CERTIFICATES);
        let mut refusals = tokio::time::interval(REFUSAL_REPORTS);
        loop {
            tokio::select! {
                _ = housekeeping.tick() => {
                    follow_wall_clock(&services.ledger);
                    services.ledger.maintain();
                    services.audit.maintain(&services.ledger, services.clock.now());
                }
                // The first tick is at the start.
                _ = certificates.tick() => self.reloader.check_certificate_files(),
                _ = refusals.tick() => services.refusal_lines.report(),
                _ = stopped.wait_for(|end| *end > End::NotYet) => return None,
                successor = taken.as_mut() => {
                    if let Some(handed_over) = handed_over {
                        handed_over();
                    }
                    return Some(successor);
                }
            }
        }
    }

    /// Offers all sockets to another process. The offer holds them open, so it must end before the listeners close.
    fn open_offer(&mut self, admin: &tokio::net::TcpListener, services: &Arc<Services>) -> Option<(Offer, HandedOver)> {
        let listeners = std::mem::take(&mut self.listeners);
        let (socket, handed_over) = self.offer.take()?;
        let admin_socket = self.admin_socket.as_ref().map(AdminSocket::file);
        match Offer::new(socket, &listeners, admin.as_fd(), admin_socket, services) {
            Ok(offer) => Some((offer, handed_over)),
            Err(error) => {
                tracing::warn!(target: "previewgate", %error, "no process can take over from this one");
                None
            }
        }
    }

    /// Serves on the Unix socket. In a takeover it replaces the socket of the earlier process.
    fn open_admin_socket(&mut self) {
        let Some(mut socket) = self.admin_socket.take() else { return };
        let path = &self.active.current().config.admin.socket;
        if let (Some(_), Some(path)) = (&self.predecessor, path)
            && let Err(error) = socket.put_in_place(path)
        {
            tracing::warn!(target: "previewgate", %error, "admin.socket cannot be put in place");
        }
        let admin = self.admin.clone();
        tokio::spawn(async move { admin.run_on_socket(socket).await });
    }

    /// Saves previews from now on, or when the earlier process has released the snapshot.
    fn begin_saving(&mut self, services: &Arc<Services>) {
        if let Some(snapshotter) = self.snapshotter.take() {
            self.saving.begin(snapshotter);
        }
        let Some((predecessor, since)) = self.predecessor.take() else { return };
        let (release, released) = oneshot::channel();
        let (following, saving) = (Arc::clone(services), self.saving.clone());
        tokio::spawn(async move { predecessor.follow(&following, since, release).await });
        let (services, previews) = (Arc::clone(services), self.active.current().config.previews.clone());
        tokio::spawn(async move {
            // An error means that the earlier process is gone, and its lock with it.
            let _ = released.await;
            let (opened, settings) = (Arc::clone(&services), previews.clone());
            let file = tokio::task::spawn_blocking(move || snapshotter::take_over(&settings, &opened)).await;
            if let Ok(Some(file)) = file {
                saving.begin(Snapshotter::new(file, &previews, &services));
            }
        });
    }

    /// Another process accepts connections. Lets open requests finish, and hands on what they change.
    async fn hand_over(&mut self, successor: Successor, stopped: &mut watch::Receiver<End>) {
        let generation = self.active.current();
        let ledger = &generation.services.ledger;
        let open = generation.services.metrics.connections.downstream.open();
        tracing::info!(target: "previewgate", connections = open, "another process has taken over: finishing open requests");
        self.control.hand_over();
        self.control.announce(Phase::Draining);
        let (release, released) = oneshot::channel();
        let handing_on = tokio::spawn(successor.hand_on(released));
        self.saving.end().await;
        let _ = release.send(());
        let drained = tokio::select! {
            drained = tokio::time::timeout(generation.config.shutdown.drain, self.gone.recv()) => drained.is_ok(),
            _ = stopped.wait_for(|end| *end == End::AtOnce) => false,
        };
        self.end_drain(drained).await;
        // Nothing changes any more, so the stream ends when everything has been handed on.
        ledger.hand_on(None);
        let _ = tokio::time::timeout(RECORD_GRACE, handing_on).await;
    }

    /// Cuts open connections unless all have ended (`drained`).
    async fn end_drain(&mut self, drained: bool) {
        if !drained {
            self.control.announce(Phase::Cut);
            let _ = tokio::time::timeout(RECORD_GRACE, self.gone.recv()).await;
        }
        self.control.announce(Phase::Ended);
        // The workers end the requests that are left, and record them: the audit log must still be open then.
        let _ = tokio::time::timeout(RECORD_GRACE, self.gone.recv()).await;
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
        self.end_drain(drained).await;
    }

    /// Lets open requests finish, until the drain deadline. Returns whether all have finished.
    async fn drain(&mut self, generation: &Generation) -> bool {
        let shutdown = &generation.config.shutdown;
        let open = || generation.services.metrics.connections.downstream.open();
        tracing::info!(target: "previewgate", connections = open(), "shutting down: not ready any more");
        self.control.announce(Phase::NotReady);
        tokio::time::sleep(shutdown.delay).await;
        let begin = Instant::now();
        // Requests that clients send while polls are still held need time too: a third of it.
        let (closing, deadline) = (begin + shutdown.drain - shutdown.drain / 3, begin + shutdown.drain);
        self.control.announce(Phase::Lingering);
        generation.services.drain.advance(DrainStage::Draining);
        tracing::info!(target: "previewgate", connections = open(), "draining: until the held polls have their answers");
        let _ = tokio::time::timeout_at(closing, linger(&generation.services)).await;
        tracing::info!(target: "previewgate", connections = open(), "closing: no new connections");
        self.control.announce(Phase::Draining);
        if tokio::time::timeout_at(deadline, self.gone.recv()).await.is_ok() {
            return true;
        }
        tracing::warn!(target: "previewgate", connections = open(), "drain deadline: cutting what is still open");
        false
    }
}

/// Keeps the shared store connected. After the end of the last worker, it writes what is still outstanding: for the rest of
/// `shutdown.drain`, and for at least [`WRITE_GRACE`]. A second request to end leaves only [`WRITE_GRACE`].
pub(super) async fn share(
    active: ActiveGeneration,
    mut phase: PhaseWatch,
    mut stopped: watch::Receiver<End>,
) -> io::Result<()> {
    let services = Arc::clone(&active.current().services);
    let mut asked_again = stopped.clone();
    let end = async {
        phase.until(Phase::Draining).await;
        let drained = Instant::now() + active.current().config.shutdown.drain;
        phase.until(Phase::Ended).await;
        let soon = Instant::now() + WRITE_GRACE;
        if *stopped.borrow_and_update() == End::AtOnce { soon } else { drained.max(soon) }
    };
    // The second request to end may come when the deadline is already fixed.
    let at_once = async {
        if asked_again.wait_for(|end| *end == End::AtOnce).await.is_err() {
            pending::<()>().await;
        }
        tokio::time::sleep(RECORD_GRACE + WRITE_GRACE * 2).await;
    };
    tokio::select! {
        () = services.ledger.stay_connected_until(end) => {}
        () = at_once => {}
    }
    Ok(())
}

/// Waits until the upstream holds no poll. If it held any, agents that pause between two polls get the time to poll once
/// more. These polls are parked, and all of them are answered when the listeners close.
async fn linger(services: &Services) {
    if services.forwarded_polls() == 0 {
        return;
    }
    let mut checks = tokio::time::interval(HELD_POLL_CHECKS);
    while services.forwarded_polls() > 0 {
        checks.tick().await;
    }
    services.drain.advance(DrainStage::Settling);
    tokio::time::sleep(PAUSE_BETWEEN_POLLS).await;
}

/// Probes endpoints, until the runtime ends.
async fn probe_endpoints(active: ActiveGeneration) {
    let mut ticks = tokio::time::interval_at(Instant::now() + FIRST_PROBE, PROBES);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let upstream = Arc::clone(&active.current().upstream);
        upstream.probe_due().await;
    }
}
