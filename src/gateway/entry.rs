//! Outermost: begins the exchange, turns errors into answers, and sees to it that the end is recorded.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tower::{Layer, Service};
use tower_http::BoxError;
use tower_http::body::UnsyncBoxBody;
use tower_http::catch_panic::ResponseForPanic;

use super::Gateway;
use super::body::{GatewayBody, Inbound};
use super::error::GatewayError;
use super::exchange::Exchange;
use crate::downstream::Connection;

type BoxedBody = UnsyncBoxBody<Bytes, BoxError>;

/// See the module.
#[derive(Clone)]
pub(super) struct EntryLayer {
    gateway: Arc<Gateway>,
    connection: Arc<Connection>,
}

impl EntryLayer {
    pub(super) fn new(gateway: &Arc<Gateway>, connection: &Arc<Connection>) -> Self {
        Self { gateway: Arc::clone(gateway), connection: Arc::clone(connection) }
    }
}

impl<S> Layer<S> for EntryLayer {
    type Service = Entry<S>;

    fn layer(&self, inner: S) -> Entry<S> {
        Entry { inner, layer: self.clone() }
    }
}

#[derive(Clone)]
pub(super) struct Entry<S> {
    inner: S,
    layer: EntryLayer,
}

impl<S> Service<Request<Incoming>> for Entry<S>
where
    S: Service<Request<Inbound>, Response = Response<BoxedBody>, Error = GatewayError>,
    S::Future: Send + 'static,
{
    type Response = Response<AnsweredBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Every layer further in is always ready; shedding answers instead of waiting.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let exchange = Exchange::begin(&self.layer.gateway, &self.layer.connection, &request);
        let inbound = |body| Inbound::new(body, Arc::clone(&exchange));
        let answer = self.inner.call(request.map(inbound));
        Box::pin(async move {
            let response = match answer.await {
                Ok(response) if response.extensions().get::<Panicked>().is_none() => response.map(Source::Layers),
                Ok(_) => GatewayError::Defect.answer(&exchange).map(Source::Own),
                Err(error) => error.answer(&exchange).map(Source::Own),
            };
            exchange.learn(|facts| facts.status = Some(response.status().as_u16()));
            exchange.record_decision();
            Ok(response.map(|source| AnsweredBody { source, exchange }))
        })
    }
}

/// Stands for a panic until entry makes a proper answer of it.
#[derive(Clone, Copy)]
pub(super) struct Panicked;

impl ResponseForPanic for Panicked {
    type ResponseBody = GatewayBody;

    fn response_for_panic(&mut self, _: Box<dyn Any + Send + 'static>) -> Response<GatewayBody> {
        let mut response = Response::new(GatewayBody::Whole(Bytes::new()));
        response.extensions_mut().insert(Panicked);
        response
    }
}

/// The body of an answer on its way to the client. The exchange is over when it is dropped.
pub struct AnsweredBody {
    source: Source,
    exchange: Arc<Exchange>,
}

enum Source {
    Layers(BoxedBody),
    Own(GatewayBody),
}

impl Body for AnsweredBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let body = self.get_mut();
        let frame = match &mut body.source {
            Source::Layers(inner) => ready!(Pin::new(inner).poll_frame(cx)),
            Source::Own(inner) => ready!(Pin::new(inner).poll_frame(cx)).map(|frame| frame.map_err(boxed)),
        };
        if let Some(bytes) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            body.exchange.sent(bytes);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Layers(inner) => inner.is_end_stream(),
            Source::Own(inner) => inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Layers(inner) => inner.size_hint(),
            Source::Own(inner) => inner.size_hint(),
        }
    }
}

fn boxed(error: io::Error) -> BoxError {
    Box::new(error)
}
