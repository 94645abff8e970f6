//! A streamed response whose `retcode` is read as it passes: 100-006 and 100-008 end the agent's previews.
//!
//! The response passes as it arrives. If it may contain one of these codes, its end is held back until the end of the
//! previews is recorded and shared. So for a client that has the whole answer, the previews have ended at every gateway.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{self, HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};

use super::context::RequestContext;
use super::signed_out::end_if_signed_out;
use crate::protocol::EventStream;
use crate::protocol::envelope::may_say_signed_out;
use crate::store::EndsNotStored;
use crate::upstream::UpstreamBody;

/// Maximum size of a response that is read for its `retcode`, in bytes. The documented error envelopes have less than 200.
const MAX_WATCHED: usize = 64 * 1024;
/// Maximum number of bytes that are held back.
const MAX_HELD: usize = 4 * 1024;

/// A body that passes while its `retcode` is read.
pub(super) struct SessionWatch {
    body: UpstreamBody,
    context: Arc<RequestContext>,
    stage: Stage,
    /// The frames that wait for the end of the response.
    held: VecDeque<Frame<Bytes>>,
    held_bytes: usize,
    /// Whether frames may be held back: not any more once they are too many.
    may_hold: bool,
    /// The response is compressed, so its bytes do not show its content.
    compressed: bool,
}

enum Stage {
    /// The response is read.
    Reading { reader: Box<EventStream>, read: usize },
    /// The response is complete. The end of the previews is being shared.
    Ending(BoxFuture<'static, Result<(), EndsNotStored>>),
    /// The response is not read any more.
    Passing,
}

impl SessionWatch {
    /// Whether a response with these headers may be an error envelope about the agent of the request.
    pub(super) fn applies(context: &RequestContext, headers: &HeaderMap, body: &UpstreamBody) -> bool {
        let short = body.size_hint().upper().is_none_or(|length| length <= MAX_WATCHED as u64);
        context.classified.operation.requester().is_some() && short && may_be_an_envelope(headers)
    }

    pub(super) fn new(context: Arc<RequestContext>, headers: &HeaderMap, body: UpstreamBody) -> Self {
        let compressed = headers.contains_key(header::CONTENT_ENCODING);
        let stage = Stage::Reading { reader: Box::new(EventStream::new(headers)), read: 0 };
        Self { body, context, stage, held: VecDeque::new(), held_bytes: 0, may_hold: true, compressed }
    }

    /// Reads a frame; returns it unless it is held back.
    fn inspect(&mut self, frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
        let Stage::Reading { reader, read } = &mut self.stage else { return Some(frame) };
        let bytes = frame.data_ref().cloned().unwrap_or_default();
        *read += bytes.len();
        if *read > MAX_WATCHED {
            self.stage = Stage::Passing;
        } else {
            reader.feed(&bytes);
        }
        let suspect = !self.held.is_empty() || self.compressed || may_say_signed_out(&bytes);
        self.held.push_back(frame);
        if suspect && self.may_hold {
            self.held_bytes += bytes.len();
            self.may_hold = self.held_bytes <= MAX_HELD && matches!(self.stage, Stage::Reading { .. });
        }
        if suspect && self.may_hold { None } else { self.held.pop_front() }
    }

    fn may_release(&self) -> bool {
        match self.stage {
            Stage::Reading { .. } => !self.may_hold,
            Stage::Ending(_) => false,
            Stage::Passing => true,
        }
    }

    /// The response is complete.
    fn end(&mut self) {
        let Stage::Reading { reader, .. } = std::mem::replace(&mut self.stage, Stage::Passing) else { return };
        let retcode = reader.finish().ok().and_then(|answer| answer.retcode);
        if let Some(agent) = end_if_signed_out(&self.context, retcode.as_deref()) {
            let context = Arc::clone(&self.context);
            self.stage = Stage::Ending(Box::pin(async move { context.services().ledger.share(&[agent]).await }));
        }
    }
}

/// Error envelopes are text. Other content, such as sound, images and archives, is not read.
fn may_be_an_envelope(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes) else { return true };
    content_type.windows(4).any(|word| word.eq_ignore_ascii_case(b"json") || word.eq_ignore_ascii_case(b"text"))
}

impl Body for SessionWatch {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let watch = self.get_mut();
        loop {
            if watch.may_release()
                && let Some(frame) = watch.held.pop_front()
            {
                return Poll::Ready(Some(Ok(frame)));
            }
            match &mut watch.stage {
                Stage::Passing => return Pin::new(&mut watch.body).poll_frame(cx),
                Stage::Ending(work) => {
                    let stored = ready!(work.as_mut().poll(cx));
                    watch.stage = Stage::Passing;
                    if let Err(error) = stored {
                        watch.held.clear();
                        return Poll::Ready(Some(Err(io::Error::other(error))));
                    }
                }
                Stage::Reading { .. } => match ready!(Pin::new(&mut watch.body).poll_frame(cx)) {
                    Some(Ok(frame)) => {
                        let passed = watch.inspect(frame);
                        if watch.body.is_end_stream() {
                            watch.end();
                        }
                        if let Some(frame) = passed {
                            return Poll::Ready(Some(Ok(frame)));
                        }
                    }
                    Some(Err(error)) => {
                        watch.stage = Stage::Passing;
                        return Poll::Ready(Some(Err(error)));
                    }
                    None => watch.end(),
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let done = self.held.is_empty() && !matches!(self.stage, Stage::Ending(_));
        done && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let held: usize = self.held.iter().filter_map(Frame::data_ref).map(Bytes::len).sum();
        let rest = self.body.size_hint();
        match rest.exact() {
            Some(rest) => SizeHint::with_exact(rest + held as u64),
            None => SizeHint::new(),
        }
    }
}

impl Drop for SessionWatch {
    fn drop(&mut self) {
        // The client left before the end of the previews was shared.
        if matches!(self.stage, Stage::Ending(_)) {
            self.context.services().ledger.share_soon();
        }
    }
}
