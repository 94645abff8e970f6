//! What the audit log costs: CPU time of a callout and of a poll with an event, with and without it; throughput and
//! latency; bytes on the disk.
//!
//!     cargo build --release && cargo run --release --example audit_cost -- --directory /var/lib/previewgate
//!
//! Three gateways are processes of their own, over TLS on both sides: one without `[audit]`, one whose records are
//! "written", one whose records are "synced". They take turns in short rounds, so that whatever else the machine does
//! meets all three. The simulated platform and the agents are in this process. CPU time is that of all threads of a
//! gateway, by the scheduler's own clock.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a tool for developers: it prints, and ends when something is missing"
)]

mod agent;
#[path = "../support/cpu_time.rs"]
mod cpu_time;
mod gateway;
#[path = "../support/program.rs"]
mod program;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use previewgate::simulator::{Simulator, SimulatorConfig, self_signed};

use agent::{Agents, Latencies};
use gateway::{Durability, Gateway};

/// What to measure.
#[derive(Parser)]
struct Options {
    /// Where the logs are written: a directory on the disk that is to be measured.
    #[arg(long, default_value = ".")]
    directory: PathBuf,
    /// Rounds of each gateway.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Callouts in a round, and polls in a round.
    #[arg(long, default_value_t = 5000)]
    requests: usize,
    /// Agents, each with a connection that it keeps.
    #[arg(long, default_value_t = 64)]
    agents: u32,
    /// Worker threads of each gateway.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Callouts a second, for throughput and latency; 0 leaves that part out.
    #[arg(long, default_value_t = 5000)]
    rate: u32,
    /// How long that part takes.
    #[arg(long, default_value = "20s", value_parser = humantime::parse_duration)]
    time: Duration,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let options = Options::parse();
    let identity = self_signed(&["127.0.0.1"]).unwrap();
    let simulator = Simulator::start(SimulatorConfig {
        tls: Some(identity.server_config().unwrap()),
        follow_ups: false,
        lenient_callouts: true,
        control: false,
        journal_entries: 1,
        idle_sign_out: Duration::from_secs(3600),
        ..SimulatorConfig::default()
    });
    let simulator = simulator.await.unwrap();
    let directory = tempfile::tempdir_in(&options.directory).unwrap();
    let mut measured = Vec::new();
    for (number, durability) in Durability::ALL.into_iter().enumerate() {
        let home = directory.path().join(durability.word());
        std::fs::create_dir(&home).unwrap();
        let gateway = Gateway::start(durability, home, simulator.address(), &identity, options.workers);
        let first = 1000 + u32::try_from(number).unwrap() * options.agents;
        let agents = Agents::connect(&gateway, &identity, &simulator.handle(), first, options.agents).await;
        measured.push(Measured { gateway, agents, callouts: Vec::new(), polls: Vec::new(), latencies: None });
    }
    for gateway in &mut measured {
        gateway.size(options.requests).await;
    }
    for round in 0..options.rounds {
        // Another one begins each time.
        for step in 0..measured.len() {
            let position = (round + step) % measured.len();
            measured[position].round(options.requests).await;
        }
    }
    print_costs(&measured);
    if options.rate > 0 {
        for gateway in &mut measured {
            gateway.latencies = Some(gateway.agents.call_at(options.rate, options.time).await);
        }
        print_latencies(&measured, &options);
    }
    drop(measured);
}

/// A gateway, and what was measured.
struct Measured {
    gateway: Gateway,
    agents: Agents,
    /// Microseconds of CPU for each, by round.
    callouts: Vec<f64>,
    polls: Vec<f64>,
    latencies: Option<Latencies>,
}

impl Measured {
    /// Warms up, and says how many bytes a callout and a preview take.
    async fn size(&mut self, requests: usize) {
        let start = self.gateway.bytes_on_disk();
        self.agents.poll(requests).await;
        let shown = self.gateway.settled_bytes(start).await;
        self.agents.call(requests).await;
        let called = self.gateway.settled_bytes(shown).await;
        if self.gateway.durability != Durability::None {
            println!(
                "{}: {:.0} bytes a preview with its end, {:.0} bytes a callout",
                self.gateway.durability.word(),
                (shown - start) as f64 / (requests as f64 / 2.0),
                (called - shown) as f64 / requests as f64
            );
        }
    }

    async fn round(&mut self, requests: usize) {
        let before = self.gateway.cpu();
        self.agents.call(requests).await;
        let between = self.gateway.cpu();
        self.agents.poll(requests).await;
        let after = self.gateway.cpu();
        let each = |time: Duration| time.as_secs_f64() * 1e6 / requests as f64;
        self.callouts.push(each(between - before));
        self.polls.push(each(after - between));
    }
}

fn print_costs(measured: &[Measured]) {
    println!("\nCPU time of the gateway, in microseconds: median (lower to upper quartile) of the rounds");
    println!("{:<10} {:>24} {:>8} {:>24} {:>8}", "[audit]", "callout", "more", "poll with an event", "more");
    let base = [median(&measured[0].callouts), median(&measured[0].polls)];
    for Measured { gateway, callouts, polls, .. } in measured {
        let more = |costs: &[f64], base: f64| format!("{:+.1} %", (median(costs) / base - 1.0) * 100.0);
        println!(
            "{:<10} {:>24} {:>8} {:>24} {:>8}",
            gateway.durability.word(),
            spread(callouts),
            more(callouts, base[0]),
            spread(polls),
            more(polls, base[1])
        );
    }
    // Rounds of one turn met the same machine: their differences say more than those of the medians.
    for other in &measured[1..] {
        let paired = |costs: &dyn Fn(&Measured) -> &[f64]| {
            let pairs = costs(other).iter().zip(costs(&measured[0]));
            pairs.map(|(with, without)| (with / without - 1.0) * 100.0).collect::<Vec<_>>()
        };
        let (callouts, polls) = (paired(&|measured| &measured.callouts), paired(&|measured| &measured.polls));
        let word = other.gateway.durability.word();
        println!("{word}, round by round: callout {} %, poll {} %", spread(&callouts), spread(&polls));
    }
}

fn print_latencies(measured: &[Measured], options: &Options) {
    println!("\n{} callouts a second for {:?}, milliseconds since each was due", options.rate, options.time);
    println!(
        "{:<10} {:>10} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "[audit]", "a second", "p50", "p90", "p99", "max", "failed"
    );
    for Measured { gateway, latencies, .. } in measured {
        let Some(latencies) = latencies else { continue };
        let ms = |share| latencies.quantile(share).as_secs_f64() * 1e3;
        println!(
            "{:<10} {:>10.0} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {:>8}",
            gateway.durability.word(),
            latencies.rate(),
            ms(0.5),
            ms(0.9),
            ms(0.99),
            ms(1.0),
            latencies.failed
        );
    }
}

fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

fn spread(values: &[f64]) -> String {
    format!("{:.1} ({:.1} to {:.1})", median(values), quantile(values, 0.25), quantile(values, 0.75))
}

/// Waits until `condition` holds, for a minute at most.
async fn until(condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing happens");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
