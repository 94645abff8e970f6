//! A `previewCallout`: read, judged, and forwarded byte for byte or refused.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Request, Response, request};

use super::body::{GatewayBody, Inbound, Unread, read_whole};
use super::detached::Detached;
use super::error::{GatewayError, blame_for};
use super::exchange::Exchange;
use super::handler::{boxed, send};
use super::headers::GUID;
use super::observe::heed_sign_out;
use crate::config::{Mode, OnUnknownPreview};
use crate::preview::{AgentId, AgentPreviews, Reason, Refusal, Validated, decide};
use crate::protocol::{Envelope, parse_callout};
use crate::telemetry::Verdict;
use crate::upstream::{AnswerBody, Client, Failure, RequestBody};

/// Judges a callout of `agent` and forwards it, or says why not.
pub(super) async fn judge_and_forward(
    client: Arc<Client>,
    request: Request<Inbound>,
    agent: AgentId,
) -> Result<Response<GatewayBody>, GatewayError> {
    let (head, mut body) = request.into_parts();
    let exchange = Arc::clone(&body.exchange);
    let objection = check_head(&head.headers);
    let (verdict, reason, body) = match read_body(&exchange, &mut body).await? {
        Read::Whole(bytes) => {
            let judged = objection.and_then(|()| judge(&exchange, agent, &bytes));
            let (verdict, reason) = settle(&exchange, judged)?;
            (verdict, reason, RequestBody::Whole(bytes))
        }
        Read::TooLarge(beginning) => {
            let (verdict, reason) = settle(&exchange, Err(refused(Reason::TooLarge, "the message body is too large")))?;
            (verdict, reason, RequestBody::Resumed(Some(beginning), boxed(body)))
        }
    };
    exchange.learn(|facts| facts.judgement = Some((verdict, reason)));
    // From here on the telephone may ring: what comes of it is recorded even if the client does not wait for it.
    Detached::new(forward(client, exchange, head, body)).await
}

type Objection = (Reason, Cow<'static, str>);

fn refused(reason: Reason, message: &'static str) -> Objection {
    (reason, Cow::Borrowed(message))
}

/// The header fields that the interface demands (previewCallout page, table 2).
fn check_head(headers: &HeaderMap) -> Result<(), Objection> {
    if headers.get(GUID).is_none_or(|guid| guid.as_bytes().trim_ascii().is_empty()) {
        return Err(refused(Reason::MissingGuid, "the Guid header is missing"));
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if headers.contains_key(header::CONTENT_ENCODING) || !content_type.is_some_and(is_plain_json) {
        let message = "the message body must be sent as application/json in UTF-8";
        return Err(refused(Reason::InvalidContentType, message));
    }
    Ok(())
}

/// `application/json`, without charset or with UTF-8: what was judged is what the upstream reads.
fn is_plain_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/json"));
    let harmless = |parameter: &str| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            let charset = value.trim().trim_matches('"');
            charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("utf8")
        }
        // A parameter that only looks like none (`charset`, `charset "x"`) might be read as one.
        Some((name, _)) => !name.to_ascii_lowercase().contains("charset"),
        None => parameter.is_empty(),
    };
    is_json && parts.all(harmless)
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

/// The rule, applied to the previews of this instant. A release that arrives a moment later does not undo it, as it
/// would not have undone a callout that had reached the platform a moment earlier.
fn judge(exchange: &Exchange, agent: AgentId, body: &[u8]) -> Result<(), Objection> {
    let gateway = &exchange.gateway;
    let callout = parse_callout(body).map_err(|error| (error.reason(), Cow::Owned(error.to_string())))?;
    let previews = gateway.store.previews(agent);
    let none = AgentPreviews::default();
    let previews = previews.as_deref().unwrap_or(&none);
    let decision = decide(&callout, previews, gateway.clock.now(), gateway.config.previews.ttl);
    exchange.learn(|facts| {
        facts.callout = Some(callout);
        facts.preview_age = match decision {
            Ok(Validated { preview_age }) => Some(preview_age),
            Err(refusal) => refusal.preview_age(),
        };
    });
    decision.map(|_| ()).map_err(|refusal| (refusal.reason(), Cow::Borrowed(explain(refusal))))
}

/// One sentence for the client that names no number.
fn explain(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::UnknownPreview => "no preview of this agent is known",
        Refusal::ControlIdMismatch => "callcontrolid is not the control ID of any preview of this agent",
        Refusal::NumberNotInPreview { .. } => "called is not in dialeddigits of the preview with this control ID",
        Refusal::PreviewExpired { .. } => "the preview with this control ID has expired",
    }
}

/// What follows from a judgement under the configured policy.
fn settle(exchange: &Exchange, judged: Result<(), Objection>) -> Result<(Verdict, Reason), GatewayError> {
    let policy = &exchange.gateway.config.validation;
    let Err((reason, message)) = judged else { return Ok((Verdict::Forwarded, Reason::Ok)) };
    let lenient = reason == Reason::UnknownPreview && policy.on_unknown_preview == OnUnknownPreview::Forward;
    if lenient || policy.mode == Mode::Monitor {
        return Ok((Verdict::Unverified, reason));
    }
    Err(GatewayError::Refused { reason, message })
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
    response: Response<AnswerBody>,
) -> Result<Response<GatewayBody>, GatewayError> {
    let (head, mut body) = response.into_parts();
    match read_whole(&mut body, exchange.gateway.config.limits.callout_body).await {
        Ok(bytes) => {
            let envelope = Envelope::read(&bytes);
            heed_sign_out(exchange, envelope.retcode.as_deref());
            exchange.learn(|facts| facts.envelope = envelope);
            Ok(Response::from_parts(head, GatewayBody::Whole(bytes)))
        }
        Err(Unread::TooLarge(beginning)) => Ok(Response::from_parts(head, GatewayBody::Resumed(Some(beginning), body))),
        Err(Unread::Broken(error)) => Err(Failure::MaybeSent(body.broken(error)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types() {
        for good in [
            "application/json",
            "application/json; charset=UTF-8",
            "application/json;charset=utf-8",
            "Application/JSON ; Charset=\"UTF-8\"",
            "application/json; charset=utf8;",
            "application/json; version=1",
        ] {
            assert!(is_plain_json(good), "{good}");
        }
        for bad in [
            "",
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/json; charset=GBK",
            "application/json; charset=utf-16",
            "application/json; charset=UTF-8; charset=GBK",
            "application/json; charset",
            "application/json; charset*=utf-8''x",
            "application/json, text/plain",
            "application/jsonx",
        ] {
            assert!(!is_plain_json(bad), "{bad}");
        }
    }
}
