//! A sign-in: forwarded, with the gateway's own push addresses in it if it asks for push, and on success the agent's
//! earlier previews are void (protocol.md 7).

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, Response};

use super::body::{GatewayBody, Inbound, Unread, read_whole};
use super::detached::Detached;
use super::error::GatewayError;
use super::exchange::Exchange;
use super::handler::{boxed, send};
use super::observe::{OnSuccess, apply_on_success, warn};
use crate::config::Mode;
use crate::preview::AgentId;
use crate::protocol::sign_in::{SignInFault, push_addresses};
use crate::telemetry::metrics::SignInHandling;
use crate::upstream::{Client, RequestBody};

/// Longest sign-in that is looked into. It holds a handful of short parameters.
const LONGEST_SIGN_IN: usize = 64 * 1024;

/// Forwards the sign-in of `agent`.
pub(super) async fn sign_in(
    client: Arc<Client>,
    request: Request<Inbound>,
    agent: AgentId,
) -> Result<Response<GatewayBody>, GatewayError> {
    let (mut head, mut body) = request.into_parts();
    let exchange = Arc::clone(&body.exchange);
    let patience = exchange.gateway.config.limits.callout_body_timeout;
    let read = tokio::time::timeout(patience, read_whole(&mut body, LONGEST_SIGN_IN)).await;
    let began = exchange.gateway.ledger.moment();
    let mut pushes = false;
    let body = match read {
        Ok(Ok(bytes)) => match relayed(&exchange, agent, &bytes)? {
            Some(rewritten) => {
                pushes = true;
                head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(rewritten.len()));
                RequestBody::Whole(rewritten)
            }
            None => RequestBody::Whole(bytes),
        },
        Ok(Err(Unread::TooLarge(beginning))) => {
            unread(&exchange, "sign-in is too large to be looked into: if it asks for push, its previews are unknown");
            RequestBody::Resumed(Some(beginning), boxed(body))
        }
        Ok(Err(Unread::Broken(_))) | Err(_) => return Err(GatewayError::BodyTimeout),
    };
    let response = send(&client, &exchange, head, body).await?;
    Detached::new(apply_on_success(exchange, response, agent, OnSuccess::SignIn { began, pushes })).await
}

/// The sign-in with pushes coming through the gateway; nothing if it is to be passed as it is.
fn relayed(exchange: &Exchange, agent: AgentId, body: &[u8]) -> Result<Option<Bytes>, GatewayError> {
    match (push_addresses(body), exchange.gateway.push.relay()) {
        (Ok(addresses), _) if addresses.is_empty() => return Ok(None),
        // The upstream will most likely not take it for a sign-in either.
        (Err(SignInFault::NotAnObject), _) => {
            unread(exchange, "sign-in cannot be read: if it asks for push, its previews are unknown");
        }
        (_, None) => pass(exchange, agent, "[push] is off"),
        (found, Some(relay)) => {
            let rewritten = found.map_err(explain).and_then(|addresses| relay.rewritten(agent, body, &addresses));
            match rewritten {
                Ok(rewritten) => {
                    exchange.gateway.metrics.pushes.signed_in(SignInHandling::Rewritten);
                    return Ok(Some(Bytes::from(rewritten)));
                }
                Err(objection) => refuse_unless_monitoring(exchange, agent, objection)?,
            }
        }
    }
    Ok(None)
}

/// Passed as it is, the sign-in would give an agent who is shown contacts that he cannot call, all day long; refused,
/// it tells whoever set the application up at once. Monitor mode refuses nothing, callouts of that agent included.
fn refuse_unless_monitoring(exchange: &Exchange, agent: AgentId, objection: &'static str) -> Result<(), GatewayError> {
    if exchange.gateway.config.validation.mode == Mode::Monitor {
        pass(exchange, agent, objection);
        return Ok(());
    }
    exchange.gateway.metrics.pushes.signed_in(SignInHandling::Refused);
    warn(exchange, objection);
    Err(GatewayError::SignIn(objection))
}

fn explain(fault: SignInFault) -> &'static str {
    match fault {
        SignInFault::NotAnObject => "the sign-in is not a JSON object",
        SignInFault::Repeated => "callBackUri, serviceToken or pushUrl is given twice",
        SignInFault::NotText => "callBackUri or pushUrl is not a string",
    }
}

/// Said once for each agent: the sign-in is repeated every day, and so would be the warning.
fn pass(exchange: &Exchange, agent: AgentId, why: &'static str) {
    exchange.gateway.metrics.pushes.signed_in(SignInHandling::Passed);
    if exchange.gateway.push.is_news(agent) {
        let (agent_id, request_id) = (agent.as_u32(), exchange.request_id.to_str().unwrap_or_default());
        let message = "sign-in asks for push and passes as it is: the previews of this agent are not seen";
        tracing::warn!(target: "previewgate::push", agent_id, request_id, why, "{message}");
    }
}

fn unread(exchange: &Exchange, message: &'static str) {
    exchange.gateway.metrics.pushes.signed_in(SignInHandling::Unread);
    warn(exchange, message);
}
