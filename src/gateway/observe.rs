//! What the gateway learns from answers: previews from events, and ends of sessions from return codes.
//!
//! Always before the client sees it: an answer is read whole, its changes are recorded, and only then does the first
//! byte go out. A client that has seen an event can act on it at once, through any connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Request, Response, StatusCode, request, response};
use http_body::{Body, Frame, SizeHint};

use super::body::{GatewayBody, Inbound, Unread, read_whole};
use super::detached::Detached;
use super::error::GatewayError;
use super::exchange::Exchange;
use super::handler::{boxed, send, streamed};
use super::headers::ask_for_readable;
use crate::preview::{AgentId, Change};
use crate::protocol::content;
use crate::protocol::envelope::says_signed_out;
use crate::protocol::{Delivery, Envelope, Operation, ParsedCancel, media_type, parse_cancel, parse_events, query};
use crate::store::{EndCause, Moment, SignIn, Source};
use crate::upstream::{Client, Failure, RequestBody, UpstreamBody};

/// Longest answer to a session operation, and longest answer to any other, that is looked at for its `retcode`.
const LONGEST_ENVELOPE: usize = 64 * 1024;
const LONGEST_WATCHED: usize = 1024;

/// An event poll, of one agent or of all.
pub(super) async fn poll(
    client: Arc<Client>,
    request: Request<Inbound>,
    agent: Option<AgentId>,
) -> Result<Response<GatewayBody>, GatewayError> {
    let (mut head, body) = request.into_parts();
    let exchange = Arc::clone(&body.exchange);
    let began = exchange.gateway.ledger.moment();
    ask_for_readable(&mut head.headers);
    // Until the answer begins, a client that goes away takes its poll with it: the event stays in the platform's
    // queue for the next poll. Once it has begun the platform counts the event as delivered, so it must be recorded.
    let response = send(&client, &exchange, head, streamed(body)).await?;
    Detached::new(record_and_pass(exchange, response, agent, began)).await
}

async fn record_and_pass(
    exchange: Arc<Exchange>,
    response: Response<UpstreamBody>,
    agent: Option<AgentId>,
    began: Moment,
) -> Result<Response<GatewayBody>, GatewayError> {
    let (head, mut body) = response.into_parts();
    match read_whole(&mut body, exchange.gateway.config.limits.event_body).await {
        Ok(bytes) => {
            if head.status == StatusCode::OK {
                let delivery = if agent.is_some() { Delivery::Poll } else { Delivery::PollAll };
                let agents = record_events(&exchange, &head.headers, &bytes, agent, delivery, began);
                exchange.gateway.ledger.share(&agents).await;
            }
            Ok(Response::from_parts(head, GatewayBody::Whole(bytes)))
        }
        Err(unread) => {
            if let Unread::TooLarge(_) = &unread {
                exchange.gateway.metrics.events.body_unread();
                warn(&exchange, "event answer is too large to be looked into: its previews are unknown");
            }
            not_whole(head, body, unread)
        }
    }
}

/// What the client gets of an answer that was not read whole: one that is too long for that passes as it comes.
pub(super) fn not_whole(
    head: response::Parts,
    body: UpstreamBody,
    unread: Unread<io::Error>,
) -> Result<Response<GatewayBody>, GatewayError> {
    match unread {
        Unread::TooLarge(beginning) => Ok(Response::from_parts(head, GatewayBody::Resumed(Some(beginning), body))),
        Unread::Broken(error) => Err(Failure::MaybeSent(body.broken(error)).into()),
    }
}

/// Records what an answer or a push tells about previews; returns whose, to be shared before anybody sees it.
/// `meant_for` is the agent who was asked about or who signed in for the push, if it is one.
#[must_use]
pub(super) fn record_events(
    exchange: &Exchange,
    headers: &HeaderMap,
    body: &Bytes,
    meant_for: Option<AgentId>,
    delivery: Delivery,
    began: Moment,
) -> Vec<AgentId> {
    let gateway = &exchange.gateway;
    let most = gateway.config.limits.event_body;
    let parsed = content::decoded(headers, body, most).ok().and_then(|text| parse_events(&text).ok());
    let Some(found) = parsed else {
        gateway.metrics.events.parse_failed();
        warn(exchange, "events cannot be read: their previews are unknown");
        return Vec::new();
    };
    let session = exchange.guid.as_ref().map(http::HeaderValue::as_bytes);
    let recorded = gateway.ledger.record(found, &Source { meant_for, delivery, session, began });
    if recorded.unreadable > 0 {
        warn(exchange, "event cannot be read: its preview is unknown");
    }
    recorded.agents
}

