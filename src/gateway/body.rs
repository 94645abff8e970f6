//! Bodies between the client and the upstream.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::session_watch::SessionWatch;
use crate::upstream::{RequestBody, StreamedBody, UpstreamBody};

/// The body of a client's request; counts its bytes.
pub(super) struct ClientBody {
    incoming: Incoming,
    received: Option<Arc<AtomicU64>>,
}

impl ClientBody {
    pub(super) fn new(incoming: Incoming) -> Self {
        let received = (!incoming.is_end_stream()).then(Arc::default);
        Self { incoming, received }
    }

    /// The count of the bytes received; `None` if there is no body.
    pub(super) fn counter(&self) -> Option<Arc<AtomicU64>> {
        self.received.clone()
    }

    /// The same body for the upstream, forwarded as it arrives.
    pub(super) fn streamed(self) -> RequestBody {
        if self.is_end_stream() { RequestBody::Whole(Bytes::new()) } else { RequestBody::Streamed(self.boxed()) }
    }

    /// The same body for the upstream after its beginning was read.
    pub(super) fn resumed(self, beginning: Bytes) -> RequestBody {
        RequestBody::Resumed(Some(beginning), self.boxed())
    }

    fn boxed(self) -> StreamedBody {
        self.map_err(Into::into).boxed_unsync()
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let body = self.get_mut();
        let frame = ready!(Pin::new(&mut body.incoming).poll_frame(cx));
        if let (Some(Ok(frame)), Some(received)) = (&frame, &body.received) {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            received.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// The body of a response: the upstream's, or the gateway's own.
pub(super) enum ResponseBody {
    /// In memory.
    Whole(Bytes),
    /// As it arrives from the upstream.
    Streamed(UpstreamBody),
    /// The beginning was read, the rest follows as it arrives.
    Resumed(Option<Bytes>, UpstreamBody),
    /// As it arrives, and its `retcode` is read on the way.
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
            Self::Watched(body) => Pin::new(body.as_mut()).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Resumed(Some(_), _) => false,
            Self::Streamed(body) | Self::Resumed(None, body) => body.is_end_stream(),
            Self::Watched(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            // The upstream gave no Content-Length, otherwise the length would be in the head.
            Self::Resumed(Some(_), _) => SizeHint::new(),
            Self::Streamed(body) | Self::Resumed(None, body) => body.size_hint(),
            Self::Watched(body) => body.size_hint(),
        }
    }
}

/// Why a body is not available in one piece.
pub(super) enum Unread<E> {
    /// It is longer than the bound. The bytes are its beginning.
    TooLarge(Bytes),
    /// It ended early.
    Broken(E),
}

/// Reads `body` whole if it is not longer than `max` bytes.
pub(super) async fn read_whole<B>(body: &mut B, max: usize) -> Result<Bytes, Unread<B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.size_hint().lower() > max as u64 {
        return Err(Unread::TooLarge(Bytes::new()));
    }
    let mut first = Bytes::new();
    // Nearly every body is one frame: it is not copied.
    let mut rest: Option<BytesMut> = None;
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame.map_err(Unread::Broken)?.into_data() else { continue };
        match &mut rest {
            None if first.is_empty() => first = bytes,
            None => rest = Some([first.as_ref(), &bytes].concat().as_slice().into()),
            Some(rest) => rest.extend_from_slice(&bytes),
        }
        if rest.as_ref().map_or(first.len(), BytesMut::len) > max {
            return Err(Unread::TooLarge(rest.map_or(first, BytesMut::freeze)));
        }
        if body.is_end_stream() {
            break;
        }
    }
    Ok(rest.map_or(first, BytesMut::freeze))
}

/// Reads the rest of a refused request's body, so that the next request on the connection can be understood. Beyond
/// `max` bytes closing the connection is cheaper: hyper does that when the body is dropped unread.
pub(super) async fn drain(mut body: ClientBody, max: usize) {
    let _ = read_whole(&mut body, max).await;
}
