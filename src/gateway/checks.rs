//! What cannot be understood in one way only goes no further.
//!
//! Enforced for every request, with one exception: in monitor mode a request that only *callout validation* objects to
//! is passed on as it is, and recorded as unverified. A broken head is refused in any mode.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::Either;
use http::{HeaderMap, Request, header};
use tower::{Layer, Service};

use super::Gateway;
use super::body::{Inbound, drain};
use super::error::GatewayError;
use super::exchange::Exchange;
use super::headers::METHOD_OVERRIDES;
use crate::config::Mode;
use crate::preview::Reason;
use crate::protocol::{Operation, Unclassified};
use crate::telemetry::Verdict;

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
    if asks_for_websocket(request.headers()) {
        return Err(GatewayError::WebSocket);
    }
    match objection(request) {
        None => Ok(()),
        Some(Unclassified::NotFound) => Err(GatewayError::Unclassified(Unclassified::NotFound)),
        Some(objection) => pass_if_monitoring(exchange, objection),
    }
}

/// What callout validation has against the request line and head.
fn objection(request: &Request<Inbound>) -> Option<Unclassified> {
    match request.body().exchange.operation {
        Err(unclassified) => Some(unclassified),
        Ok(Operation::CalloutPreflight) if !is_preflight(request) => Some(Unclassified::MethodNotAllowed),
        Ok(_) if overrides_the_method(request.headers()) => Some(Unclassified::MethodNotAllowed),
        Ok(_) => None,
    }
}

fn pass_if_monitoring(exchange: &Exchange, objection: Unclassified) -> Result<(), GatewayError> {
    if exchange.gateway.config.validation.mode == Mode::Enforce {
        return Err(GatewayError::Unclassified(objection));
    }
    let reason = objection.reason().unwrap_or(Reason::AmbiguousPath);
    exchange.learn(|facts| facts.judgement = Some((Verdict::Unverified, reason)));
    Ok(())
}

fn overrides_the_method(headers: &HeaderMap) -> bool {
    METHOD_OVERRIDES.iter().any(|name| headers.contains_key(name))
}

/// A CORS pre-flight (Fetch standard 4.8): it can only ask, so it may pass. Any other OPTIONS of the guarded resource
/// has no use.
pub(super) fn is_preflight<B: http_body::Body>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let asks = headers.contains_key(header::ORIGIN) && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    asks && !overrides_the_method(headers) && request.body().is_end_stream()
}

/// A WebSocket would carry callouts that nobody validates (protocol.md 1). Other upgrades, such as the `h2c` that
/// some Java clients offer with every request, are declined by leaving the field out (RFC 9110 7.8).
fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let mut upgrades = headers.get_all(header::UPGRADE).iter().map(http::HeaderValue::as_bytes);
    let websocket = |value: &[u8]| value.to_ascii_lowercase().windows(9).any(|word| word == b"websocket");
    headers.contains_key(header::SEC_WEBSOCKET_KEY) || upgrades.any(websocket)
}
