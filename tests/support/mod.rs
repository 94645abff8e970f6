//! The harness of all integration tests.
//!
//! | type | use |
//! |---|---|
//! | [`Setup`], [`Lab`] | simulator and gateway in this process; plain, TLS or mutual TLS; any configuration; reload, restart |
//! | [`Site`] | what surrounds a gateway: directory, certificates, simulator, reserved address; starts further gateways |
//! | [`Process`] | the real program as a child process: signals, exit status, its log line by line |
//! | [`MemorySetup`], [`MemoryLab`] | the same over pipes in memory, on paused time: for tests of time limits |
//! | [`Access`] | how clients reach any of these: connections, requests, metrics page |
//! | [`Agent`] | a signed-in agent: polls, is shown previews, asks for calls |
//! | [`Wire`], [`Client`] | a client's connection: writes bytes, reads answers strictly; one that reconnects |
//! | [`Request`], [`Answer`] | bytes of an ordinary request; an answer as it was spelled, [`Answer::own`] for the gateway's |
//! | [`Scripted`], [`Upstream`] | an upstream that answers with given bytes; one that does anything with a connection |
//! | [`Application`] | an application that is pushed to |
//! | [`Browser`] | a real Chromium: opens pages, waits for what they show, presses keys |
//! | [`RedisServer`] | a real Redis: killed, stalled, filled, restarted |
//! | [`Relay`] | what lies between a gateway and a server: slow, silent, cut |
//! | [`History`] | what clients saw of events and calls, and whether that is allowed |
//! | [`Random`] | random numbers from a seed |
//! | [`AuditRecords`] | the audit log of a gateway: its lines, the chain checked |
//! | [`CapturedLog`] | the gateway's log, and a way to wait for a line |
//! | [`MovableClock`] | the time by which previews are judged, moved by the test: [`Setup::clock`] |
//! | [`Port`] | an address where nothing listens, or listens later |
//! | [`within`], [`eventually`] | a wait with an end, for a future or for a condition that gives no signal |
//!
//! [`Wire`] checks on every answer that the gateway made itself what must hold for all of them: an envelope with a
//! `retcode` that is no success and without `result`, a request ID, no caching. A test need not ask for it. It knows
//! nothing of sockets: [`Wire::over`] takes any stream.
//!
//! Rules: a test waits for an event, never for a time. A time limit only says when a test has failed ([`PATIENCE`]).
//! Ports are chosen by the system and never bound twice ([`Port`]). Tests of a program that is not installed print that
//! they are skipped, and fail where `CI` is `true` ([`skip`]).
//!
//! # A new test
//! `tests/it/examples.rs` has these as tests that run.
//!
//! A reload:
//! ```ignore
//! let lab = Setup::plain().lenient().start().await;
//! let agent = lab.agent(101).await;
//! assert_eq!(agent.call(7, "100").await.verdict(), "unknown_preview");
//! lab.reload_with("validation.mode = \"monitor\"");
//! assert_eq!(agent.call(7, "100").await.verdict(), "ok");
//! ```
//! A push:
//! ```ignore
//! let site = PushSite::new().await;                                // TLS, and an application that calls at once
//! let gateway = site.start();
//! site.sign_in(site.push_url_sign_in()).await;
//! site.handle.preview(id(101), ControlId(7), NUMBER);
//! within("a push", site.handle.wait_for_pushes(1)).await;
//! assert_eq!(site.application.seen()[0].callouts, ["ok"]);
//! ```
//! Redis:
//! ```ignore
//! let Some(lab) = RedisLab::start(&["", ""]).await else { return };   // two gateways with their own settings
//! let agent = lab.gateways[0].agent(101).await;
//! agent.shown(7, "100").await;
//! assert_eq!(agent.through(&lab.gateways[1]).call(7, "100").await.verdict(), "ok");
//! ```

#![allow(dead_code, unused_imports, reason = "each test binary uses its part of this")]

mod access;
mod agent;
mod answer;
mod application;
mod audit;
mod browser;
mod certificates;
mod clock;
mod gateway;
mod history;
mod lab;
mod log;
mod memory;
mod pipes;
mod port;
mod process;
mod random;
mod redis;
mod relay;
mod request;
mod schema;
mod upstream;
mod wire;

use std::future::Future;
use std::time::Duration;

use previewgate::preview::AgentId;

pub(crate) use access::{Access, Client};
pub(crate) use agent::Agent;
pub(crate) use answer::{Answer, Broken, Own};
pub(crate) use application::Application;
pub(crate) use audit::AuditRecords;
pub(crate) use browser::{Browser, check_accessibility};
pub(crate) use certificates::{Pki, leaf, trusting, trusting_by};
pub(crate) use clock::MovableClock;
pub(crate) use gateway::{Bound, Gateway, record};
pub(crate) use history::{History, Troubles};
pub(crate) use lab::{AUDIT, Arrivals, Lab, Setup, Site, project};
pub(crate) use log::CapturedLog;
pub(crate) use memory::{MemoryLab, MemorySetup, PLATFORM, seconds};
pub(crate) use pipes::Pipes;
pub(crate) use port::Port;
pub(crate) use process::{Process, RUN, outcome, signal};
pub(crate) use random::Random;
pub(crate) use redis::{Cluster, Kind, RedisServer, SECRET, Sentinel};
pub(crate) use relay::{Passage, Relay};
pub(crate) use request::Request;
pub(crate) use schema::violation;
pub(crate) use upstream::{Peer, Scripted, Seen, Upstream};
pub(crate) use wire::Wire;

/// A test that has to wait for longer has failed. Long, because the machine may be busy with something else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at something that gives no signal.
const LOOK: Duration = Duration::from_millis(2);

/// The path that all resources share.
pub(crate) const API: &str = "/agentgateway/resource";

/// Waits for `event`, or fails the test with this description of it.
#[track_caller]
pub(crate) fn within<T>(event: impl Into<String>, work: impl Future<Output = T>) -> impl Future<Output = T> {
    let (event, place) = (event.into(), std::panic::Location::caller());
    async move {
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(output) => output,
            Err(_) => panic!("no sign of {event} within {PATIENCE:?} ({place})"),
        }
    }
}

/// Looks again and again until `condition` holds: for states that give no signal when they change.
#[track_caller]
pub(crate) fn eventually(event: impl Into<String>, condition: impl Fn() -> bool) -> impl Future<Output = ()> {
    eventually_async(event, async move || condition())
}

/// The same for a condition that takes a request to look at.
#[track_caller]
pub(crate) fn eventually_async(
    event: impl Into<String>,
    condition: impl AsyncFn() -> bool,
) -> impl Future<Output = ()> {
    within(event, async move {
        while !condition().await {
            tokio::time::sleep(LOOK).await;
        }
    })
}

/// A program is missing that a test needs: prints so, and fails in CI, where it must be there.
#[allow(clippy::print_stderr, reason = "the output must name what was not tested")]
pub(crate) fn skip(reason: &str) {
    let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!in_ci, "CI must have it: {reason}");
    eprintln!("SKIPPED: {reason}");
}

/// An agent ID.
pub(crate) fn id(number: u32) -> AgentId {
    AgentId::try_from(number).unwrap()
}
