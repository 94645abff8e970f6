//! Signals. Their handlers are registered before the configuration is read, so that no signal can end a starting gateway.
//!
//! | signal | effect |
//! |---|---|
//! | `TERM`, `INT` | the orderly end; the second one cuts open connections at once; the third one ends the process |
//! | `HUP` | reload |
//! | `USR1`, `USR2`, `ALRM` and the like | none, and a line in the log |

use std::future::poll_fn;
use std::io;
use std::process;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::{Cutter, HandedOver, Running};

/// Signals that end a process without a handler for them. Other programs send them to reopen a log file, to change a level,
/// or by mistake. The numbers are those of Linux.
const IGNORED: [(SignalKind, &str); 9] = [
    (SignalKind::user_defined1(), "SIGUSR1"),
    (SignalKind::user_defined2(), "SIGUSR2"),
    (SignalKind::alarm(), "SIGALRM"),
    (SignalKind::io(), "SIGIO"),
    (SignalKind::from_raw(16), "SIGSTKFLT"),
    (SignalKind::from_raw(25), "SIGXFSZ"),
    (SignalKind::from_raw(26), "SIGVTALRM"),
    (SignalKind::from_raw(27), "SIGPROF"),
    (SignalKind::from_raw(30), "SIGPWR"),
];
/// The real-time signals that the C library leaves to programs. musl keeps one more than glibc, and refuses a handler for it.
const REAL_TIME: std::ops::Range<i32> = if cfg!(target_env = "musl") { 35..64 } else { 34..64 };

/// Exit code when a signal ends the process before its shutdown is complete.
const ABANDONED: i32 = 1;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Stop,
    Reload,
    Ignore(&'static str),
}

/// The signals of the process, from now on.
pub(super) struct Signals {
    orders: Receiver<Order>,
    cutter: Arc<OnceLock<Cutter>>,
    /// For a stop that no signal asks for.
    stop: Sender<Order>,
}

impl Signals {
    /// Registers all handlers and starts the thread that listens.
    pub(super) fn register() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let streams = {
            let _context = runtime.enter();
            streams()?
        };
        let (sender, orders) = channel();
        let cutter = Arc::new(OnceLock::new());
        let stop = sender.clone();
        let listener = Listener { streams, orders: sender, cutter: Arc::clone(&cutter), stops: 0 };
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(listener.run()))?;
        Ok(Self { orders, cutter, stop })
    }

    /// Returns a callback that makes [`Signals::obey`] return. It is called when another process has taken over.
    pub(super) fn stopper(&self) -> HandedOver {
        let stop = self.stop.clone();
        Box::new(move || {
            // If there is no receiver, the process is ending already.
            let _ = stop.send(Order::Stop);
        })
    }

    /// Reloads at SIGHUP; returns at SIGTERM and SIGINT. A signal that came before counts too.
    pub(super) fn obey(&self, running: &Running) {
        let _ = self.cutter.set(running.cutter());
        while let Ok(order) = self.orders.recv() {
            match order {
                Order::Stop => return,
                // The outcome is logged.
                Order::Reload => drop(running.reload()),
                Order::Ignore(signal) => {
                    tracing::info!(target: "previewgate", signal, "signal ignored; the log goes to the standard output");
                }
            }
        }
    }
}

fn streams() -> io::Result<Vec<(Order, Signal)>> {
    let obeyed = [
        (SignalKind::terminate(), Order::Stop),
        (SignalKind::interrupt(), Order::Stop),
        (SignalKind::hangup(), Order::Reload),
    ];
    let ignored = IGNORED.into_iter().map(|(kind, name)| (kind, Order::Ignore(name)));
    let real_time = REAL_TIME.map(|number| (SignalKind::from_raw(number), Order::Ignore("real-time signal")));
    obeyed.into_iter().chain(ignored).chain(real_time).map(|(kind, order)| Ok((order, signal(kind)?))).collect()
}

struct Listener {
    streams: Vec<(Order, Signal)>,
    orders: Sender<Order>,
    cutter: Arc<OnceLock<Cutter>>,
    /// The number of signals to stop.
    stops: u32,
}

impl Listener {
    async fn run(mut self) {
        loop {
            let order = self.next().await;
            if order == Order::Stop {
                self.stops += 1;
            }
            match (self.stops, self.cutter.get()) {
                (2, Some(cutter)) if order == Order::Stop => cutter.cut(),
                // The gateway does not serve yet, or its shutdown hangs.
                (2.., _) if order == Order::Stop => process::exit(ABANDONED),
                _ if self.orders.send(order).is_err() => return,
                _ => {}
            }
        }
    }

    /// Waits for a signal.
    async fn next(&mut self) -> Order {
        poll_fn(|cx| {
            let mut streams = self.streams.iter_mut();
            let arrived = streams.find_map(|(order, stream)| stream.poll_recv(cx).is_ready().then_some(*order));
            arrived.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}
