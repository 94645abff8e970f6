//! From what went wrong to what the client gets: one table.
//!
//! A refusal that an agent should see is a 200 with a non-zero `retcode`, because the vendor's clients read nothing
//! else (protocol.md 3). A failure of the gateway or the upstream looks like one (502, 503, 504), because there a
//! client should fail over. Every answer is an envelope and carries the request ID.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};

use super::application::PushFault;
use super::body::GatewayBody;
use super::exchange::Exchange;
use super::headers::{REASON, REQUEST_ID};
use crate::downstream::framing::HeadFault;
use crate::failure::{Blame, FailureKind};
use crate::preview::{Reason, Verdict};
use crate::protocol::Unclassified;
use crate::protocol::envelope::{self, Envelope};
use crate::upstream::Failure;

/// Why a request is not answered by the upstream.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// A head that can be read in more than one way; the connection ends with the answer.
    #[error("the request head is not valid: {0}")]
    Head(HeadFault),
    /// A WebSocket handshake.
    #[error("WebSocket is not allowed here")]
    WebSocket,
    /// No operation, or one that does not allow the method.
    #[error(transparent)]
    Unclassified(#[from] Unclassified),
    /// A callout that is not valid.
    #[error("{message}")]
    Refused {
        /// The word for it.
        reason: Reason,
        /// What was wrong, in one sentence for the client.
        message: Cow<'static, str>,
    },
    /// A sign-in that asks for a push that cannot be relayed.
    #[error("{0}")]
    SignIn(&'static str),
    /// A push that the application did not answer.
    #[error(transparent)]
    Push(#[from] PushFault),
    /// The client stopped sending before its request was complete.
    #[error("the message body did not arrive in time")]
    BodyTimeout,
    /// Too much to do.
    #[error("the gateway is overloaded")]
    Overloaded,
    /// The shared store does not answer, and nothing is to be forwarded without it. A 503, because another gateway may
    /// still reach it; `overloaded`, because the closed list has no nearer word and clients know what to do with it.
    #[error("the gateway cannot look up previews at present")]
    StoreUnavailable,
    /// No answer from the upstream.
    #[error("the upstream failed: {0}")]
    Upstream(#[from] Failure),
    /// A defect of the gateway was caught.
    #[error("internal error")]
    Defect,
}

/// An answer before it is written.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) reason: Option<Reason>,
    pub(crate) message: Cow<'static, str>,
    /// End the connection with this answer.
    pub(crate) close: bool,
    /// Whose fault it was, and the word for it.
    blame: Option<(Blame, &'static str)>,
}

impl GatewayError {
    /// The answer for the client; tells the exchange what it needs to be recorded.
    pub(super) fn answer(&self, exchange: &Arc<Exchange>) -> Response<GatewayBody> {
        let answer = self.table(exchange.gateway.config.validation.reject_status);
        let retcode = self.retcode();
        if matches!(self, Self::Defect) {
            exchange.gateway.metrics.process.panicked();
        }
        exchange.learn(|facts| {
            facts.blame = answer.blame;
            facts.envelope = Envelope { retcode: Some(retcode.to_owned()), result: None };
            facts.judgement = self.judgement(facts.judgement, answer.reason);
        });
        if let Self::Upstream(failure) = self
            && exchange.gateway.upstream_warnings.allow()
        {
            let request_id = exchange.request_id.to_str().unwrap_or_default();
            let operation = exchange.operation_name().as_str();
            tracing::warn!(target: "previewgate::upstream", operation, request_id, error = %failure, "request failed");
        }
        answer.write(retcode, exchange)
    }

    /// What the client gets; `reject_status` is the status of a refusal.
    pub(crate) fn table(&self, reject_status: u16) -> Answer {
        let rejected = StatusCode::from_u16(reject_status).unwrap_or(StatusCode::OK);
        let told = |status| Answer {
            status,
            reason: None,
            message: Cow::Owned(self.to_string()),
            close: false,
            blame: Some((Blame::Client, "refused")),
        };
        match self {
            Self::Head(fault) => {
                let blame = Some((Blame::Client, fault.as_str()));
                Answer { close: true, blame, ..told(status_of_head(*fault)) }
            }
            Self::WebSocket => Answer { close: true, ..told(StatusCode::FORBIDDEN) },
            Self::Unclassified(Unclassified::NotFound) => told(StatusCode::NOT_FOUND),
            Self::Unclassified(
                unclassified @ (Unclassified::AmbiguousPath
                | Unclassified::InvalidAgentId
                | Unclassified::MethodNotAllowed),
            ) => Answer { reason: unclassified.reason(), ..told(rejected) },
            Self::Refused { reason, .. } => Answer { reason: Some(*reason), ..told(rejected) },
            Self::SignIn(_) => Answer { blame: Some((Blame::Client, "push_sign_in")), ..told(rejected) },
            Self::Push(fault) => {
                let (status, blame) = status_of_push(fault);
                Answer { blame: Some(blame), ..told(status) }
            }
            Self::BodyTimeout => {
                Answer { reason: Some(Reason::MalformedBody), close: true, ..told(StatusCode::REQUEST_TIMEOUT) }
            }
            Self::Overloaded => Answer {
                reason: Some(Reason::Overloaded),
                blame: Some((Blame::Gateway, Reason::Overloaded.as_str())),
                ..told(StatusCode::SERVICE_UNAVAILABLE)
            },
            Self::StoreUnavailable => Answer {
                reason: Some(Reason::Overloaded),
                blame: Some((Blame::Gateway, "store")),
                ..told(StatusCode::SERVICE_UNAVAILABLE)
            },
            Self::Upstream(failure) => Answer {
                reason: Some(Reason::UpstreamFailure),
                message: Cow::Borrowed(sentence(failure)),
                blame: Some((blame_for(failure), failure.cause().kind.as_str())),
                ..told(status_of_failure(failure))
            },
            Self::Defect => {
                Answer { blame: Some((Blame::Gateway, "defect")), ..told(StatusCode::INTERNAL_SERVER_ERROR) }
            }
        }
    }

    /// The vendor's code: that of the reason, where there is one.
    pub(crate) fn retcode(&self) -> &'static str {
        match self {
            Self::Refused { reason, .. } => envelope::retcode_of(*reason),
            Self::Defect
            | Self::Upstream(_)
            | Self::Overloaded
            | Self::StoreUnavailable
            | Self::Push(PushFault::Failed(_) | PushFault::Timeout) => "100-007",
            // A sign-in parameter is empty or invalid.
            Self::SignIn(_) => "100-001",
            Self::Head(_)
            | Self::WebSocket
            | Self::Unclassified(_)
            | Self::BodyTimeout
            | Self::Push(PushFault::Signature | PushFault::Target) => "000-002",
        }
    }

    /// What the decision log says. A callout that failed on its way keeps what it was judged to be.
    fn judgement(&self, judged: Option<(Verdict, Reason)>, reason: Option<Reason>) -> Option<(Verdict, Reason)> {
        match (self, judged) {
            (Self::Upstream(Failure::MaybeSent(_)), Some((verdict, Reason::Ok))) => {
                Some((verdict, Reason::UpstreamFailure))
            }
            (Self::Upstream(Failure::MaybeSent(_)), judged @ Some(_)) => judged,
            (Self::Defect, Some(judged)) => Some(judged),
            // No method of the interface: a handshake for something else.
            (Self::WebSocket, _) => Some((Verdict::Rejected, Reason::MethodNotAllowed)),
            _ => Some((Verdict::Rejected, reason.unwrap_or(Reason::UpstreamFailure))),
        }
    }
}

fn status_of_head(fault: HeadFault) -> StatusCode {
    match fault {
        HeadFault::TooLarge | HeadFault::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        HeadFault::Timeout => StatusCode::REQUEST_TIMEOUT,
        HeadFault::LineEnd
        | HeadFault::RequestLine
        | HeadFault::Target
        | HeadFault::FieldName
        | HeadFault::FieldValue
        | HeadFault::Host
        | HeadFault::Repeated
        | HeadFault::Length
        | HeadFault::Coding => StatusCode::BAD_REQUEST,
    }
}

fn status_of_failure(failure: &Failure) -> StatusCode {
    match failure.cause().kind {
        FailureKind::Timeout | FailureKind::ConnectTimeout => StatusCode::GATEWAY_TIMEOUT,
        FailureKind::Resolve
        | FailureKind::Connect
        | FailureKind::Tls
        | FailureKind::Reset
        | FailureKind::Protocol
        | FailureKind::Closed
        | FailureKind::Aborted => StatusCode::BAD_GATEWAY,
    }
}

pub(super) fn blame_for(failure: &Failure) -> Blame {
    if failure.cause().kind == FailureKind::Aborted { Blame::Client } else { Blame::Upstream }
}

/// What CC-Gateway gets for a push without an answer. Nothing public says what it makes of any of these.
fn status_of_push(fault: &PushFault) -> (StatusCode, (Blame, &'static str)) {
    match fault {
        PushFault::Signature => (StatusCode::FORBIDDEN, (Blame::Client, "push_signature")),
        PushFault::Target => (StatusCode::FORBIDDEN, (Blame::Gateway, "push_target")),
        PushFault::Failed(_) => (StatusCode::BAD_GATEWAY, (Blame::Client, "application_failed")),
        PushFault::Timeout => (StatusCode::GATEWAY_TIMEOUT, (Blame::Client, "application_timeout")),
    }
}

/// Says what is known, and nothing of the inside.
fn sentence(failure: &Failure) -> &'static str {
    match failure {
        Failure::NotSent(_) => "CC-Gateway cannot be reached; the request was not sent",
        Failure::MaybeSent(_) => "CC-Gateway did not answer properly; the outcome of the request is unknown",
    }
}

impl Answer {
    fn write(self, retcode: &str, exchange: &Exchange) -> Response<GatewayBody> {
        let body = Bytes::from(envelope::refusal(&self.message, retcode));
        let mut response = Response::new(GatewayBody::Whole(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json;charset=UTF-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(REQUEST_ID, exchange.request_id.clone());
        if let Some(reason) = self.reason {
            headers.insert(REASON, HeaderValue::from_static(reason.as_str()));
        }
        if let Some(origin) = &exchange.origin {
            exchange.gateway.origins.repeat(origin, headers);
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
