//! A soak: many agents through the gateway against a platform that has faults, while the gateway is reloaded and
//! restarted. What must not happen is counted, and the exit code says whether it did.
//!
//!     cargo build --release && cargo run --release --example soak -- --minutes 20
//!
//! The gateway is a process of its own, with a socket that outlives it as under systemd; the simulated platform and the
//! agents are in this one. [`agent`] is what an agent does and how each answer is judged, [`ledger`] the counting,
//! [`gateway`] the process, [`proof`] the comparison of its audit log with what arrived.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a tool for developers: it prints, and ends when something is missing"
)]

mod agent;
mod gateway;
mod ledger;
#[path = "../support/program.rs"]
mod program;
mod proof;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use previewgate::simulator::{Ending, Fault, Misbehaviour, Simulator, SimulatorConfig, SimulatorHandle, Stage};
use tokio::net::TcpStream;

use gateway::Gateway;
use ledger::Ledger;

/// What to do, and for how long.
#[derive(Parser)]
struct Options {
    /// How long.
    #[arg(long, default_value_t = 20.0)]
    minutes: f64,
    /// How many agents.
    #[arg(long, default_value_t = 100)]
    agents: u32,
    /// Connections that say nothing, kept open all the time; each costs a descriptor in both processes.
    #[arg(long, default_value_t = 200)]
    silent: usize,
    /// Between two reloads (SIGHUP).
    #[arg(long, default_value = "7s", value_parser = humantime::parse_duration)]
    reload_every: Duration,
    /// Between two restarts. Memory is flat or not between them.
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration)]
    restart_every: Duration,
    /// Between two faults of the platform.
    #[arg(long, default_value = "150ms", value_parser = humantime::parse_duration)]
    fault_every: Duration,
    /// Between two rows of the table.
    #[arg(long, default_value = "1m", value_parser = humantime::parse_duration)]
    report_every: Duration,
}

/// Each of these ends with a whole answer at the client: 200, or the gateway's 502 or 504.
const FAULTS: [Fault; 7] = [
    Fault::Delay { milliseconds: 700 },
    Fault::ServerError { status: 503 },
    Fault::GarbageStatusLine,
    Fault::CloseAfterAnswer,
    Fault::Break { at: Stage::BeforeRequest, how: Ending::Reset },
    Fault::Break { at: Stage::AfterRequest, how: Ending::Reset },
    Fault::Break { at: Stage::OnAccept, how: Ending::Reset },
];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let options = Options::parse();
    let simulator = Simulator::start(SimulatorConfig {
        poll_wait: Duration::from_secs(2),
        follow_ups: false,
        lenient_callouts: true,
        ..SimulatorConfig::default()
    })
    .await
    .unwrap();
    let ledger = Arc::new(Ledger::default());
    let mut gateway = Gateway::start(simulator.address()).await;
    for number in 0..options.agents {
        let agent = agent::Agent::new(101 + number, gateway.address, simulator.handle(), Arc::clone(&ledger));
        tokio::spawn(agent.work());
    }
    for _ in 0..options.silent {
        tokio::spawn(say_nothing(gateway.address));
    }
    let begun = Instant::now();
    conduct(&options, &simulator.handle(), &ledger, &mut gateway).await;
    // Faults are over: what is under way may end before it is looked at for the last time.
    simulator.handle().behave();
    ledger.finish().await;
    ledger.look(&simulator.handle().journal());
    println!("{}", ledger.row(begun.elapsed(), gateway.resident()));
    gateway.stop().await;
    gateway.print_warnings();
    proof::check(&ledger, &gateway.audit());
    ledger.verdict()
}

/// Faults, reloads, restarts and rows of the table, until the time is over.
async fn conduct(options: &Options, platform: &SimulatorHandle, ledger: &Ledger, gateway: &mut Gateway) {
    println!("{}", Ledger::HEADING);
    let begun = Instant::now();
    let every = |period| {
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks
    };
    let (mut faults, mut reloads, mut restarts) =
        (every(options.fault_every), every(options.reload_every), every(options.restart_every));
    let (mut rows, mut looks) = (every(options.report_every), every(Duration::from_millis(500)));
    let end = tokio::time::sleep(Duration::from_secs_f64(options.minutes * 60.0));
    let mut end = std::pin::pin!(end);
    let mut fault = FAULTS.iter().cycle();
    loop {
        tokio::select! {
            () = &mut end => return,
            _ = faults.tick() => platform.misbehave(Misbehaviour::new(fault.next().unwrap().clone())),
            _ = reloads.tick() => gateway.reload(),
            _ = restarts.tick() => {
                ledger.restarting();
                gateway.restart().await;
                ledger.restarted();
            }
            _ = looks.tick() => ledger.look(&platform.journal()),
            _ = rows.tick() => println!("{}", ledger.row(begun.elapsed(), gateway.resident())),
        }
    }
}

/// Connects and waits for the end, again and again.
async fn say_nothing(address: std::net::SocketAddr) {
    loop {
        if let Ok(socket) = TcpStream::connect(address).await {
            let _ = socket.readable().await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
