//! What it costs to share previews through a real Redis, in one run:
//!
//!     cargo run --release --example sharing_cost -- --agents 100000 --rate 2000 --seconds 30
//!
//! Two ledgers, as of two gateways, fill a `redis-server` with a preview of each agent. Then the first one records previews at
//! the given rate, each as the answer to a poll, and waits until Redis has it, as a poll does before its client sees the
//! answer; the second one hears of all of them. In the end callouts are judged, with Redis and without, by turns: the
//! difference is what sharing adds to a callout. There is no HTTP in this: `examples/peers` measures whole gateways.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a tool for developers: it prints, and ends when something is missing"
)]

#[path = "support/cpu_time.rs"]
mod cpu_time;

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use futures_util::stream::{self, StreamExt};
use previewgate::config::{self, Files};
use previewgate::preview::{AgentId, SystemClock};
use previewgate::protocol::{Delivery, parse_events};
use previewgate::store::{Ledger, Source, StoreState};
use previewgate::telemetry::Metrics;
use tokio::time::{MissedTickBehavior, interval};

use self::cpu_time::cpu_time;

/// What to measure.
#[derive(Clone, Copy, Parser)]
struct Options {
    /// How many agents have a preview. Their numbers begin at 101.
    #[arg(long, default_value_t = 100_000)]
    agents: u32,
    /// Previews in each second.
    #[arg(long, default_value_t = 2000)]
    rate: u32,
    /// How long previews are shown.
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// Callouts that are judged with Redis, and as many without.
    #[arg(long, default_value_t = 20_000)]
    callouts: u32,
}

/// Writes that are under way at once while Redis is filled.
const AT_ONCE: usize = 64;
const FIRST_AGENT: u32 = 101;
/// Of the callouts: with Redis and without by turns, so that both meet the same machine.
const TURNS: u32 = 10;

struct Redis {
    child: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Redis {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--save", "", "--port"])
            .arg(port.to_string())
            .arg("--dir")
            .arg(directory.path());
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::yield_now();
        }
        Self { child, port, _directory: directory }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ledger(store: &str, agents: u32) -> Arc<Ledger> {
    let text = format!(
        "upstream.endpoints = [\"http://127.0.0.1:1\"]\npreviews.max_agents = {}\n{store}",
        agents.max(1000) * 2
    );
    let config = config::parse(&text, Path::new("/"), Files::Skip).unwrap();
    Arc::new(Ledger::new(&config.previews, Arc::new(SystemClock::new()), Arc::new(Metrics::new())))
}

/// A ledger that shares through `redis`. Its connection has a thread of its own, as in a gateway.
fn sharing(redis: &Redis, agents: u32) -> Arc<Ledger> {
    let ledger =
        ledger(&format!("[previews.store]\nkind = \"redis\"\nurl = \"redis://127.0.0.1:{}\"\n", redis.port), agents);
    let connected = Arc::clone(&ledger);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(connected.stay_connected_until(std::future::pending()));
    });
    while ledger.is_joining() || ledger.state() != StoreState::Ok {
        std::thread::yield_now();
    }
    ledger
}

/// Shows a preview to the agent, and returns how long its client waits for the store.
async fn show(ledger: &Ledger, number: u32, control_id: u32) -> Duration {
    let agent = AgentId::try_from(number).unwrap();
    let body = format!(
        "{{\"retcode\":\"0\",\"event\":{{\"eventType\":\"AgentEvent_Preview\",\"workNo\":\"{number}\",\
         \"content\":{{\"controlid\":{control_id},\"dialeddigits\":\"5550101,5550102\"}}}}}}"
    );
    let events = parse_events(body.as_bytes()).unwrap();
    let (began, at) = (ledger.moment(), ledger.clock().now());
    let source = Source { meant_for: Some(agent), delivery: Delivery::Poll, session: None, began, at };
    let start = Instant::now();
    let recorded = ledger.record(events, &source);
    assert!(!recorded.agents.is_empty(), "{recorded:?}");
    ledger.share(&recorded.agents).await.unwrap();
    start.elapsed()
}

async fn fill(ledger: &Ledger, agents: u32) {
    let shown = stream::iter(0..agents).map(|number| show(ledger, FIRST_AGENT + number, 1));
    shown.buffer_unordered(AT_ONCE).for_each(|_| std::future::ready(())).await;
}

/// Shows previews at the rate; returns the waits, the shortest first.
async fn load(ledger: &Arc<Ledger>, options: Options) -> Vec<Duration> {
    let mut tick = interval(Duration::from_secs(1) / options.rate);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut under_way = tokio::task::JoinSet::new();
    for number in 0..options.rate * options.seconds {
        tick.tick().await;
        let ledger = Arc::clone(ledger);
        // Spread over all agents.
        let agent = FIRST_AGENT + (number.wrapping_mul(7919)) % options.agents;
        under_way.spawn(async move { show(&ledger, agent, 2 + number).await });
    }
    let mut waits = under_way.join_all().await;
    waits.sort_unstable();
    waits
}

/// The CPU of all threads for each callout that is judged.
async fn judge(ledger: &Ledger, callouts: u32, agents: u32) -> Duration {
    let before = cpu_time(std::process::id());
    for number in 0..callouts {
        let agent = AgentId::try_from(FIRST_AGENT + number % agents).unwrap();
        assert!(ledger.look_up(agent, b"guid").await.previews.unwrap().is_some(), "{agent}");
    }
    (cpu_time(std::process::id()) - before) / callouts.max(1)
}

fn percentile(waits: &[Duration], percent: usize) -> Duration {
    waits[(waits.len() - 1) * percent / 100]
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let options = Options::parse();
    let redis = Redis::start();
    let (first, second, alone) =
        (sharing(&redis, options.agents), sharing(&redis, options.agents), ledger("", options.agents));
    let start = Instant::now();
    fill(&first, options.agents).await;
    println!("{} agents filled in {:.1} s", options.agents, start.elapsed().as_secs_f64());
    fill(&alone, options.agents).await;

    let (start, own, theirs) = (Instant::now(), cpu_time(std::process::id()), cpu_time(redis.child.id()));
    let waits = load(&first, options).await;
    let (took, writes) = (start.elapsed(), waits.len() as f64);
    let (own, theirs) = (cpu_time(std::process::id()) - own, cpu_time(redis.child.id()) - theirs);
    println!("{writes} previews in {:.1} s: {:.0} a second", took.as_secs_f64(), writes / took.as_secs_f64());
    println!(
        "  wait of a poll for Redis: p50 {:?}, p99 {:?}, max {:?}",
        percentile(&waits, 50),
        percentile(&waits, 99),
        percentile(&waits, 100)
    );
    let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / writes;
    let share = |cpu: Duration| 100.0 * cpu.as_secs_f64() / took.as_secs_f64();
    println!("  CPU of both ledgers: {:.0} us a preview, {:.0} % of a core", each(own), share(own));
    println!("  CPU of Redis: {:.0} us a preview, {:.0} % of a core", each(theirs), share(theirs));

    let (mut with, mut without) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..TURNS {
        with += judge(&second, options.callouts / TURNS, options.agents).await / TURNS;
        without += judge(&alone, options.callouts / TURNS, options.agents).await / TURNS;
    }
    let added = with.saturating_sub(without);
    println!("callout: {with:?} of CPU with Redis, {without:?} without; sharing adds {added:?} (at most 60 us)");
}
