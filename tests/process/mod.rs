//! A simulated platform, the gateway as this process or another, and a client that blocks: what the operational tests
//! are made of. Nothing here is asynchronous but the simulator, which has a thread of its own.
//!
//! Every wait has an end and says what it was for.

#![allow(dead_code, unused_imports, reason = "each test target uses its part of this")]

mod client;
mod gateway;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use previewgate::preview::{AgentId, ControlId};
use previewgate::simulator::{Simulator, SimulatorConfig, SimulatorHandle};
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub(crate) use client::{Agent, Answer, Client, metric};
pub(crate) use gateway::{Inside, Outside, RUN, complaint, shell};

/// Longer than anything takes, on any machine: says only when a test has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at something that gives no signal.
const LOOK: Duration = Duration::from_millis(5);

/// Looks until `done`, for as long as patience lasts.
#[track_caller]
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(LOOK);
    }
}

/// What `work` comes to. It has a thread of its own, which is left behind when patience runs out.
#[track_caller]
pub(crate) fn within<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, outcome) = mpsc::channel();
    std::thread::spawn(move || drop(done.send(work())));
    outcome.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("waited in vain for {what}: {error}"))
}

pub(crate) fn id(agent: u32) -> AgentId {
    agent.to_string().parse().unwrap()
}

/// A simulator with a thread of its own. Its callouts always succeed: whoever refuses one is the gateway.
pub(crate) struct Platform {
    pub(crate) handle: SimulatorHandle,
    pub(crate) address: SocketAddr,
    simulator: Option<Simulator>,
    runtime: Runtime,
}

impl Platform {
    pub(crate) fn start() -> Self {
        Self::with(SimulatorConfig::default())
    }

    pub(crate) fn with(config: SimulatorConfig) -> Self {
        let config = SimulatorConfig { lenient_callouts: true, follow_ups: false, ..config };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let simulator = runtime.block_on(Simulator::start(config)).unwrap();
        Self { handle: simulator.handle(), address: simulator.address(), simulator: Some(simulator), runtime }
    }

    #[track_caller]
    pub(crate) fn wait<T>(&self, what: &str, event: impl Future<Output = T>) -> T {
        let outcome = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, event).await });
        outcome.unwrap_or_else(|_| panic!("waited in vain for {what}"))
    }

    /// Shows the agent a preview by a poll through `client`.
    pub(crate) fn show(&self, client: &mut Client, agent: &Agent, control_id: i64, number: &str) {
        self.handle.preview(id(agent.number), ControlId(control_id), number);
        let answer = client.poll(agent);
        assert_eq!(answer.json()["event"]["content"]["controlid"], control_id, "{answer:?}");
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        // A test that has failed already has said enough.
        if let Some(simulator) = self.simulator.take().filter(|_| !std::thread::panicking()) {
            self.wait("the simulator to stop", simulator.stop());
        }
    }
}

/// A directory with a configuration file.
pub(crate) struct Site {
    pub(crate) directory: TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("previewgate.toml")
    }

    /// Writes a configuration: the least there must be, and `more`.
    pub(crate) fn configure(&self, endpoints: &[String], more: &str) {
        let text = format!(
            "listener.address = \"127.0.0.1:0\"\nadmin.address = \"127.0.0.1:0\"\nupstream.endpoints = {endpoints:?}\n\
             shutdown.drain = \"10s\"\n{more}\n"
        );
        self.write("previewgate.toml", &text);
    }
}

/// A poll that is being held, and its answer later.
pub(crate) fn hold(platform: &Platform, mut client: Client, agent: &Agent) -> JoinHandle<(Client, Answer)> {
    let before = platform.handle.held_polls();
    let agent = agent.clone();
    let poll = std::thread::spawn(move || {
        let answer = client.poll(&agent);
        (client, answer)
    });
    platform.wait("the poll to be held", platform.handle.wait_for_held_polls(before + 1));
    poll
}
