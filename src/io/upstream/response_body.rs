//! The body of a response on its way from the upstream, and what happens to its connection afterwards.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::endpoint::Endpoint;
use super::failure::Cause;
use super::pool::Lease;
use crate::failure::FailureKind;
use crate::telemetry::metrics::EndpointMetrics;

/// The body of a response. When it has been read to the end, its connection is free for the next request. When it is
/// dropped before, the connection is closed: the next request would read the rest of this body.
#[derive(Debug)]
pub struct UpstreamBody {
    incoming: Incoming,
    lease: Option<Lease>,
    max_silence: Duration,
    silence: Option<Pin<Box<Sleep>>>,
    endpoint: Arc<str>,
    metrics: Arc<EndpointMetrics>,
}

impl UpstreamBody {
    pub(super) fn new(incoming: Incoming, lease: Lease, max_silence: Duration, endpoint: &Endpoint) -> Self {
        let (name, metrics) = (Arc::clone(&endpoint.name), Arc::clone(&endpoint.metrics));
        let mut body = Self { incoming, lease: Some(lease), max_silence, silence: None, endpoint: name, metrics };
        body.release_at_end();
        body
    }

    /// The cause for an error while this body was read.
    pub fn broken(&self, error: io::Error) -> Cause {
        let kind = if error.kind() == io::ErrorKind::TimedOut { FailureKind::Timeout } else { FailureKind::Reset };
        Cause { kind, endpoint: Arc::clone(&self.endpoint), source: Some(Box::new(error)) }
    }

    fn release_at_end(&mut self) {
        if self.incoming.is_end_stream() {
            self.release();
        }
    }

    fn release(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }

    fn fail(&mut self, kind: FailureKind, error: io::Error) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.metrics.failed(kind);
        self.lease = None;
        Poll::Ready(Some(Err(error)))
    }

    /// Ready when no byte has come for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let due = Instant::now() + self.max_silence;
        self.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due))).as_mut().poll(cx)
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let body = self.get_mut();
        match Pin::new(&mut body.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                body.silence = None;
                // hyper does not poll again after the last byte of a Content-Length, so the end must be noticed here.
                body.release_at_end();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => body.fail(FailureKind::Reset, io::Error::other(error)),
            Poll::Ready(None) => {
                body.release();
                Poll::Ready(None)
            }
            Poll::Pending => {
                ready!(body.poll_silence(cx));
                body.fail(FailureKind::Timeout, io::ErrorKind::TimedOut.into())
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
