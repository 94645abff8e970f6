//! What cannot be understood in one way only goes no further.
//!
//! Enforced for every request, with one exception: in monitor mode a request that only *callout validation* objects to
//! is passed on as it is, and recorded as unverified. A broken head is refused in any mode.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::Either;
use http::{HeaderMap, HeaderValue, Request, Uri, header};
use http_body::Body;
use tower::{Layer, Service};

use super::Gateway;
use super::body::{Inbound, drain};
use super::error::GatewayError;
use super::headers::{METHOD_OVERRIDES, PATH_OVERRIDES};
use super::websocket;
use crate::config::{Mode, Validation};
use crate::preview::{Reason, Verdict};
use crate::protocol::{Operation, Unclassified, operation, query};

/// See the module.
#[derive(Clone)]
pub(super) struct ChecksLayer(Arc<Gateway>);

impl ChecksLayer {
    pub(super) fn new(gateway: &Arc<Gateway>) -> Self {
        Self(Arc::clone(gateway))
    }
}

impl<S> Layer<S> for ChecksLayer {
    type Service = Checks<S>;

    fn layer(&self, inner: S) -> Checks<S> {
        Checks { inner, gateway: Arc::clone(&self.0) }
    }
}

#[derive(Clone)]
pub(super) struct Checks<S> {
    inner: S,
    gateway: Arc<Gateway>,
}

impl<S> Service<Request<Inbound>> for Checks<S>
where
    S: Service<Request<Inbound>, Error = GatewayError>,
{
    type Response = S::Response;
    type Error = GatewayError;
    type Future = Either<S::Future, Pin<Box<dyn Future<Output = Result<S::Response, GatewayError>> + Send>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), GatewayError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Inbound>) -> Self::Future {
        let Err(error) = check(&request) else { return Either::Left(self.inner.call(request)) };
        // Reading the body of a request that waits for `100 Continue` would invite it.
        let waits = request.headers().contains_key(header::EXPECT);
        let most = self.gateway.config.limits.callout_body;
        let patience = self.gateway.config.limits.callout_body_timeout;
        Either::Right(Box::pin(async move {
            if !waits {
                let _ = tokio::time::timeout(patience, drain(request.into_body(), most)).await;
            }
            Err(error)
        }))
    }
}

fn check(request: &Request<Inbound>) -> Result<(), GatewayError> {
    let exchange = &request.body().exchange;
    if let Some(fault) = exchange.head_fault {
        exchange.gateway.metrics.requests.head_fault();
        return Err(GatewayError::Head(fault));
    }
    let headers = request.headers();
    let uri = request.uri();
    let head = Head { operation: exchange.operation, uri, headers, has_body: !request.body().is_end_stream() };
    if let Some(judgement) = head.check(&exchange.gateway.config.validation)? {
        exchange.learn(|facts| facts.judgement = Some(judgement));
    }
    Ok(())
}

/// What is known of a request before its body is read.
pub(crate) struct Head<'a> {
    /// What it is for.
    pub(crate) operation: Result<Operation, Unclassified>,
    /// Its target.
    pub(crate) uri: &'a Uri,
    /// Its fields, as framing found them to be sound.
    pub(crate) headers: &'a HeaderMap,
    /// Whether there is a body to come.
    pub(crate) has_body: bool,
}

impl Head<'_> {
    /// Whether the request may go further, with a judgement if it should not but may all the same.
    pub(crate) fn check(&self, policy: &Validation) -> Result<Option<(Verdict, Reason)>, GatewayError> {
        // Other upgrades, such as the `h2c` that some Java clients offer with every request, are declined by leaving the
        // field out (RFC 9110 7.8).
        if websocket::is_asked_for(self.headers) && !policy.allow_websocket {
            return Err(GatewayError::WebSocket);
        }
        match self.objection() {
            None => Ok(None),
            Some(objection) if objection == Unclassified::NotFound || policy.mode == Mode::Enforce => {
                Err(objection.into())
            }
            Some(objection) => Ok(Some((Verdict::Unverified, objection.reason().unwrap_or(Reason::AmbiguousPath)))),
        }
    }

    /// What callout validation has against the request line and head.
    fn objection(&self) -> Option<Unclassified> {
        match self.operation {
            Err(unclassified) => Some(unclassified),
            Ok(Operation::CalloutPreflight) if !is_preflight(self.uri, self.headers, self.has_body) => {
                Some(Unclassified::MethodNotAllowed)
            }
            Ok(_) if overrides_the_method(self.headers) || overridden_by_query(self.uri) => {
                Some(Unclassified::MethodNotAllowed)
            }
            Ok(Operation::Other { .. }) if self.has_body && overridden_by_form(self.uri, self.headers) => {
                Some(Unclassified::MethodNotAllowed)
            }
            Ok(_) if rewritten(self.headers, self.uri.path()) => Some(Unclassified::AmbiguousPath),
            Ok(_) => None,
        }
    }
}

/// A `_method=PUT` in the query, where it would matter.
fn overridden_by_query(uri: &Uri) -> bool {
    uri.query().is_some_and(query::may_override_method) && operation::may_matter(uri.path())
}

/// A form sent where another method would matter: some filters look for a `_method` in it, and would make a sign-out of
/// it. None of those interfaces takes a form.
fn overridden_by_form(uri: &Uri, headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let is_form = content_type.windows(4).any(|word| word.eq_ignore_ascii_case(b"form"));
    is_form && operation::may_matter(uri.path())
}

