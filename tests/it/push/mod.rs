//! Push, both forms, over real sockets and TLS: sign-in through the gateway, events from the simulated CC-Gateway, an
//! application that calls from inside its push handler.

mod connections;
mod faults;
mod own_addresses;
mod quotes;
mod refusals;
mod relaying;
mod sessions;
mod sign_in;
mod site;
mod sources;

pub(crate) use site::PushSite;

use serde_json::{Value, json};

pub(crate) const NUMBER: &str = "88889039";

fn preview(control_id: i64) -> Value {
    json!({"eventType": "AgentEvent_Preview_CallOut", "workNo": "101",
           "content": {"controlid": control_id, "dialeddigits": NUMBER, "callData": ""}})
}
