//! The body of a client's request, on its way to the upstream.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::context::RequestContext;
use super::error::GatewayError;
use super::read_whole::{Unread, read_whole};
use crate::config::Limits;
use crate::upstream::RequestBody;

/// A client's request until its operation takes it. The futures on the way refer to it: each that held it itself would
/// be larger by its size.
pub(super) struct ClientRequest(Option<Request<ClientBody>>);

impl ClientRequest {
    /// A request that has just arrived.
    pub(super) fn new(request: Request<Incoming>, context: &Arc<RequestContext>) -> Self {
        let body = |incoming| ClientBody { beginning: Bytes::new(), incoming, context: Arc::clone(context) };
        Self(Some(request.map(body)))
    }

    /// The request, for the one operation that handles it.
    ///
    /// # Errors
    /// It was taken before, which is a defect.
    pub(super) fn take(&mut self) -> Result<Request<ClientBody>, GatewayError> {
        self.0.take().ok_or(GatewayError::Internal)
    }
}

/// A body after an attempt to read it whole.
pub(super) enum BodyRead {
    /// In memory.
    Whole(Bytes),
    /// It is longer than the bound. It can still be forwarded as it arrives.
    TooLarge(RequestBody),
}

/// The body of a client's request. It counts its bytes in the context of the request.
pub(super) struct ClientBody {
    /// What an attempt to read it whole has read.
    beginning: Bytes,
    incoming: Incoming,
    context: Arc<RequestContext>,
}

impl ClientBody {
    /// The same body for the upstream, forwarded as it arrives.
    pub(super) fn streamed(self) -> RequestBody {
        if self.is_end_stream() {
            return RequestBody::Whole(Bytes::new());
        }
        RequestBody::Streamed(self.map_err(Into::into).boxed_unsync())
    }

    /// Reads the body whole if it is not longer than `max` bytes, within `limits.callout_body_timeout`.
    ///
    /// # Errors
    /// When the body does not arrive in time, or ends early.
    pub(super) async fn read(mut self, max: usize, limits: &Limits) -> Result<BodyRead, GatewayError> {
        let read = {
            let mut reading = pin!(read_whole(&mut self, max));
            // Nearly every body came with its head: then no timer is needed.
            match poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx))).await {
                Poll::Ready(read) => Ok(read),
                Poll::Pending => tokio::time::timeout(limits.callout_body_timeout, reading).await,
            }
        };
        match read {
            Ok(Ok(bytes)) => Ok(BodyRead::Whole(bytes)),
            Ok(Err(Unread::TooLarge(beginning))) => {
                self.beginning = beginning;
                Ok(BodyRead::TooLarge(self.streamed()))
            }
            // The client cannot read the response any more, but the log holds it.
            Ok(Err(Unread::Broken(error))) => Err(GatewayError::incomplete_body(&error)),
            Err(_) => Err(GatewayError::BodyTimeout),
        }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let body = self.get_mut();
        if !body.beginning.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut body.beginning)))));
        }
        let frame = ready!(Pin::new(&mut body.incoming).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            body.context.received.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.beginning.is_empty() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.beginning.len() as u64) + self.incoming.size_hint()
    }
}