/// A field by which some frameworks replace the path names an operation that matters, and not the one that the path
/// names. A proxy in front of this one may well say what it was asked itself.
fn rewritten(headers: &HeaderMap, path: &str) -> bool {
    path_overrides(headers).any(|text| {
        let target = text.parse::<Uri>();
        operation::may_matter(&text) && !target.is_ok_and(|target| target.path() == path)
    })
}

/// Whether such a field might make a callout of a request for something else: what becomes of it belongs into the
/// decision log.
pub(super) fn may_be_led_to_callouts(headers: &HeaderMap) -> bool {
    path_overrides(headers).any(|text| operation::concerns_callouts(&text))
}

/// What stands in those fields. A server reads bytes that are not ASCII as it likes, as it does when they are
/// percent-encoded: so they are, and all its readings are looked at.
fn path_overrides(headers: &HeaderMap) -> impl Iterator<Item = String> {
    let spelled = |byte: &u8| if byte.is_ascii() { char::from(*byte).to_string() } else { format!("%{byte:02x}") };
    let text = move |value: &HeaderValue| value.as_bytes().iter().map(spelled).collect();
    PATH_OVERRIDES.into_iter().flat_map(|name| headers.get_all(name)).map(text)
}

fn overrides_the_method(headers: &HeaderMap) -> bool {
    METHOD_OVERRIDES.iter().any(|name| headers.contains_key(name))
}

/// A CORS pre-flight (Fetch standard 4.8): it can only ask, so it may pass. Any other OPTIONS of the guarded resource
/// has no use.
pub(super) fn is_preflight(uri: &Uri, headers: &HeaderMap, has_body: bool) -> bool {
    let asks = |name| headers.contains_key(name);
    let is_other_method = overrides_the_method(headers) || overridden_by_query(uri);
    asks(header::ORIGIN) && asks(header::ACCESS_CONTROL_REQUEST_METHOD) && !is_other_method && !has_body
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLOUT: &str = "/agentgateway/resource/voicecall/101/previewCallout";

    #[test]
    fn a_header_may_repeat_the_path_but_not_replace_it() {
        let rewritten = |name: &'static str, value: &'static str| {
            let field = (http::HeaderName::from_static(name), HeaderValue::from_static(value));
            rewritten(&HeaderMap::from_iter([field]), CALLOUT)
        };
        for same in [CALLOUT, "https://front:8043/agentgateway/resource/voicecall/101/previewCallout?_=1", "/other", ""]
        {
            assert!(!rewritten("x-original-url", same), "{same}");
        }
        for other in [
            "/agentgateway/resource/voicecall/102/previewCallout",
            "/agentgateway/resource/voicecall/101/preview%43allout",
            "resource/onlineagent/101/logout",
        ] {
            assert!(rewritten("x-original-url", other), "{other}");
            assert!(rewritten("x-rewrite-url", other), "{other}");
            assert!(!rewritten("x-forwarded-for", other), "{other}");
        }
    }

    #[test]
    fn a_header_is_read_byte_by_byte() {
        let leads = |value: &[u8]| {
            let field = (http::HeaderName::from_static("x-original-url"), HeaderValue::from_bytes(value).unwrap());
            let headers = HeaderMap::from_iter([field]);
            assert_eq!(
                may_be_led_to_callouts(&headers),
                rewritten(&headers, "/agentgateway/resource/voicecall/101/answer")
            );
            may_be_led_to_callouts(&headers)
        };
        // The ordinal indicators of Latin-1 are letters to a reader who ignores compatibility forms.
        assert!(leads(b"/agentgateway/resource/voicecall/101/previewC\xaallout"));
        assert!(leads("/agentgateway/resource/voicecall/101/\u{ff50}reviewCallout".as_bytes()));
        assert!(leads(b"/agentgateway/resource/voicecall/101/\xc1\xb0reviewCallout"));
        assert!(!leads("/agentgateway/resource/voicecall/101/\u{4f60}".as_bytes()));
    }

    #[test]
    fn a_preflight_can_only_ask() {
        let headers = HeaderMap::from_iter([
            (header::ORIGIN, HeaderValue::from_static("https://desk.example")),
            (header::ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("PUT")),
        ]);
        let asks =
            |query: &str, has_body| is_preflight(&format!("{CALLOUT}{query}").parse().unwrap(), &headers, has_body);
        assert!(asks("", false) && asks("?_=1", false));
        assert!(!asks("", true) && !asks("?_method=PUT", false));
        assert!(!is_preflight(&Uri::from_static(CALLOUT), &HeaderMap::new(), false));
    }

    #[test]
    fn a_form_overrides_the_method_only_where_it_matters() {
        let overridden = |path: &str, media: &str| {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_str(media).unwrap())]);
            overridden_by_form(&format!("/agentgateway/resource/{path}").parse().unwrap(), &headers)
        };
        assert!(overridden("onlineagent/101/logout", "application/x-www-form-urlencoded"));
        assert!(overridden("onlineagent/101", "Multipart/Form-Data; boundary=b"));
        assert!(!overridden("onlineagent/101/logout", "application/json"));
        assert!(!overridden("onlineagent/101/handshake", "application/x-www-form-urlencoded"));
        assert!(!overridden("multimedia/101/uploadfile", "multipart/form-data; boundary=b"));
    }

    #[test]
    fn a_query_overrides_the_method_only_where_it_matters() {
        let overridden = |target: &'static str| overridden_by_query(&Uri::from_static(target));
        assert!(overridden("/agentgateway/resource/onlineagent/101/logout?_method=DELETE"));
        assert!(!overridden("/agentgateway/resource/onlineagent/101/logout?_=1"));
        assert!(!overridden("/agentgateway/resource/voicecall/101/answer?_method=GET"));
    }
}
