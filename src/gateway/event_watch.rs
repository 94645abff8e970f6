//! An event answer that is too large to be held: its events are read as it passes.
//!
//! The last frame is held back until the events are recorded and shared. So a client that has the whole answer can act on it
//! at every gateway.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::context::RequestContext;
use super::event_record::{Arrival, record_events};
use super::set_guid::{follow_renewal, issued_guid};
use crate::audit::{DigestOfPieces, Evidence};
use crate::preview::{ControlId, ShownRef};
use crate::protocol::EventStream;
use crate::store::EndsNotStored;
use crate::upstream::UpstreamBody;

/// A body that passes while its events are read.
pub(super) struct EventWatch {
    /// The bytes that were read until the answer turned out to be too large.
    beginning: Option<Bytes>,
    body: UpstreamBody,
    held: Option<Frame<Bytes>>,
    events: Option<EventStream>,
    context: Arc<RequestContext>,
    arrival: Arrival,
    /// The new GUID in the head of the answer.
    issued: Option<Box<[u8]>>,
    digest: DigestOfPieces,
    shown: Vec<ShownRef>,
    /// The events are recorded, and are being shared.
    sharing: Option<BoxFuture<'static, Result<(), EndsNotStored>>>,
}

impl EventWatch {
    pub(super) fn new(
        context: &Arc<RequestContext>,
        headers: &HeaderMap,
        beginning: Bytes,
        body: UpstreamBody,
        arrival: Arrival,
    ) -> Self {
        let events = Some(EventStream::new(headers));
        let (context, issued) = (Arc::clone(context), issued_guid(headers).map(Box::from));
        let (digest, shown) = (DigestOfPieces::default(), Vec::new());
        let (beginning, held, sharing) = (Some(beginning), None, None);
        Self { beginning, body, held, events, context, arrival, issued, digest, shown, sharing }
    }

    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.beginning.take() {
            Some(beginning) => Poll::Ready(Some(Ok(Frame::data(beginning)))),
            None => Pin::new(&mut self.body).poll_frame(cx),
        }
    }

    /// The audit records of its previews, once they are recorded.
    pub(super) fn take_shown(&mut self) -> Vec<ShownRef> {
        std::mem::take(&mut self.shown)
    }

    fn record(&mut self) {
        let Some(events) = self.events.take() else { return };
        let digest = std::mem::take(&mut self.digest);
        let mut recorded =
            record_events(&self.context, events.finish().ok(), self.arrival, &no_evidence, || digest.finish());
        recorded.agents.extend(follow_renewal(&self.context, self.issued.as_deref()));
        self.shown = recorded.shown;
        if !recorded.agents.is_empty() {
            let (context, agents) = (Arc::clone(&self.context), recorded.agents);
            self.sharing = Some(Box::pin(async move { context.services().ledger.share(&agents).await }));
        }
    }
}

/// No evidence is kept: it would need a second pass over the answer.
fn no_evidence(_: ControlId) -> BTreeMap<String, Evidence> {
    BTreeMap::new()
}

impl Body for EventWatch {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let watch = self.get_mut();
        loop {
            if let Some(sharing) = &mut watch.sharing {
                let shared = ready!(sharing.as_mut().poll(cx));
                watch.sharing = None;
                let last = watch.held.take();
                return Poll::Ready(match shared {
                    Ok(()) => last.map(Ok),
                    Err(error) => Some(Err(io::Error::other(error))),
                });
            }
            match ready!(watch.poll_inner(cx)) {
                Some(Ok(frame)) => {
                    if let (Some(events), Some(bytes)) = (&mut watch.events, frame.data_ref()) {
                        events.feed(bytes);
                        watch.digest.feed(bytes);
                    }
                    if let Some(earlier) = watch.held.replace(frame) {
                        return Poll::Ready(Some(Ok(earlier)));
                    }
                }
                // The answer ended early, so the client cannot read its events either.
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    watch.record();
                    if watch.sharing.is_none() {
                        return Poll::Ready(watch.held.take().map(Ok));
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.beginning.is_none() && self.held.is_none() && self.events.is_none() && self.sharing.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::new()
    }
}

impl Drop for EventWatch {
    fn drop(&mut self) {
        // The client has left before everything was shared.
        if self.sharing.is_some() {
            self.context.services().ledger.share_soon();
        }
    }
}
