//! The agent API without faults (docs/protocol.md): sign-in, events, callouts.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::agents::{Delivery, Next, uuid};
use super::answer::{Answer, Body};
use super::events::text;
use super::failure::Failure;
use super::request::Request;
use super::shared::{Held, Shared};
use super::{call_control, push, transfer};
use crate::preview::AgentId;

type Outcome = Result<Answer, Failure>;

/// Answers a request below `/agentgateway/`. A poll whose future is dropped while it waits takes no event.
pub(super) async fn answer(shared: &Arc<Shared>, request: &Request) -> Answer {
    if request.head.method == "OPTIONS" {
        return preflight(request);
    }
    let method = request.head.method.as_str();
    let segments = request.resource.segments();
    let outcome = match (method, segments.get(2..).unwrap_or_default()) {
        ("GET", ["agentevent", "allagentevent"]) => poll_all(shared, request).await,
        ("GET", ["agentevent", id]) => poll(shared, request, id).await,
        ("PUT", ["onlineagent", operation]) if operation.eq_ignore_ascii_case("loginByAccount") => {
            sign_in_by_account(shared, request)
        }
        ("PUT", ["onlineagent", id]) => sign_in(shared, request, agent_id(id), false),
        ("PUT", ["onlineagent", id, "loginex"]) => sign_in(shared, request, agent_id(id), false),
        ("PUT", ["onlineagent", id, "forcelogin"]) => sign_in(shared, request, agent_id(id), true),
        ("DELETE", ["onlineagent", id, "logout" | "forcelogout"]) => sign_out(shared, request, id, id),
        ("POST", ["qualitycontrol", id, "forcelogout", other]) => sign_out(shared, request, id, other),
        ("POST", ["onlineagent", id, "handshake"]) | ("PUT", ["onlineagent", id, "heartbeat"]) => {
            handshake(shared, request, id)
        }
        (method, ["voicecall", id, operation]) if operation.eq_ignore_ascii_case("previewCallout") => {
            preview_callout(shared, request, method, id)
        }
        ("PUT", ["voicecall", id, operation]) if operation.eq_ignore_ascii_case("cancelPreviewCallout") => {
            cancel_preview_callout(shared, request, id)
        }
        ("POST" | "PUT", ["onlineagent", id, "syncagentinfo" | "updateGuid"]) if shared.config.strict => {
            handshake(shared, request, id)
        }
        _ if shared.config.strict => call_control::answer(shared, request).unwrap_or(Err(Failure::InvalidParameter)),
        _ => Ok(transfer::answer(request)),
    };
    let answer = outcome.unwrap_or_else(Answer::failure);
    match request.head.header("origin") {
        Some(origin) => {
            answer.with("Access-Control-Allow-Origin", origin).with("Access-Control-Expose-Headers", "Set-GUID")
        }
        None => answer,
    }
}

fn preflight(request: &Request) -> Answer {
    let asked = |name| request.head.header(name).unwrap_or("*").to_owned();
    Answer { status: 200, headers: Vec::new(), body: Body::Whole(bytes::Bytes::new()) }
        .with("Access-Control-Allow-Origin", asked("origin"))
        .with("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE, OPTIONS")
        .with("Access-Control-Allow-Headers", asked("access-control-request-headers"))
        .with("Access-Control-Max-Age", "3600")
}

/// A sign-in whose agent is named by the answer only. The simulated accounts end in the agent's ID: `lee101`.
fn sign_in_by_account(shared: &Arc<Shared>, request: &Request) -> Outcome {
    let body = request.json().unwrap_or_default();
    let account = body.get("account").and_then(Value::as_str).unwrap_or_default();
    let (_, id) = account.split_at(account.trim_end_matches(|c: char| c.is_ascii_digit()).len());
    sign_in(shared, request, id.parse().map_err(|_| Failure::SignInParameter), false)
}

fn sign_in(shared: &Arc<Shared>, request: &Request, agent: Result<AgentId, Failure>, force: bool) -> Outcome {
    let agent = agent?;
    let body = request.json().filter(Value::is_object).ok_or(Failure::SignInParameter)?;
    let delivery = wanted_delivery(&body);
    let opened = shared.agents.sign_in(agent, force, delivery.clone())?;
    push::start(shared, agent, opened.serial, delivery);
    let secure = if shared.config.tls.is_some() { "; Secure" } else { "" };
    let cookie =
        format!("JSESSIONID={}.{}; Path=/agentgateway{secure}; HttpOnly", uuid().replace('-', ""), shared.config.node);
    Ok(Answer::success(json!({"result": {"workno": agent.to_string()}}))
        .with("Set-GUID", set_guid(&opened.guid))
        .with("Set-Cookie", cookie))
}

/// Push needs both `callBackUri` and `serviceToken`; with only one of the two, polling is used (docs/protocol.md 6.3).
fn wanted_delivery(body: &Value) -> Delivery {
    let member = |name: &str| body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    match (member("callBackUri"), member("serviceToken"), member("pushUrl")) {
        (Some(uri), Some(token), _) => Delivery::Push { uri, token },
        (_, _, Some(uri)) => Delivery::PushUrl { uri },
        _ => Delivery::Poll,
    }
}