pub(super) fn warn(exchange: &Exchange, message: &'static str) {
    let agent_id = exchange.operation.ok().and_then(|operation| operation.agent()).map(AgentId::as_u32);
    let request_id = exchange.request_id.to_str().unwrap_or_default();
    if exchange.gateway.event_warnings.allow() {
        tracing::warn!(target: "previewgate::events", agent_id, request_id, "{message}");
    }
}

/// A sign-out: on success the previews of `agent` are void (protocol.md 7).
pub(super) async fn sign_out(
    client: Arc<Client>,
    request: Request<Inbound>,
    agent: AgentId,
) -> Result<Response<GatewayBody>, GatewayError> {
    let (head, body) = request.into_parts();
    let exchange = Arc::clone(&body.exchange);
    let response = send(&client, &exchange, head, streamed(body)).await?;
    Detached::new(apply_on_success(exchange, response, agent, OnSuccess::End(Change::Ended, EndCause::SignedOut))).await
}

/// `cancelPreviewCallout`: on success that one preview is void.
pub(super) async fn cancel(
    client: Arc<Client>,
    request: Request<Inbound>,
    agent: AgentId,
) -> Result<Response<GatewayBody>, GatewayError> {
    let (mut head, mut body) = request.into_parts();
    let exchange = Arc::clone(&body.exchange);
    let limits = &exchange.gateway.config.limits;
    let read = tokio::time::timeout(limits.callout_body_timeout, read_whole(&mut body, limits.callout_body)).await;
    // If it cannot be told which preview the upstream gives back, none of the agent's can be trusted any more.
    let (change, body) = match read {
        Ok(Ok(bytes)) => {
            let (change, body) = cancelled(&mut head, bytes);
            (change, RequestBody::Whole(body))
        }
        Ok(Err(Unread::TooLarge(beginning))) => (Change::Ended, RequestBody::Resumed(Some(beginning), boxed(body))),
        Ok(Err(Unread::Broken(_))) | Err(_) => return Err(GatewayError::BodyTimeout),
    };
    let response = send(&client, &exchange, head, body).await?;
    Detached::new(apply_on_success(exchange, response, agent, OnSuccess::End(change, EndCause::Cancelled))).await
}

/// The change that a successful cancellation makes, and the body to forward: one that every reader reads in the same way,
/// if there is one.
fn cancelled(head: &mut request::Parts, body: Bytes) -> (Change, Bytes) {
    let elsewhere = head.uri.query().is_some_and(query::may_name_a_field);
    let encoded = head.headers.contains_key(header::CONTENT_ENCODING);
    if elsewhere || encoded || media_type::may_declare_another_charset(&head.headers) {
        return (Change::Ended, body);
    }
    match parse_cancel(&body) {
        ParsedCancel::One { control_id, rewritten } => {
            if let Some(rewritten) = &rewritten {
                head.headers.insert(header::CONTENT_LENGTH, http::HeaderValue::from(rewritten.len()));
            }
            (Change::Cancelled(control_id), rewritten.unwrap_or(body))
        }
        ParsedCancel::Unclear => (Change::Ended, body),
    }
}

/// What a request changes if it succeeds.
pub(super) enum OnSuccess {
    /// It ends previews.
    End(Change, EndCause),
    /// It begins a session.
    SignIn { began: Moment, pushes: bool },
}

