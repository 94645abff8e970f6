//! Calls: from a callout to its end, and the interfaces with which an agent controls them.
//!
//! | request | effect |
//! |---|---|
//! | `PUT voicecall/{id}/answer` | answers the ringing call |
//! | `POST voicecall/{id}/hold`, `POST voicecall/{id}/gethold?callid=…` | puts the call on hold, and takes it back |
//! | `DELETE voicecall/{id}/release`, `DELETE voicecall/{id}` | ends the call |
//! | `POST voicecall/{id}/transfer` | gives the call away; if `address` is an agent, the telephone of that agent rings |
//! | `POST onlineagent/{id}/saybusy?reason=…`, `POST onlineagent/{id}/sayfree` | makes the agent busy, and ends that state |
//! | `GET onlineagent/{id}/agentstatus` | returns the state of the agent |

use std::sync::Arc;

use serde_json::{Value, json};

use super::agents::Activity;
use super::answer::Answer;
use super::failure::Failure;
use super::request::Request;
use super::shared::Shared;
use super::telephone::{Caused, Telephone};
use crate::config::{CallOutcome, CallPlan};
use crate::preview::AgentId;

type Outcome = Result<Answer, Failure>;

/// `devicetype` of an agent, and the mode in which the platform reports the result, in a transfer.
const AGENT_DEVICE: i64 = 2;
const REPORTED: i64 = 2;

/// Answers an interface of this module; `None` if it is another one.
pub(super) fn answer(shared: &Arc<Shared>, request: &Request) -> Option<Outcome> {
    let method = request.head.method.as_str();
    let segments = request.resource.segments();
    let (id, control) = match (method, segments.get(2..).unwrap_or_default()) {
        ("PUT", ["voicecall", id, "answer"]) => (id, Control::Answer),
        ("POST", ["voicecall", id, "hold"]) => (id, Control::Hold),
        ("POST", ["voicecall", id, "gethold"]) => (id, Control::TakeBack),
        ("DELETE", ["voicecall", id] | ["voicecall", id, "release"]) => (id, Control::Release),
        ("POST", ["voicecall", id, "transfer"]) => (id, Control::Transfer),
        ("POST", ["onlineagent", id, "saybusy"]) => (id, Control::Busy),
        ("POST", ["onlineagent", id, "sayfree"]) => (id, Control::Free),
        ("GET", ["onlineagent", id, "agentstatus"]) => (id, Control::Status),
        _ => return None,
    };
    Some(carry_out(shared, request, id, control))
}

#[derive(Clone, Copy)]
enum Control {
    Answer,
    Hold,
    TakeBack,
    Release,
    Transfer,
    Busy,
    Free,
    Status,
}

fn carry_out(shared: &Arc<Shared>, request: &Request, id: &str, control: Control) -> Outcome {
    let agent: AgentId = id.parse().map_err(|_| Failure::InvalidParameter)?;
    shared.agents.check(agent, request.guid())?;
    let act = |act: &dyn Fn(&mut Telephone) -> Result<Caused, Failure>| {
        shared.agents.with_telephone(agent, |telephone| act(telephone).map(|caused| ((), caused)))
    };
    match control {
        Control::Answer => act(&Telephone::answer)?,
        Control::Hold => act(&Telephone::hold)?,
        Control::TakeBack => act(&|telephone| telephone.take_back(request.resource.parameter("callid")))?,
        Control::Release => act(&Telephone::release)?,
        Control::Transfer => transfer(shared, request, agent)?,
        Control::Busy => {
            let reason = request.resource.parameter("reason").unwrap_or("0");
            act(&|telephone| Ok(telephone.say_busy(reason)))?;
        }
        Control::Free => act(&|telephone| Ok(telephone.say_free()))?,
        Control::Status => return Ok(status(shared.agents.activity(agent).as_ref())),
    }
    Ok(Answer::success(json!({})))
}

/// The numbers of the vendor's clients: 3 busy, 4 ready, 7 in a call.
fn status(activity: Option<&Activity>) -> Answer {
    let state = match activity {
        Some(activity) if !activity.calls.is_empty() => 7,
        Some(activity) if activity.busy => 3,
        _ => 4,
    };
    Answer::success(json!({"result": {"agentState": state}}))
}

fn transfer(shared: &Shared, request: &Request, agent: AgentId) -> Result<(), Failure> {
    let body = request.json().unwrap_or_default();
    let whole = |name: &str| body.get(name).and_then(Value::as_i64).ok_or(Failure::InvalidParameter);
    let address = body.get("address").and_then(Value::as_str).filter(|address| !address.is_empty());
    let (address, device, mode) = (address.ok_or(Failure::InvalidParameter)?, whole("devicetype")?, whole("mode")?);
    let call = shared.agents.with_telephone(agent, |telephone| telephone.transfer(mode == REPORTED))?;
    let receiver = address.parse().ok().filter(|receiver: &AgentId| device == AGENT_DEVICE && *receiver != agent);
    if let Some(receiver) = receiver {
        // If that agent is not signed in or is in a call, the call ends here, as it does for any other address.
        let _ = shared.agents.with_telephone(receiver, |telephone| Ok(((), telephone.ring(&call.id, &call.number)?)));
    }
    Ok(())
}

/// A callout: the agent's telephone rings, and the call goes as planned. Returns its ID.
pub(super) fn dial(
    shared: &Arc<Shared>,
    agent: AgentId,
    number: &str,
    control_id: Option<&str>,
) -> Result<String, Failure> {
    let id = shared.new_call_id();
    let plan = shared.next_calls(agent);
    shared.agents.with_telephone(agent, |telephone| Ok(((), telephone.dial(&id, number, control_id)?)))?;
    if plan.ring.is_zero() && plan.outcome == CallOutcome::Talks {
        shared.agents.with_telephone(agent, |telephone| Ok(((), telephone.connect(&id))))?;
    } else {
        shared.spawn(goes_as_planned(Arc::clone(shared), agent, id.clone(), plan));
    }
    Ok(id)
}

/// A call that is over, or an agent without a session, ends the plan.
async fn goes_as_planned(shared: Arc<Shared>, agent: AgentId, id: String, plan: CallPlan) {
    let change = |change: &dyn Fn(&mut Telephone) -> Caused| {
        shared.agents.with_telephone(agent, |telephone| Ok(((), change(telephone)))).is_ok()
    };
    tokio::time::sleep(plan.ring).await;
    match plan.outcome {
        CallOutcome::Fails => {
            change(&|telephone| telephone.fail(&id));
        }
        CallOutcome::Talks => {
            change(&|telephone| telephone.connect(&id));
        }
        CallOutcome::HangsUp => {
            if change(&|telephone| telephone.connect(&id)) {
                tokio::time::sleep(plan.talk).await;
                change(&|telephone| telephone.customer_hangs_up(Some(&id)).unwrap_or_default());
            }
        }
    }
}