fn sign_out(shared: &Shared, request: &Request, id: &str, whom: &str) -> Outcome {
    let whom = agent_id(whom)?;
    shared.agents.check(agent_id(id)?, request.guid())?;
    shared.agents.guid(whom).ok_or(Failure::NotSignedIn)?;
    shared.agents.sign_out(whom);
    Ok(Answer::success(json!({})))
}

fn handshake(shared: &Shared, request: &Request, id: &str) -> Outcome {
    let agent = agent_id(id)?;
    shared.agents.check(agent, request.guid())?;
    Ok(with_renewed_guid(shared, agent, Answer::success(json!({}))))
}

async fn poll(shared: &Shared, request: &Request, id: &str) -> Outcome {
    let agent = agent_id(id)?;
    let wake = shared.agents.wake_of(agent);
    let mut held = None;
    let deadline = Instant::now() + shared.config.poll_wait;
    loop {
        // The wait begins before the look-up, so that an event that comes in between wakes this poll too.
        let mut woken = std::pin::pin!(wake.notified());
        woken.as_mut().enable();
        shared.agents.check(agent, request.guid())?;
        match shared.agents.next(agent) {
            Some(Next::Event(event)) => {
                return Ok(with_renewed_guid(shared, agent, Answer::success(json!({"event": event}))));
            }
            Some(Next::Raw(raw)) => {
                return Ok(Answer { status: 200, headers: raw.headers, body: Body::Whole(raw.body) });
            }
            None => {}
        }
        held.get_or_insert_with(|| Held::new(shared));
        if tokio::time::timeout_at(deadline, woken).await.is_err() {
            return Ok(with_renewed_guid(shared, agent, Answer::success(json!({}))));
        }
    }
}

async fn poll_all(shared: &Shared, request: &Request) -> Outcome {
    shared.agents.check_any(request.guid())?;
    let mut held = None;
    let deadline = Instant::now() + shared.config.poll_wait;
    loop {
        let mut woken = std::pin::pin!(shared.agents.any_wake.notified());
        woken.as_mut().enable();
        let events = shared.agents.take_all_of_all_agents();
        if !events.is_empty() {
            return Ok(Answer::success(json!({"event": events})));
        }
        held.get_or_insert_with(|| Held::new(shared));
        if tokio::time::timeout_at(deadline, woken).await.is_err() {
            return Ok(Answer::success(json!({})));
        }
    }
}

fn preview_callout(shared: &Arc<Shared>, request: &Request, method: &str, id: &str) -> Outcome {
    let agent = agent_id(id)?;
    let body = request.json().unwrap_or_default();
    let called = body.get("called").and_then(Value::as_str).unwrap_or_default();
    let control_id = control_id(&body);
    if !shared.config.lenient_callouts {
        if method != "PUT" {
            return Err(Failure::InvalidParameter);
        }
        shared.agents.check(agent, request.guid())?;
        let control_id = control_id.as_deref().ok_or(Failure::InvalidParameter)?;
        if called.is_empty() {
            return Err(Failure::InvalidParameter);
        }
        if !shared.agents.was_shown(agent, control_id, called) {
            return Err(Failure::WrongNumber);
        }
    }
    if shared.config.strict && shared.config.follow_ups {
        let call_id = call_control::dial(shared, agent, called, control_id.as_deref())?;
        return Ok(Answer::success(json!({"result": call_id})));
    }
    let call_id = shared.new_call_id();
    if shared.config.follow_ups {
        let content = json!({"callid": call_id, "otherPhone": called});
        for event_type in ["AgentOther_PhoneAlerting", "AgentOther_PhoneOffhook", "AgentEvent_Talking"] {
            shared.agents.inject(agent, shared.config.events.event(agent, event_type, &content));
        }
    }
    Ok(Answer::success(json!({"result": call_id})))
}

fn cancel_preview_callout(shared: &Shared, request: &Request, id: &str) -> Outcome {
    let agent = agent_id(id)?;
    shared.agents.check(agent, request.guid())?;
    let control_id = request.json().as_ref().and_then(control_id).ok_or(Failure::InvalidParameter)?;
    if shared.agents.cancel(agent, &control_id) {
        Ok(Answer::success(json!({})))
    } else {
        Err(Failure::InvalidParameter)
    }
}

fn control_id(body: &Value) -> Option<String> {
    let id = body.get("callcontrolid").and_then(text)?;
    id.parse::<i64>().is_ok().then_some(id)
}

fn with_renewed_guid(shared: &Shared, agent: AgentId, answer: Answer) -> Answer {
    match shared.agents.renewed_guid(agent) {
        Some(guid) => answer.with("Set-GUID", set_guid(&guid)),
        None => answer,
    }
}

fn set_guid(guid: &str) -> String {
    format!("JSESSIONID={guid}")
}

fn agent_id(text: &str) -> Result<AgentId, Failure> {
    text.parse().map_err(|_| Failure::InvalidParameter)
}

/// An envelope with one event that has this much `callData`. No platform sends such an event.
pub(super) fn huge_event(agent: Option<AgentId>, bytes: usize) -> Answer {
    let work_no = agent.map(|agent| agent.to_string());
    let content = json!({"controlid": 1, "dialeddigits": "1", "callData": "x".repeat(bytes)});
    Answer::success(
        json!({"event": {"eventType": "AgentEvent_Preview_CallOut", "workNo": work_no, "content": content}}),
    )
}