/// Applies `change` to the state of `agent` if the upstream did what it was asked to.
pub(super) async fn apply_on_success(
    exchange: Arc<Exchange>,
    response: Response<UpstreamBody>,
    agent: AgentId,
    change: OnSuccess,
) -> Result<Response<GatewayBody>, GatewayError> {
    let (head, mut body) = response.into_parts();
    match read_whole(&mut body, LONGEST_ENVELOPE).await {
        Ok(bytes) => {
            let envelope = read_envelope(&head.headers, &bytes, LONGEST_ENVELOPE);
            if envelope.is_success() {
                let ledger = &exchange.gateway.ledger;
                match change {
                    OnSuccess::End(change, cause) => ledger.end(agent, change, cause),
                    OnSuccess::SignIn { began, pushes } => {
                        ledger.sign_in(agent, &SignIn { began, pushes, session: None });
                    }
                }
                ledger.share(&[agent]).await;
            }
            heed_sign_out(&exchange, envelope.retcode.as_deref()).await;
            Ok(Response::from_parts(head, GatewayBody::Whole(bytes)))
        }
        Err(unread) => not_whole(head, body, unread),
    }
}

/// The envelope in a whole answer, undone of content coding and charset within `most` bytes.
pub(super) fn read_envelope(headers: &HeaderMap, body: &Bytes, most: usize) -> Envelope {
    content::decoded(headers, body, most).map(|text| Envelope::read(&text)).unwrap_or_default()
}

/// Any request of an agent answered 100-006 or 100-008 says that the agent has no session (protocol.md 7), if it was
/// the agent's own request.
pub(super) async fn heed_sign_out(exchange: &Exchange, retcode: Option<&str>) {
    if let Some(agent) = note_sign_out(exchange, retcode) {
        exchange.gateway.ledger.share(&[agent]).await;
    }
}

/// The same, but does not wait until other gateways know it; returns of whom they should.
fn note_sign_out(exchange: &Exchange, retcode: Option<&str>) -> Option<AgentId> {
    let gateway = &exchange.gateway;
    // Who asks is told, even where somebody else was to be signed out.
    let agent = exchange.operation.ok().and_then(Operation::requester)?;
    let guid = exchange.guid.as_ref().map(http::HeaderValue::as_bytes).unwrap_or_default();
    if !retcode.is_some_and(says_signed_out) {
        return None;
    }
    gateway.ledger.end_if_own(agent, guid, EndCause::NoSession)
}

/// The answer to a request that is streamed through. A short JSON answer about an agent is looked at on its way.
pub(super) fn watched(response: Response<UpstreamBody>, exchange: &Arc<Exchange>) -> Response<GatewayBody> {
    let about_an_agent = exchange.operation.ok().and_then(|operation| operation.agent()).is_some();
    let (head, body) = response.into_parts();
    let short = body.size_hint().upper().is_none_or(|most| most <= LONGEST_WATCHED as u64);
    let body = if about_an_agent && short && is_plain_json(&head.headers) {
        let exchange = Arc::clone(exchange);
        GatewayBody::Watched(Box::new(Watched { body, exchange, seen: Some(Vec::new()) }))
    } else {
        GatewayBody::Streamed(body)
    };
    Response::from_parts(head, body)
}

fn is_plain_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes).unwrap_or_default();
    !headers.contains_key(header::CONTENT_ENCODING) && content_type.windows(4).any(|w| w.eq_ignore_ascii_case(b"json"))
}

/// A body that passes by while its `retcode` is read. Nothing is held back but the frame that completes it, for the
/// moment it takes to look.
pub(super) struct Watched {
    body: UpstreamBody,
    exchange: Arc<Exchange>,
    /// What went by so far; nothing once it is too long to be an envelope without content.
    seen: Option<Vec<u8>>,
}

impl Watched {
    fn look(&mut self, bytes: &[u8]) {
        let Some(mut seen) = self.seen.take() else { return };
        seen.extend_from_slice(bytes);
        if seen.len() > LONGEST_WATCHED {
            return;
        }
        if self.body.is_end_stream() {
            // A body cannot wait for anything else than its bytes.
            if note_sign_out(&self.exchange, Envelope::read(&seen).retcode.as_deref()).is_some() {
                self.exchange.gateway.ledger.share_soon();
            }
        }
        self.seen = Some(seen);
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let watched = self.get_mut();
        let frame = ready!(Pin::new(&mut watched.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => watched.look(frame.data_ref().map(Bytes::as_ref).unwrap_or_default()),
            Some(Err(_)) => {}
            None => watched.look(&[]),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
