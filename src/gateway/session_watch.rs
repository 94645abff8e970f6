//! A streamed response whose `retcode` is read as it passes: 100-006 and 100-008 end the agent's previews.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};

use super::context::RequestContext;
use super::signed_out::end_if_signed_out;
use crate::protocol::Envelope;
use crate::upstream::UpstreamBody;

/// Longest response that is read for its `retcode`, in bytes. An error envelope is far shorter.
const MAX_WATCHED: usize = 1024;

/// A body that passes while its `retcode` is read. Only the frame that completes it is held, while it is parsed.
pub(super) struct SessionWatch {
    body: UpstreamBody,
    context: Arc<RequestContext>,
    /// The bytes that have passed; `None` once they are too many for an error envelope.
    seen: Option<Vec<u8>>,
}

impl SessionWatch {
    /// Whether a response with these headers may be an error envelope about the agent of the request.
    pub(super) fn applies(context: &RequestContext, headers: &HeaderMap, body: &UpstreamBody) -> bool {
        let short = body.size_hint().upper().is_none_or(|length| length <= MAX_WATCHED as u64);
        context.agent().is_some() && short && is_plain_json(headers)
    }

    pub(super) fn new(context: Arc<RequestContext>, body: UpstreamBody) -> Self {
        Self { body, context, seen: Some(Vec::new()) }
    }

    fn inspect(&mut self, bytes: &[u8]) {
        let Some(mut seen) = self.seen.take() else { return };
        seen.extend_from_slice(bytes);
        if seen.len() > MAX_WATCHED {
            return;
        }
        if self.body.is_end_stream() {
            let ended = end_if_signed_out(&self.context, Envelope::read(&seen).retcode.as_deref());
            // A body cannot wait for a store.
            if ended.is_some() {
                self.context.services().ledger.share_soon();
            }
        }
        self.seen = Some(seen);
    }
}

fn is_plain_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    !headers.contains_key(header::CONTENT_ENCODING) && content_type.windows(4).any(|w| w.eq_ignore_ascii_case(b"json"))
}

impl Body for SessionWatch {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let watch = self.get_mut();
        let frame = ready!(Pin::new(&mut watch.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => watch.inspect(frame.data_ref().map(Bytes::as_ref).unwrap_or_default()),
            Some(Err(_)) => {}
            None => watch.inspect(&[]),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
