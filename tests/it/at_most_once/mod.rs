//! "A previewCallout and an event poll reach an upstream at most once, whatever fails": an upstream that counts what
//! arrives, thousands of injected faults, and the gateway in between. Then unusual behaviour of an upstream, one at a time.

mod faults;
mod manners;
mod pool;
mod storm;
mod upstream;

use serde_json::json;

use crate::support::{API, Lab, Request, Setup};

/// The number that every agent of these tests is shown.
const NUMBER: &str = "88880000";

/// A callout of the agent, whose control ID is the agent ID.
fn callout(agent: u32, guid: &str) -> Request {
    let body = json!({"called": NUMBER, "callcontrolid": agent.to_string()});
    Request::put(format!("{API}/voicecall/{agent}/previewCallout")).guid(guid).json(&body)
}

fn poll(agent: u32, guid: &str) -> Request {
    Request::get(format!("{API}/agentevent/{agent}")).guid(guid)
}

/// Two workers and no access log, with this `upstream.endpoints` and further lines.
fn before(endpoints: &[String], settings: &str) -> Setup {
    let endpoints = endpoints.join(", ");
    Setup::plain().settings(&format!(
        "runtime.workers = 2\nlog.access = \"none\"\nshutdown.drain = \"5s\"\n\
         upstream.endpoints = [{endpoints}]\n{settings}"
    ))
}

/// An endpoint without TLS, as the configuration spells it.
fn endpoint(address: std::net::SocketAddr) -> String {
    format!("\"http://{address}\"")
}

/// The agent was shown the number under a control ID that is the agent ID.
fn show(lab: &Lab, agent: u32) {
    lab.learns(agent, agent.into(), NUMBER);
}
