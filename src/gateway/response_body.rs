//! The body of a response, on its way to the client.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::event_watch::EventWatch;
use super::session_watch::SessionWatch;
use crate::upstream::UpstreamBody;

/// The body of a response: the upstream's, or the gateway's own.
pub(super) enum ResponseBody {
    /// In memory.
    Whole(Bytes),
    /// Passes as it arrives from the upstream.
    Streamed(UpstreamBody),
    /// The beginning was read, the rest follows as it arrives.
    Resumed(Option<Bytes>, UpstreamBody),
    /// What was polled already, and the rest.
    Peeked(Option<Result<Frame<Bytes>, io::Error>>, Box<ResponseBody>),
    /// Passes as it arrives. Its events are recorded before it is complete.
    Events(Box<EventWatch>),
    /// Passes as it arrives, and its `retcode` is read on the way.
    Watched(Box<SessionWatch>),
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Resumed(beginning @ Some(_), _) => Poll::Ready(beginning.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streamed(body) | Self::Resumed(None, body) => Pin::new(body).poll_frame(cx),
            Self::Peeked(polled @ Some(_), _) => Poll::Ready(polled.take()),
            Self::Peeked(None, body) => Pin::new(body.as_mut()).poll_frame(cx),
            Self::Events(body) => Pin::new(body.as_mut()).poll_frame(cx),
            Self::Watched(body) => Pin::new(body.as_mut()).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Resumed(Some(_), _) | Self::Peeked(Some(_), _) => false,
            Self::Peeked(None, body) => body.is_end_stream(),
            Self::Streamed(body) | Self::Resumed(None, body) => body.is_end_stream(),
            Self::Events(body) => body.is_end_stream(),
            Self::Watched(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            // The upstream gave no Content-Length, otherwise the length would be in the head.
            Self::Resumed(Some(_), _) | Self::Peeked(Some(_), _) => SizeHint::new(),
            Self::Peeked(None, body) => body.size_hint(),
            Self::Streamed(body) | Self::Resumed(None, body) => body.size_hint(),
            Self::Events(body) => body.size_hint(),
            Self::Watched(body) => body.size_hint(),
        }
    }
}
