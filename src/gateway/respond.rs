//! From the result of a request to the response that the client gets, and to the last fields of its record.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http::header::{self, HeaderValue};
use http_body::{Body, Frame, SizeHint};

use super::context::RequestContext;
use super::error::{ErrorResponse, GatewayError};
use super::headers::{REASON, REQUEST_ID};
use super::push_quote::QuoteGuard;
use super::record::Recorder;
use super::response_body::ResponseBody;
use crate::preview::{Reason, Verdict};
use crate::protocol::Operation;
use crate::protocol::envelope::{self, Envelope};
use crate::upstream::Failure;

/// The response to a request that ended in an error.
pub(super) fn error_response(
    context: &RequestContext,
    record: &mut Recorder,
    error: &GatewayError,
) -> Response<ResponseBody> {
    let response = error.response(context.config().validation.reject_status);
    record.blame = Some(response.blame);
    record.envelope = Envelope { retcode: Some(response.retcode.into()), result: None };
    record.overrule(verdict_after(error, &response, record.decision()));
    match error {
        GatewayError::Internal => context.services().metrics.process.panicked(),
        GatewayError::Upstream(failure) if context.services().upstream_warnings.allow() => {
            let operation = context.classified.name().as_str();
            let request_id = context.id();
            tracing::warn!(target: "previewgate::upstream", operation, request_id, error = %failure, "request failed");
        }
        _ => {}
    }
    write(context, &response)
}

/// The verdict in the decision log for a callout that ended in an error. A callout that may have reached the upstream keeps
/// its verdict, because the telephone may ring.
fn verdict_after(
    error: &GatewayError,
    response: &ErrorResponse,
    decided: Option<(Verdict, Reason)>,
) -> (Verdict, Reason) {
    // An error without a reason of its own concerns the decision log only if the request's meaning is in doubt.
    let reason = response.reason.unwrap_or(Reason::AmbiguousPath);
    match (error, decided) {
        (GatewayError::Upstream(Failure::MaybeSent(_)) | GatewayError::Internal, Some((verdict, Reason::Ok))) => {
            (verdict, reason)
        }
        (GatewayError::Upstream(Failure::MaybeSent(_)) | GatewayError::Internal, Some(decided)) => decided,
        // The upstream has answered, and only its answer is withheld.
        (GatewayError::PushAddressQuoted | GatewayError::UnreadableAnswer, Some(decided)) => decided,
        // A handshake is not a method of the interface.
        (GatewayError::WebSocket, _) => (Verdict::Rejected, Reason::MethodNotAllowed),
        _ => (Verdict::Rejected, reason),
    }
}

/// The answer to a poll without an event, as the platform gives it: the vendor's C# client compares the bytes
/// (docs/protocol.md 9).
pub(super) fn empty_poll(context: &RequestContext) -> Response<ResponseBody> {
    let body = match context.classified.operation {
        Operation::PollAllEvents => r#"{"message":"","retcode":"0","event":[]}"#,
        _ => r#"{"message":"","retcode":"0"}"#,
    };
    json(context, Bytes::from_static(body.as_bytes()))
}

fn write(context: &RequestContext, error: &ErrorResponse) -> Response<ResponseBody> {
    let mut response = json(context, Bytes::from(envelope::refusal(&error.message, error.retcode)));
    *response.status_mut() = error.status;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REQUEST_ID, context.request_id());
    if let Some(reason) = error.reason {
        headers.insert(REASON, HeaderValue::from_static(reason.as_str()));
    }
    if error.close {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A response that the gateway makes itself.
fn json(context: &RequestContext, body: Bytes) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Whole(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json;charset=UTF-8"));
    if let Some(origin) = &context.origin {
        context.services().origins.repeat(origin, headers);
    }
    response
}

/// The body of a response on its way to the client. The record ends when it is dropped.
pub struct RecordedBody {
    body: ResponseBody,
    /// `None` after a switch of protocols: the tunnel keeps the record.
    record: Option<Box<Recorder>>,
    /// Searches the body for push addresses; `None` without `[push]`.
    guard: Option<Box<QuoteGuard>>,
}

impl RecordedBody {
    /// The response with its record.
    pub(super) fn of(
        context: &RequestContext,
        response: Response<ResponseBody>,
        record: Option<Box<Recorder>>,
    ) -> Response<Self> {
        let relay = context.generation.push.relay();
        let guard = relay.map(|_| Box::new(QuoteGuard::new(response.headers())));
        response.map(|body| Self { body, record, guard })
    }
}

impl Drop for RecordedBody {
    fn drop(&mut self) {
        if let Some(record) = &mut self.record {
            record.delivered(self.body.is_end_stream());
        }
    }
}

impl Body for RecordedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if let (ResponseBody::Events(events), Some(record)) = (&mut this.body, &mut this.record) {
            record.shown.append(&mut events.take_shown());
        }
        if let (Some(Ok(frame)), Some(guard)) = (&frame, &mut this.guard)
            && !guard.allows_frame(frame)
        {
            if let Some(record) = &mut this.record {
                record.delivered(false);
            }
            // The head has been sent, so only an error can withhold the rest from the client: it ends the connection.
            return Poll::Ready(Some(Err(io::Error::other("the response contains a push address"))));
        }
        if let (Some(Ok(frame)), Some(record)) = (&frame, &mut this.record) {
            record.sent(frame.data_ref().map_or(0, Bytes::len));
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
