//! Push, both forms, over real sockets and TLS: sign-in through the gateway, events from the simulated CC-Gateway, an
//! application that calls from inside its push handler.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by panicking, in its helpers too"
)]

mod application;
mod client;
mod faults;
mod refusals;
mod relaying;
mod sign_in;
mod site;

use previewgate::preview::AgentId;
use serde_json::{Value, json};

const NUMBER: &str = "88889039";

fn agent() -> AgentId {
    "101".parse().unwrap()
}

fn preview(control_id: i64) -> Value {
    json!({"eventType": "AgentEvent_Preview_CallOut", "workNo": "101",
           "content": {"controlid": control_id, "dialeddigits": NUMBER, "callData": ""}})
}
