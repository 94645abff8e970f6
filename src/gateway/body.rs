//! Bodies between the client and the upstream.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::exchange::Exchange;
use super::observe::Watched;
use crate::upstream::UpstreamBody;

/// The body of a client's request, together with the exchange it belongs to.
pub(super) struct Inbound {
    incoming: Incoming,
    pub(super) exchange: Arc<Exchange>,
}

impl Inbound {
    pub(super) fn new(incoming: Incoming, exchange: Arc<Exchange>) -> Self {
        Self { incoming, exchange }
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let body = self.get_mut();
        let frame = ready!(Pin::new(&mut body.incoming).poll_frame(cx));
        if let Some(bytes) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            body.exchange.received(bytes);
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

/// The body of an answer: the upstream's, or the gateway's own.
pub(super) enum GatewayBody {
    /// In memory.
    Whole(Bytes),
    /// As it comes from the upstream.
    Streamed(UpstreamBody),
    /// The beginning was read already, the rest is still to come.
    Resumed(Option<Bytes>, UpstreamBody),
    /// As it comes, with an eye on what it says about the agent's session.
    Watched(Box<Watched>),
}

impl Body for GatewayBody {
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
            // Only an answer without a Content-Length is resumed with a length unknown to us.
            Self::Resumed(Some(_), _) => SizeHint::new(),
            Self::Streamed(body) | Self::Resumed(None, body) => body.size_hint(),
            Self::Watched(body) => body.size_hint(),
        }
    }
}

/// Why a body is not there in one piece.
pub(super) enum Unread<E> {
    /// It is longer than the bound; this much had been read.
    TooLarge(Bytes),
    /// It broke off.
    Broken(E),
}

/// Reads `body` whole if it is not longer than `most` bytes.
pub(super) async fn read_whole<B>(body: &mut B, most: usize) -> Result<Bytes, Unread<B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.size_hint().lower() > most as u64 {
        return Err(Unread::TooLarge(Bytes::new()));
    }
    let mut first = Bytes::new();
    // Nearly every body is one frame: no copy for it.
    let mut rest: Option<BytesMut> = None;
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame.map_err(Unread::Broken)?.into_data() else { continue };
        match &mut rest {
            None if first.is_empty() => first = bytes,
            None => rest = Some([first.as_ref(), &bytes].concat().as_slice().into()),
            Some(rest) => rest.extend_from_slice(&bytes),
        }
        if rest.as_ref().map_or(first.len(), BytesMut::len) > most {
            return Err(Unread::TooLarge(rest.map_or(first, BytesMut::freeze)));
        }
        if body.is_end_stream() {
            break;
        }
    }
    Ok(rest.map_or(first, BytesMut::freeze))
}

/// Reads what is left of a refused request's body, so that the next request on the connection can be understood.
/// Beyond `most` bytes it is cheaper to close the connection: hyper does that when the body is dropped unread.
pub(super) async fn drain(mut body: Inbound, most: usize) {
    let _ = read_whole(&mut body, most).await;
}
