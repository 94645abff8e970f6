//! The supervisor: everything that must not disturb the workers, and the order in which the process ends.
//!
//! It runs the admin listener, the housekeeping of the ledger, the looks at certificate files, probes and snapshots. At
//! the end it announces the phases of the shutdown, or hands over to the process that takes over.

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
use crate::admin::Admin;
use crate::audit::AuditGuard;
use crate::gateway::{DrainStage, Generation, Services};
use crate::reload::Reloader;
use crate::server::{ActiveGeneration, Phase, PhaseControl, PhaseWatch};
use crate::store::Moment;

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
/// Interval of the reports about refusals without a log line.
const REFUSAL_REPORTS: Duration = Duration::from_secs(10);
/// Time to record the requests that are cut at the drain deadline.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Time to write what the shared store does not have yet, if nothing is left of `shutdown.drain`.
const LAST_WRITES: Duration = Duration::from_secs(1);

/// How the process shall end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    NotYet,
    Orderly,
    AtOnce,
}

/// Everything that must not disturb the workers. See the module.
pub(super) struct Supervisor {
    pub(super) admin: Admin,
    pub(super) active: ActiveGeneration,
    pub(super) reloader: Arc<Reloader>,
    pub(super) snapshotter: Option<Snapshotter>,
    pub(super) saving: Saving,
    /// Kept only to be offered.
    pub(super) listeners: Vec<std::net::TcpListener>,
    pub(super) offer: Option<(UnixListener, HandedOver)>,
    pub(super) predecessor: Option<(Predecessor, Moment)>,
    /// Ends the audit log when dropped.
    pub(super) audit: Option<AuditGuard>,
    pub(super) control: PhaseControl,
    /// Closed when the last worker has ended.
    pub(super) gone: mpsc::Receiver<()>,
}

impl Supervisor {
    /// Runs until the process has ended in order.
    pub(super) async fn run(mut self, admin: tokio::net::TcpListener, mut stopped: watch::Receiver<End>) {
        let services = Arc::clone(&self.active.current().services);
        let offer = self.open_offer(&admin, &services);
        let admin = tokio::spawn(self.admin.clone().run(admin));
        tokio::spawn(probe_endpoints(self.active.clone()));
        tokio::spawn(snapshotter::announce_end_of_warm_up(Arc::clone(&services)));
        self.begin_saving(&services);
        let successor = self.serve(&services, offer, &mut stopped).await;
        if let Some(successor) = successor {
            admin.abort();
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

    /// Until the process shall end, or another one has taken over.
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

    /// The offer holds all sockets open. It ends before the listeners close.
    fn open_offer(&mut self, admin: &tokio::net::TcpListener, services: &Arc<Services>) -> Option<(Offer, HandedOver)> {
        let listeners = std::mem::take(&mut self.listeners);
        let (socket, handed_over) = self.offer.take()?;
        match Offer::new(socket, &listeners, admin.as_fd(), services) {
            Ok(offer) => Some((offer, handed_over)),
            Err(error) => {
                tracing::warn!(target: "previewgate", %error, "no process can take over from this one");
                None
            }
        }
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
            // An error: the earlier process is gone, and its lock with it.
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
        // Nothing changes any more: the stream ends when everything has been handed on.
        ledger.hand_on(None);
        let _ = tokio::time::timeout(LAST_WORDS, handing_on).await;
    }

    /// Cuts what is still open, if there is anything.
    async fn end_drain(&mut self, drained: bool) {
        if !drained {
            self.control.announce(Phase::Cut);
            let _ = tokio::time::timeout(LAST_WORDS, self.gone.recv()).await;
        }
        self.control.announce(Phase::Ended);
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
        let soon = Instant::now() + LAST_WRITES;
        if *stopped.borrow_and_update() == End::AtOnce { soon } else { drained.max(soon) }
    };
    let at_once = async {
        if asked_again.wait_for(|end| *end == End::AtOnce).await.is_err() {
            pending::<()>().await;
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
