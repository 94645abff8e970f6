//! The control interface, for people with `curl`: everything below `/simulator/`.
//!
//! | request | effect |
//! |---|---|
//! | `GET /simulator/` | a page with buttons for all of this |
//! | `GET /simulator/agents` | the agents that are signed in: GUID, delivery, state, calls, previews they were shown, events that wait |
//! | `POST /simulator/agents/{id}/sign-in` | opens a session that polls, in place of any earlier one; the answer has its GUID |
//! | `POST /simulator/agents/{id}/sign-out` | ends the session; no client is notified |
//! | `POST /simulator/agents/{id}/events` | queues the event object in the body |
//! | `POST /simulator/agents/{id}/preview` | `{"controlid": 11776, "dialeddigits": "100,101"}` becomes a preview; `"eventType": "AgentEvent_Preview"` chooses the event, `"callData"` its data |
//! | `POST /simulator/agents/{id}/calls` | sets the course of the agent's next calls: `{"outcome": "fails", "ring": "2s"}`; outcomes are `talks`, `hangs_up` (after `"talk"`) and `fails`. Absent members stay as they are |
//! | `POST /simulator/agents/{id}/hang-up` | the customer of the present call hangs up |
//! | `POST /simulator/agents/{id}/release` | ends the agent's preview |
//! | `GET /simulator/campaign` | the progress of the campaign; null without one |
//! | `GET /simulator/journal` | the requests that arrived, credentials redacted; `?newest=50` limits it; `DELETE` empties it |
//! | `POST /simulator/misbehave` | a [`Misbehaviour`]: `{"fault": "break", "at": "after_request", "how": "reset", "path": "previewCallout", "agent": "101", "times": 2}`; `DELETE` clears all |
//!
//! Requests to the control interface are not in the journal, and no fault applies to them.

use bytes::Bytes;
use serde_json::{Value, json};

use super::agents::{Activity, Delivery};
use super::answer::{Answer, Body};
use super::events::text;
use super::misbehaviour::Misbehaviour;
use super::request::Request;
use super::shared::Shared;
use crate::config::{CallOutcome, CallPlan, PreviewEvent};
use crate::preview::AgentId;

const MISBEHAVIOUR_KEYS: [&str; 11] =
    ["fault", "at", "how", "method", "path", "agent", "times", "milliseconds", "status", "count", "bytes"];

const NOT_SIGNED_IN: &str = "the agent is not signed in";

const PAGE: &[u8] = include_bytes!("page.html");

/// Answers a request below `/simulator/`: HTTP 200, or 400 with the cause, or 404.
pub(super) fn answer(shared: &Shared, request: &Request) -> Answer {
    let segments = request.resource.segments();
    let outcome = match (request.head.method.as_str(), segments.get(1..).unwrap_or_default()) {
        ("GET", ["agents"]) => Ok(agents(shared)),
        ("GET", []) => return page(),
        ("POST", ["agents", id, "sign-in"]) => sign_in(shared, id),
        ("POST", ["agents", id, "sign-out"]) => agent(id).map(|agent| {
            shared.agents.sign_out(agent);
            Value::Null
        }),
        ("POST", ["agents", id, "events"]) => event(shared, request, id),
        ("POST", ["agents", id, "preview"]) => preview(shared, request, id),
        ("POST", ["agents", id, "release"]) => release(shared, id),
        ("POST", ["agents", id, "calls"]) => plan(shared, request, id),
        ("POST", ["agents", id, "hang-up"]) => hang_up(shared, id),
        ("GET", ["campaign"]) => Ok(campaign(shared)),
        ("GET", ["journal"]) => Ok(journal(shared, request)),
        ("DELETE", ["journal"]) => {
            shared.journal.clear();
            Ok(Value::Null)
        }
        ("POST", ["misbehave"]) => misbehave(shared, request),
        ("DELETE", ["misbehave"]) => {
            shared.rules.clear();
            Ok(Value::Null)
        }
        _ => return Answer::json(404, &json!({"error": "no such control; see /simulator/ in the documentation"})),
    };
    match outcome {
        Ok(result) => Answer::json(200, &json!({"ok": true, "result": result})),
        Err(error) => Answer::json(400, &json!({"ok": false, "error": error})),
    }
}

