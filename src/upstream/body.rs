//! Bodies on their way to and from the upstream.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::pool::Lease;
use super::{Cause, Endpoint};
use crate::failure::FailureKind;
use crate::telemetry::metrics::EndpointMetrics;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request body that is passed on as it comes.
pub type StreamedBody = UnsyncBoxBody<Bytes, BoxError>;

/// The body of a request to the upstream.
#[derive(Debug)]
pub enum RequestBody {
    /// In memory: the very bytes that were judged.
    Whole(Bytes),
    /// As it comes from the client.
    Streamed(StreamedBody),
    /// The beginning was read already, the rest is still to come.
    Resumed(Option<Bytes>, StreamedBody),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Resumed(beginning @ Some(_), _) => Poll::Ready(beginning.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streamed(body) | Self::Resumed(None, body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Streamed(body) | Self::Resumed(None, body) => body.is_end_stream(),
            Self::Resumed(Some(_), _) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Streamed(body) | Self::Resumed(None, body) => body.size_hint(),
            Self::Resumed(Some(beginning), body) => {
                let rest = body.size_hint();
                let length = beginning.len() as u64;
                let mut hint = SizeHint::new();
                hint.set_lower(rest.lower().saturating_add(length));
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper.saturating_add(length));
                }
                hint
            }
        }
    }
}

/// A request body that can be asked how far it is: the upstream cannot answer before it has heard the question.
#[derive(Debug)]
pub(super) struct Tracked {
    body: RequestBody,
    progress: Option<Arc<Progress>>,
}

/// Where a request body that is passed on as it comes stands.
#[derive(Debug)]
pub(super) struct Progress(Mutex<Stage>);

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The client has to send more first.
    AwaitsClient,
    /// The upstream has had it all, or has to take what there is, since then.
    AwaitsUpstream(Instant),
}

impl Tracked {
    pub(super) fn new(body: RequestBody) -> Self {
        let progress = match body {
            RequestBody::Whole(_) => None,
            RequestBody::Streamed(_) | RequestBody::Resumed(..) => {
                Some(Arc::new(Progress(Mutex::new(Stage::AwaitsUpstream(Instant::now())))))
            }
        };
        Self { body, progress }
    }

    pub(super) fn progress(&self) -> Option<Arc<Progress>> {
        self.progress.clone()
    }

    pub(super) fn into_inner(self) -> RequestBody {
        self.body
    }
}

impl Progress {
    /// When the upstream will have had `patience` long. While the client is waited for, that lies ahead: its pauses
    /// are bounded where it is read from.
    pub(super) fn deadline(&self, patience: Duration) -> Instant {
        let stage = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = match stage {
            Stage::AwaitsClient => Instant::now(),
            Stage::AwaitsUpstream(since) => since,
        };
        since + patience
    }

    fn note(&self, stage: Stage) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let tracked = self.get_mut();
        let frame = Pin::new(&mut tracked.body).poll_frame(cx);
        if let Some(progress) = &tracked.progress {
            progress.note(if frame.is_pending() { Stage::AwaitsClient } else { Stage::AwaitsUpstream(Instant::now()) });
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer. When it has been read to the end, its connection is free for the next request; when it is
/// dropped before, the connection is closed, because what is left on it belongs to nobody.
#[derive(Debug)]
pub struct AnswerBody {
    incoming: Incoming,
    lease: Option<Lease>,
    most_silence: Duration,
    silence: Option<Pin<Box<Sleep>>>,
    endpoint: Arc<str>,
    metrics: Arc<EndpointMetrics>,
}

impl AnswerBody {
    pub(super) fn new(incoming: Incoming, lease: Lease, most_silence: Duration, endpoint: &Endpoint) -> Self {
        let (name, metrics) = (Arc::clone(&endpoint.name), Arc::clone(&endpoint.metrics));
        let mut body = Self { incoming, lease: Some(lease), most_silence, silence: None, endpoint: name, metrics };
        body.release_at_end();
        body
    }

    /// What an error while reading this body means.
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

    /// Nothing has come yet: bounds how long that may last.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let due = Instant::now() + self.most_silence;
        self.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due))).as_mut().poll(cx)
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let body = self.get_mut();
        match Pin::new(&mut body.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                body.silence = None;
                // hyper stops asking once it has written a Content-Length in full: the end is noticed here or never.
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
