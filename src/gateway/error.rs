//! From an error to the response that the client gets: one table.
//!
//! A refusal that an agent should see is a 200 with a non-zero `retcode`, because the vendor's clients read the body of
//! a 200 only (docs/protocol.md 3). A failure of the gateway or the upstream has a status of its own (502, 503, 504),
//! because a client should fail over then. Every response is an envelope.

use std::borrow::Cow;
use std::io;

use http::StatusCode;

use super::push_client::PushFault;
use crate::downstream::framing::HeadFault;
use crate::failure::{Blame, FailureKind};
use crate::preview::Reason;
use crate::protocol::Unclassified;
use crate::protocol::envelope::retcode_of;
use crate::store::EndsNotStored;
use crate::upstream::Failure;

/// Why the upstream does not answer a request.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// A head that can be read in more than one way; the connection ends with the response.
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
        /// One sentence for the client. It names no number.
        message: Cow<'static, str>,
    },
    /// A sign-in that asks for a push that cannot be relayed.
    #[error("{0}")]
    SignIn(&'static str),
    /// A push that the application did not answer.
    #[error(transparent)]
    Push(#[from] PushFault),
    /// A response of the upstream that contains one of the gateway's push addresses.
    #[error("CC-Gateway's answer is withheld: it contains an address that only CC-Gateway may know")]
    PushAddressQuoted,
    /// A response of the upstream that may contain one, in a form that cannot be looked into.
    #[error("CC-Gateway's answer is withheld: it is compressed or cut in a way that cannot be looked into")]
    UnreadableAnswer,
    /// The client stopped sending before its request was complete.
    #[error("the message body did not arrive in time")]
    BodyTimeout,
    /// The client closed the connection before its request was complete.
    #[error("the message body ended early")]
    ClientGone,
    /// Too many requests are in flight.
    #[error("the gateway is overloaded")]
    Overloaded,
    /// The shared store does not answer, and nothing may be forwarded without it. Another gateway may still reach it, so
    /// the client should fail over.
    #[error("the gateway cannot look up previews at present")]
    StoreUnavailable,
    /// The audit log cannot record a callout. Another gateway may have a disk that works, so the client should fail over.
    #[error("the gateway cannot record the callout at present")]
    AuditUnavailable,
    /// No response from the upstream.
    #[error("the upstream failed: {0}")]
    Upstream(#[from] Failure),
    /// A defect of the gateway: a panic was caught.
    #[error("internal error")]
    Internal,
}

/// The response to an error, before it is written.
#[derive(Debug)]
pub(crate) struct ErrorResponse {
    pub(crate) status: StatusCode,
    /// The vendor's code.
    pub(crate) retcode: &'static str,
    /// The word for logs, metrics and the `X-Previewgate-Reason` field.
    pub(crate) reason: Option<Reason>,
    /// One sentence for the client.
    pub(crate) message: Cow<'static, str>,
    /// Whether the connection ends with this response.
    pub(crate) close: bool,
    /// Whose fault it is, and the word for it.
    pub(super) blame: (Blame, &'static str),
}

/// The answer would tell the client of an end that other gateways do not know.
impl From<EndsNotStored> for GatewayError {
    fn from(_: EndsNotStored) -> Self {
        Self::StoreUnavailable
    }
}

impl GatewayError {
    /// A request body that ended early: the framer found a fault in it, or the client closed the connection.
    pub(super) fn incomplete_body(error: &hyper::Error) -> Self {
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            if cause.downcast_ref::<io::Error>().is_some_and(|cause| cause.kind() == io::ErrorKind::InvalidData) {
                let message = Cow::Borrowed("the message body has invalid framing");
                return Self::Refused { reason: Reason::MalformedBody, message };
            }
            source = cause.source();
        }
        Self::ClientGone
    }

    /// The one table. `reject_status` is the configured status of a refusal.
    pub(crate) fn response(&self, reject_status: u16) -> ErrorResponse {
        use Blame::{Client, Gateway};
        let rejected = StatusCode::from_u16(reject_status).unwrap_or(StatusCode::OK);
        let row = |status, retcode| ErrorResponse::new(status, retcode, self.to_string());
        let with = |status, reason| ErrorResponse { reason: Some(reason), ..row(status, retcode_of(reason)) };
        match self {
            Self::Head(fault) => {
                row(status_of_head(*fault), INVALID_PARAMETER).closing().blamed(Client, fault.as_str())
            }
            Self::WebSocket => row(StatusCode::FORBIDDEN, INVALID_PARAMETER).closing(),
            Self::Unclassified(Unclassified::NotFound) => row(StatusCode::NOT_FOUND, INVALID_PARAMETER),
            Self::Unclassified(Unclassified::AmbiguousPath) => with(rejected, Reason::AmbiguousPath),
            Self::Unclassified(Unclassified::InvalidAgentId) => with(rejected, Reason::InvalidAgentId),
            Self::Unclassified(Unclassified::MethodNotAllowed) => with(rejected, Reason::MethodNotAllowed),
            Self::Refused { reason, .. } => with(rejected, *reason),
            Self::SignIn(_) => row(rejected, INVALID_SIGN_IN_PARAMETER).blamed(Client, "push_sign_in"),
            Self::Push(fault) => {
                let (status, retcode, blame, cause) = row_of_push(fault);
                row(status, retcode).blamed(blame, cause)
            }
            Self::PushAddressQuoted => {
                row(StatusCode::BAD_GATEWAY, UNREACHABLE).blamed(Blame::Upstream, "push_address_quoted")
            }
            Self::UnreadableAnswer => {
                row(StatusCode::BAD_GATEWAY, UNREACHABLE).blamed(Blame::Upstream, "unreadable_answer")
            }
            Self::BodyTimeout => with(StatusCode::REQUEST_TIMEOUT, Reason::MalformedBody).closing(),
            Self::ClientGone => {
                with(StatusCode::BAD_REQUEST, Reason::ClientGone).closing().blamed(Client, Reason::ClientGone.as_str())
            }
            Self::Overloaded => {
                with(StatusCode::SERVICE_UNAVAILABLE, Reason::Overloaded).blamed(Gateway, Reason::Overloaded.as_str())
            }
            Self::StoreUnavailable => {
                with(StatusCode::SERVICE_UNAVAILABLE, Reason::StoreUnavailable).blamed(Gateway, "store")
            }
            Self::AuditUnavailable => {
                with(StatusCode::SERVICE_UNAVAILABLE, Reason::AuditUnavailable).blamed(Gateway, "audit")
            }
            Self::Upstream(failure) => {
                let message = Cow::Borrowed(sentence(failure));
                let response = with(status_of_failure(failure), reason_of_failure(failure));
                ErrorResponse { message, ..response }.blamed(blame_for(failure), failure.cause().kind.as_str())
            }
            Self::Internal => with(StatusCode::INTERNAL_SERVER_ERROR, Reason::InternalError)
                .blamed(Gateway, Reason::InternalError.as_str()),
        }
    }
}

impl ErrorResponse {
    /// A response without a reason, blamed on the client. The connection stays open.
    fn new(status: StatusCode, retcode: &'static str, message: String) -> Self {
        let (reason, message) = (None, Cow::Owned(message));
        Self { status, retcode, reason, message, close: false, blame: (Blame::Client, "refused") }
    }

    fn closing(self) -> Self {
        Self { close: true, ..self }
    }

    fn blamed(self, blame: Blame, cause: &'static str) -> Self {
        Self { blame: (blame, cause), ..self }
    }
}

/// 000-002: a parameter or the address is invalid.
const INVALID_PARAMETER: &str = "000-002";
/// 100-001: a sign-in parameter is empty or invalid.
const INVALID_SIGN_IN_PARAMETER: &str = "100-001";
/// 100-007: internal error, or a resource cannot be reached.
const UNREACHABLE: &str = "100-007";

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
        FailureKind::LocalResources => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Without descriptors, ports or memory the gateway is overloaded, whatever the state of the upstream.
fn reason_of_failure(failure: &Failure) -> Reason {
    match (blame_for(failure), failure) {
        (Blame::Gateway, Failure::NotSent(_)) => Reason::Overloaded,
        (Blame::Gateway, Failure::MaybeSent(_)) | (Blame::None | Blame::Client | Blame::Upstream, _) => {
            Reason::UpstreamFailure
        }
    }
}

fn blame_for(failure: &Failure) -> Blame {
    match failure.cause().kind {
        FailureKind::Aborted => Blame::Client,
        FailureKind::LocalResources => Blame::Gateway,
        FailureKind::Resolve
        | FailureKind::Connect
        | FailureKind::ConnectTimeout
        | FailureKind::Tls
        | FailureKind::Reset
        | FailureKind::Timeout
        | FailureKind::Protocol
        | FailureKind::Closed => Blame::Upstream,
    }
}

/// The response to CC-Gateway if a push has no answer. It is not documented how CC-Gateway reacts to any of these.
fn row_of_push(fault: &PushFault) -> (StatusCode, &'static str, Blame, &'static str) {
    match fault {
        PushFault::Signature => (StatusCode::FORBIDDEN, INVALID_PARAMETER, Blame::Client, "push_signature"),
        PushFault::Session => (StatusCode::FORBIDDEN, INVALID_PARAMETER, Blame::Client, "push_session"),
        PushFault::Source => (StatusCode::FORBIDDEN, INVALID_PARAMETER, Blame::Client, "push_source"),
        PushFault::Target => (StatusCode::FORBIDDEN, INVALID_PARAMETER, Blame::Gateway, "push_target"),
        PushFault::Quote => (StatusCode::BAD_GATEWAY, INVALID_PARAMETER, Blame::Upstream, "push_address_quoted"),
        PushFault::Failed(_) => (StatusCode::BAD_GATEWAY, UNREACHABLE, Blame::Client, "application_failed"),
        PushFault::Timeout => (StatusCode::GATEWAY_TIMEOUT, UNREACHABLE, Blame::Client, "application_timeout"),
    }
}

/// The sentence for the client. It says whether the request was sent, and nothing about the inside of the network.
fn sentence(failure: &Failure) -> &'static str {
    match failure {
        Failure::NotSent(cause) if cause.kind == FailureKind::LocalResources => {
            "the gateway is overloaded; the request was not sent"
        }
        Failure::NotSent(_) => "CC-Gateway cannot be reached; the request was not sent",
        Failure::MaybeSent(_) => "CC-Gateway did not answer properly; the outcome of the request is unknown",
    }
}