/// The page. It shows values that clients chose as text only, and loads nothing from elsewhere.
fn page() -> Answer {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                  img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    Answer { status: 200, headers: Vec::new(), body: Body::Whole(Bytes::from_static(PAGE)) }
        .with("Content-Type", "text/html;charset=UTF-8")
        .with("Content-Security-Policy", policy)
        .with("Cache-Control", "no-store")
}

fn agents(shared: &Shared) -> Value {
    let shown = |id: &AgentId| {
        let previews = shared.agents.previews(*id).into_iter();
        json!({
            "agent": id.to_string(),
            "guid": shared.agents.guid(*id),
            "delivery": shared.agents.delivery(*id).map(|delivery| delivery.word()),
            "state": activity(shared.agents.activity(*id).as_ref()),
            "calls": calls(shared.agents.activity(*id).as_ref()),
            "next_calls": next_calls(shared.next_calls(*id)),
            "shown": previews.map(|(id, numbers)| json!({"controlid": id, "numbers": numbers})).collect::<Vec<_>>(),
            "waiting": shared.agents.waiting(*id),
        })
    };
    shared.agents.signed_in().iter().map(shown).collect()
}

/// The agent's state in the answers of this interface.
fn activity(activity: Option<&Activity>) -> &'static str {
    match activity {
        Some(activity) if !activity.calls.is_empty() => "in a call",
        Some(activity) if activity.busy => "busy",
        _ => "ready",
    }
}

fn calls(activity: Option<&Activity>) -> Value {
    let calls = activity.into_iter().flat_map(|activity| &activity.calls);
    let shown = calls.map(|call| {
        json!({"callid": call.id, "number": call.number, "state": call.state.word(), "seconds": call.since.elapsed().as_secs()})
    });
    shown.collect()
}

fn next_calls(CallPlan { ring, outcome, talk }: CallPlan) -> Value {
    let text = |duration| humantime::format_duration(duration).to_string();
    json!({"outcome": outcome.as_str(), "ring": text(ring), "talk": text(talk)})
}

fn campaign(shared: &Shared) -> Value {
    let progress = shared.campaign.as_ref().map(|campaign| campaign.progress());
    progress.map_or(
        Value::Null,
        |progress| json!({"contacts": progress.contacts, "shown": progress.shown, "over": progress.over}),
    )
}

fn plan(shared: &Shared, request: &Request, id: &str) -> Result<Value, String> {
    let (agent, body) = (agent(id)?, body(request)?);
    let mut plan = shared.next_calls(agent);
    for (name, value) in body.as_object().ok_or("an object is needed")? {
        let text = value.as_str().ok_or_else(|| format!("{name}: a string is needed"))?;
        let time = || humantime::parse_duration(text).map_err(|error| format!("{name}: {error}"));
        match name.as_str() {
            "outcome" => {
                let outcome = CallOutcome::ALL.iter().find(|outcome| outcome.as_str() == text);
                plan.outcome = *outcome.ok_or("outcome: talks, hangs_up or fails")?;
            }
            "ring" => plan.ring = time()?,
            "talk" => plan.talk = time()?,
            _ => return Err(format!("{name}: unknown; known are outcome, ring and talk")),
        }
    }
    if shared.agents.set_plan(agent, plan) { Ok(Value::Null) } else { Err(NOT_SIGNED_IN.to_owned()) }
}

fn hang_up(shared: &Shared, id: &str) -> Result<Value, String> {
    let hung_up = shared.agents.with_telephone(agent(id)?, |telephone| {
        let caused = telephone.customer_hangs_up(None);
        Ok((caused.is_some(), caused.unwrap_or_default()))
    });
    match hung_up {
        Ok(true) => Ok(Value::Null),
        Ok(false) => Err("the agent is not connected to a customer".to_owned()),
        Err(failure) => Err(failure.message().to_owned()),
    }
}

