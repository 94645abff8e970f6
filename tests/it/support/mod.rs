//! The harness.
//!
//! | what | for |
//! |---|---|
//! | [`Setup`], [`Lab`] | simulator and gateway in this process, plain, TLS or mutual TLS, configuration adjustable |
//! | [`Agent`] | a signed-in agent: polls, is shown previews, asks for calls |
//! | [`Wire`] | a client's socket: writes bytes, reads answers strictly |
//! | [`Request`] | bytes of an ordinary request |
//! | [`Answer`] | what came back, as it was spelled; [`Answer::own`] for those that the gateway made |
//! | [`Scripted`] | an upstream that answers with bytes of the test's choice and shows the bytes that it got |
//! | [`CapturedLog`] | the gateway's log, line by line, and a way to wait for a line |
//!
//! [`Wire`] checks on every answer that the gateway made itself what must hold for all of them: an envelope with a
//! `retcode` that is no success and without `result`, a request ID, no caching. A test has not to ask for it.

#![allow(dead_code, unused_imports, reason = "not every helper is used by every combination of test modules")]

mod agent;
mod answer;
mod lab;
mod log;
mod request;
mod scripted;
mod wire;

use std::future::Future;
use std::time::Duration;

pub(crate) use agent::Agent;
pub(crate) use answer::{Answer, Broken, Own};
pub(crate) use lab::{Lab, Pki, Setup};
pub(crate) use log::CapturedLog;
pub(crate) use request::Request;
pub(crate) use scripted::{Scripted, Seen};
pub(crate) use wire::Wire;

/// A test that has to wait for longer has failed. Long, because the machine may be busy with something else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The path that all resources share.
pub(crate) const API: &str = "/agentgateway/resource";

/// Waits for `what`, or fails the test that says so.
#[track_caller]
pub(crate) fn within<T>(what: impl Into<String>, work: impl Future<Output = T>) -> impl Future<Output = T> {
    let (what, place) = (what.into(), std::panic::Location::caller());
    async move {
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(output) => output,
            Err(_) => panic!("waited in vain for {what} ({place})"),
        }
    }
}

/// An agent ID.
pub(crate) fn id(number: u32) -> previewgate::preview::AgentId {
    previewgate::preview::AgentId::try_from(number).unwrap()
}
