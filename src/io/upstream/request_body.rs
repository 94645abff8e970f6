//! Request bodies on their way to the upstream.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use tokio::time::Instant;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request body that is streamed.
pub type StreamedBody = UnsyncBoxBody<Bytes, BoxError>;

/// The body of a request to the upstream.
#[derive(Debug)]
pub enum RequestBody {
    /// In memory: exactly the bytes that were judged.
    Whole(Bytes),
    /// Streamed from the client.
    Streamed(StreamedBody),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Streamed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Streamed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Streamed(body) => body.size_hint(),
        }
    }
}

/// A request body that records its progress: the time for the response starts when the upstream has the whole request.
#[derive(Debug)]
pub(super) struct TrackedBody {
    body: RequestBody,
    progress: Option<Arc<SendProgress>>,
}

/// The progress of a streamed request body.
#[derive(Debug)]
pub(super) struct SendProgress(Mutex<Stage>);

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The client has to send more.
    AwaitsClient,
    /// Since then, the upstream has everything or has to read what waits for it.
    AwaitsUpstream(Instant),
}

impl TrackedBody {
    pub(super) fn new(body: RequestBody) -> Self {
        let progress = match body {
            RequestBody::Whole(_) => None,
            RequestBody::Streamed(_) => Some(Arc::new(SendProgress(Mutex::new(Stage::AwaitsUpstream(Instant::now()))))),
        };
        Self { body, progress }
    }

    pub(super) fn progress(&self) -> Option<Arc<SendProgress>> {
        self.progress.clone()
    }

    pub(super) fn into_inner(self) -> RequestBody {
        self.body
    }
}

impl SendProgress {
    /// When the upstream has had the time `patience`. While the client is waited for, that moment moves on: the pauses
    /// of the client are limited where its bytes are read.
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

impl Body for TrackedBody {
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