fn sign_in(shared: &Shared, id: &str) -> Result<Value, String> {
    let opened = shared.agents.sign_in(agent(id)?, true, Delivery::Poll);
    opened.map(|opened| json!({ "guid": opened.guid })).map_err(|failure| failure.message().to_owned())
}

fn event(shared: &Shared, request: &Request, id: &str) -> Result<Value, String> {
    let event = body(request)?;
    if !event.is_object() {
        return Err("an event is a JSON object".to_owned());
    }
    shared.agents.inject(agent(id)?, event);
    Ok(Value::Null)
}

fn preview(shared: &Shared, request: &Request, id: &str) -> Result<Value, String> {
    let (agent, body) = (agent(id)?, body(request)?);
    let control_id = body.get("controlid").and_then(text).and_then(|id| id.parse().ok());
    let control_id = control_id.ok_or("controlid: a 64-bit integer is needed")?;
    let numbers = body.get("dialeddigits").and_then(Value::as_str).ok_or("dialeddigits: a string is needed")?;
    let event_type = body.get("eventType").map(preview_event).transpose()?;
    let call_data = body.get("callData").and_then(Value::as_str).unwrap_or(&shared.config.events.call_data);
    let event = shared.config.events.preview_of(agent, control_id, numbers, event_type, call_data);
    shared.agents.inject(agent, event.clone());
    Ok(event)
}

fn preview_event(name: &Value) -> Result<PreviewEvent, String> {
    let known = PreviewEvent::ALL.iter().find(|event| name.as_str() == Some(event.as_str()));
    known.copied().ok_or_else(|| {
        let all: Vec<_> = PreviewEvent::ALL.iter().map(|event| event.as_str()).collect();
        format!("eventType: one of {}", all.join(", "))
    })
}

fn release(shared: &Shared, id: &str) -> Result<Value, String> {
    let agent = agent(id)?;
    shared.agents.inject(agent, shared.config.events.release(agent));
    Ok(Value::Null)
}

fn journal(shared: &Shared, request: &Request) -> Value {
    let entries = shared.journal.entries();
    let newest = request.resource.parameter("newest").and_then(|newest| newest.parse().ok()).unwrap_or(usize::MAX);
    let shown = entries.iter().skip(entries.len().saturating_sub(newest)).map(|entry| {
        // Such bodies hold the agent's password, or the token of its application.
        let signs_in = entry.resolved_path.as_deref().is_none_or(|path| path.contains("/onlineagent/"));
        json!({
            "time": humantime::format_rfc3339_millis(entry.time).to_string(),
            "method": entry.method,
            "target": entry.target,
            "headers": entry.redacted_headers(),
            "body": if signs_in { "[redacted]".into() } else { String::from_utf8_lossy(&entry.body) },
            "body_length": entry.body_length,
            "complete": entry.complete,
            "peer": entry.peer.to_string(),
        })
    });
    shown.collect()
}

fn misbehave(shared: &Shared, request: &Request) -> Result<Value, String> {
    let body = body(request)?;
    let mut keys = body.as_object().into_iter().flat_map(|object| object.keys());
    // A flattened structure cannot refuse unknown keys by itself, and a typo must not break every request.
    if let Some(unknown) = keys.find(|key| !MISBEHAVIOUR_KEYS.contains(&key.as_str())) {
        return Err(format!("{unknown}: unknown; known are {}", MISBEHAVIOUR_KEYS.join(", ")));
    }
    let rule: Misbehaviour = serde_json::from_value(body).map_err(|error| error.to_string())?;
    shared.rules.add(rule);
    Ok(Value::Null)
}

fn body(request: &Request) -> Result<Value, String> {
    serde_json::from_slice(&request.body).map_err(|error| error.to_string())
}

fn agent(id: &str) -> Result<AgentId, String> {
    id.parse().map_err(|error: crate::preview::InvalidAgentId| error.to_string())
}
