//! A `previewCallout`: read, judged, and forwarded or refused.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, Response, request};

use super::body::{GatewayBody, Inbound, Unread, read_whole};
use super::detached::Detached;
use super::error::{GatewayError, blame_for};
use super::exchange::Exchange;
use super::handler::{boxed, send, streamed};
use super::judgement::{Judged, judge, settle, understand};
use super::observe::{heed_sign_out, not_whole, read_envelope};
use crate::preview::{AgentId, AgentPreviews, Reason};
use crate::upstream::{Client, RequestBody, UpstreamBody};

/// Judges a callout of `agent` and forwards it, or says why not.
pub(super) async fn judge_and_forward(
    client: Arc<Client>,
    request: Request<Inbound>,
    agent: AgentId,
) -> Result<Response<GatewayBody>, GatewayError> {
    let (mut head, mut body) = request.into_parts();
    let exchange = Arc::clone(&body.exchange);
    let (judged, mut body) = match read_body(&exchange, &mut body).await? {
        Read::Whole(bytes) => (judged(&exchange, agent, &head, &bytes).await, RequestBody::Whole(bytes)),
        Read::TooLarge(beginning) => (Judged::too_large(), RequestBody::Resumed(Some(beginning), boxed(body))),
    };
    let Judged { callout, rewritten, preview_age, outcome } = judged;
    if let Some(rewritten) = rewritten {
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(rewritten.len()));
        body = RequestBody::Whole(rewritten);
    }
    exchange.learn(|facts| {
        facts.callout = callout;
        facts.preview_age = preview_age;
    });
    let gateway = &exchange.gateway;
    let judgement = settle(outcome, &gateway.config.validation, gateway.is_warming_up())?;
    // In monitor mode the head may have been objected to already: the first objection is the one that would have counted.
    exchange.learn(|facts| _ = facts.judgement.get_or_insert(judgement));
    // From here on the telephone may ring: what comes of it is recorded even if the client does not wait for it.
    Detached::new(forward(client, exchange, head, body)).await
}

/// Passes on what could not even be classified, in monitor mode: recorded like a callout, because it may be one.
pub(super) async fn pass_unjudged(
    client: Arc<Client>,
    request: Request<Inbound>,
) -> Result<Response<GatewayBody>, GatewayError> {
    let (head, body) = request.into_parts();
    let exchange = Arc::clone(&body.exchange);
    Detached::new(forward(client, exchange, head, streamed(body))).await
}

/// The rule, applied to the previews of this instant. A release that arrives a moment later does not undo it, as it
/// would not have undone a callout that had reached the platform a moment earlier.
async fn judged(exchange: &Exchange, agent: AgentId, head: &request::Parts, body: &[u8]) -> Judged {
    let gateway = &exchange.gateway;
    // First what needs no previews: what is refused anyway asks nothing of a shared store.
    let parsed = match understand(head.uri.query(), &head.headers, body) {
        Ok(parsed) => parsed,
        Err(objection) => return Judged::unread(objection),
    };
    let previews = match gateway.ledger.previews(agent).await {
        Ok(previews) => previews,
        Err(unavailable) => return Judged::unknowable(parsed, unavailable),
    };
    let none = AgentPreviews::default();
    judge(parsed, previews.as_deref().unwrap_or(&none), gateway.clock.now(), gateway.config.previews.ttl)
}

enum Read {
    Whole(Bytes),
    TooLarge(Bytes),
}

async fn read_body(exchange: &Exchange, body: &mut Inbound) -> Result<Read, GatewayError> {
    let limits = &exchange.gateway.config.limits;
    match tokio::time::timeout(limits.callout_body_timeout, read_whole(body, limits.callout_body)).await {
        Ok(Ok(bytes)) => Ok(Read::Whole(bytes)),
        Ok(Err(Unread::TooLarge(beginning))) => Ok(Read::TooLarge(beginning)),
        // The connection is gone or its framing broken: nobody will read the answer, but it is logged.
        Ok(Err(Unread::Broken(_))) => Err(GatewayError::Refused {
            reason: Reason::MalformedBody,
            message: Cow::Borrowed("the message body broke off"),
        }),
        Err(_) => Err(GatewayError::BodyTimeout),
    }
}

/// Sends the judged bytes on, once, and notes what the upstream said.
async fn forward(
    client: Arc<Client>,
    exchange: Arc<Exchange>,
    head: request::Parts,
    body: RequestBody,
) -> Result<Response<GatewayBody>, GatewayError> {
    let answer = send(&client, &exchange, head, body).await;
    let outcome = match answer {
        Ok(response) => read_answer(&exchange, response).await,
        Err(error) => Err(error),
    };
    if let Err(GatewayError::Upstream(failure)) = &outcome {
        // If the client has gone, nobody else will say it.
        exchange.learn(|facts| facts.blame = Some((blame_for(failure), failure.cause().kind.as_str())));
    }
    outcome
}

async fn read_answer(
    exchange: &Exchange,
    response: Response<UpstreamBody>,
) -> Result<Response<GatewayBody>, GatewayError> {
    let (head, mut body) = response.into_parts();
    let limits = &exchange.gateway.config.limits;
    match read_whole(&mut body, limits.callout_body).await {
        Ok(bytes) => {
            let envelope = read_envelope(&head.headers, &bytes, limits.event_body);
            heed_sign_out(exchange, envelope.retcode.as_deref()).await;
            exchange.learn(|facts| facts.envelope = envelope);
            Ok(Response::from_parts(head, GatewayBody::Whole(bytes)))
        }
        Err(unread) => not_whole(head, body, unread),
    }
}
