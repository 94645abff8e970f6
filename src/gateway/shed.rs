//! Refuses early what is too much, held polls and everything else apart: an agent whose poll has to wait notices
//! nothing, an agent whose callout does not get through has a customer who is not called.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use http::Request;
use tower::{Layer, Service};

use super::Gateway;
use super::body::Inbound;
use super::error::GatewayError;
use crate::protocol::Operation;
use crate::telemetry::metrics::ShedKind;

/// One place in so many is for callouts alone.
const KEPT_FOR_CALLOUTS: usize = 8;

/// How much is being done at once, in all workers together.
#[derive(Debug, Default)]
pub struct Load {
    held_polls: AtomicUsize,
    requests: AtomicUsize,
}

/// A place among the requests in flight; given back when dropped.
pub(super) struct Permit {
    load: Arc<Load>,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    HeldPoll,
    Request,
}

impl Load {
    fn counter(&self, kind: Kind) -> &AtomicUsize {
        match kind {
            Kind::HeldPoll => &self.held_polls,
            Kind::Request => &self.requests,
        }
    }

    fn enter(self: &Arc<Self>, kind: Kind, most: usize) -> Option<Permit> {
        let permit = Permit { load: Arc::clone(self), kind };
        let before = self.counter(kind).fetch_add(1, Ordering::Relaxed);
        (before < most).then_some(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.load.counter(self.kind).fetch_sub(1, Ordering::Relaxed);
    }
}

/// See the module.
#[derive(Clone)]
pub(super) struct ShedLayer(Arc<Gateway>);

impl ShedLayer {
    pub(super) fn new(gateway: &Arc<Gateway>) -> Self {
        Self(Arc::clone(gateway))
    }
}

impl<S> Layer<S> for ShedLayer {
    type Service = Shed<S>;

    fn layer(&self, inner: S) -> Shed<S> {
        Shed { inner, gateway: Arc::clone(&self.0) }
    }
}

#[derive(Clone)]
pub(super) struct Shed<S> {
    inner: S,
    gateway: Arc<Gateway>,
}

impl<S> Service<Request<Inbound>> for Shed<S>
where
    S: Service<Request<Inbound>, Error = GatewayError>,
{
    type Response = S::Response;
    type Error = GatewayError;
    type Future = Either<S::Future, Ready<Result<S::Response, GatewayError>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), GatewayError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Inbound>) -> Self::Future {
        let exchange = &request.body().exchange;
        let limits = &self.gateway.config.limits;
        let (kind, most, word) = match exchange.operation {
            Ok(operation) if operation.is_long_poll() => (Kind::HeldPoll, limits.held_polls, ShedKind::Poll),
            Ok(Operation::PreviewCallout { .. }) => (Kind::Request, limits.requests, ShedKind::Request),
            // Clients that trickle uploads can hold every place but those kept for callouts.
            _ => (Kind::Request, limits.requests - limits.requests / KEPT_FOR_CALLOUTS, ShedKind::Request),
        };
        match self.gateway.load.enter(kind, most) {
            Some(permit) => {
                exchange.hold(permit);
                Either::Left(self.inner.call(request))
            }
            None => {
                self.gateway.metrics.requests.shed(word);
                Either::Right(ready(Err(GatewayError::Overloaded)))
            }
        }
    }
}
