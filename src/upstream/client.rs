//! One worker's way to the upstream: choose an endpoint, send once, and know what is known if there is no answer.

use std::sync::Arc;

use http::{HeaderValue, Request, header};
use hyper::client::conn::http1::SendRequest;
use tokio::time::{Instant, timeout_at};

use super::body::{AnswerBody, RequestBody};
use super::connect::connect;
use super::pool::{Lease, Pool};
use super::{Answer, Cause, Endpoint, Failure, Upstream};
use crate::telemetry::metrics::FailureKind;

/// Sends requests over connections of its own. One for each worker.
pub struct Client {
    upstream: Arc<Upstream>,
    /// One for each endpoint, in the same order.
    pools: Vec<Arc<Pool>>,
}

/// What became of one attempt. The whole point of the type: only `NotSent` has a request left to send.
enum Attempt {
    Answered(Answer),
    NotSent(Request<RequestBody>, Cause),
    MaybeSent(Cause),
}

impl Client {
    /// A client without connections.
    pub fn new(upstream: Arc<Upstream>) -> Self {
        let settings = &upstream.settings;
        let pool = |_: &Endpoint| Pool::new(settings.max_idle_per_endpoint, settings.idle_timeout);
        let pools = upstream.endpoints.iter().map(pool).collect();
        Self { upstream, pools }
    }

    /// The upstream that this client sends to.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Sends `request`, whose target is in origin form, to the first endpoint that takes it, and waits for the head
    /// of the answer for `response_timeout` at most. Dropping the future cancels the request: its connection is closed.
    ///
    /// # Errors
    /// [`Failure::NotSent`] if no endpoint saw any of it, [`Failure::MaybeSent`] otherwise.
    pub async fn send(&self, mut request: Request<RequestBody>) -> Result<Answer, Failure> {
        let client_host = request.headers_mut().remove(header::HOST);
        let mut last = None;
        for position in self.candidates() {
            match self.attempt(position, request, client_host.as_ref()).await {
                Attempt::Answered(answer) => return Ok(answer),
                Attempt::MaybeSent(cause) => return Err(Failure::MaybeSent(cause)),
                Attempt::NotSent(unsent, cause) => {
                    request = unsent;
                    last = Some(cause);
                }
            }
        }
        let nothing_configured = || Cause { kind: FailureKind::Resolve, endpoint: "no endpoint".into(), source: None };
        Err(Failure::NotSent(last.unwrap_or_else(nothing_configured)))
    }

    /// Closes connections that have been idle for too long.
    pub fn expire_idle(&self) {
        self.pools.iter().for_each(|pool| pool.expire());
    }

    /// A reload has replaced this client: connections in use end with their answers. Client connections that are idle
    /// hold on to it until their next request, and must not keep the old upstream's connections open meanwhile.
    pub fn retire(&self) {
        self.pools.iter().for_each(|pool| pool.retire());
    }

    /// Available endpoints in order of preference, then the others: the last one is never given up.
    fn candidates(&self) -> impl Iterator<Item = usize> {
        let (good, ejected): (Vec<usize>, Vec<usize>) = (0..self.upstream.endpoints.len())
            .partition(|position| self.upstream.endpoints.get(*position).is_some_and(Endpoint::is_available));
        good.into_iter().chain(ejected)
    }

    /// One endpoint: over a kept connection if there is one that is still good, else over a new one.
    async fn attempt(
        &self,
        position: usize,
        mut request: Request<RequestBody>,
        client_host: Option<&HeaderValue>,
    ) -> Attempt {
        let (Some(endpoint), Some(pool)) = (self.upstream.endpoints.get(position), self.pools.get(position)) else {
            let cause = Cause { kind: FailureKind::Resolve, endpoint: "no endpoint".into(), source: None };
            return Attempt::NotSent(request, cause);
        };
        let host = client_host.filter(|_| self.upstream.settings.preserve_host).unwrap_or(&endpoint.authority);
        request.headers_mut().insert(header::HOST, host.clone());
        // A kept connection that turns out closed gives the request back; the next one may be good.
        while let Some(sender) = pool.take() {
            match self.exchange(position, endpoint, pool, sender, request).await {
                Attempt::NotSent(unsent, _) => request = unsent,
                done => return done,
            }
        }
        // Boxed: what a handshake needs would otherwise be part of every request's future, also while a poll is held.
        match Box::pin(connect(&self.upstream, endpoint)).await {
            Ok(sender) => self.exchange(position, endpoint, pool, sender, request).await,
            Err(cause) => Attempt::NotSent(request, cause),
        }
    }

    async fn exchange(
        &self,
        position: usize,
        endpoint: &Endpoint,
        pool: &Arc<Pool>,
        mut sender: SendRequest<RequestBody>,
        request: Request<RequestBody>,
    ) -> Attempt {
        let settings = &self.upstream.settings;
        let deadline = Instant::now() + settings.response_timeout;
        let cause = |kind: FailureKind, source: Option<hyper::Error>| {
            endpoint.metrics.failed(kind);
            Cause { kind, endpoint: endpoint.name.clone(), source: source.map(Into::into) }
        };
        match timeout_at(deadline, sender.try_send_request(request)).await {
            Ok(Ok(response)) => {
                let lease = Lease { sender, pool: Arc::clone(pool) };
                let wrap = |incoming| AnswerBody::new(incoming, lease, settings.body_idle_timeout, endpoint);
                Attempt::Answered(Answer { response: response.map(wrap), endpoint: position })
            }
            // hyper gives the request back only if not a byte of it was written.
            Ok(Err(mut error)) => match error.take_message() {
                Some(unsent) => Attempt::NotSent(unsent, cause(FailureKind::Closed, Some(error.into_error()))),
                None => {
                    let error = error.into_error();
                    Attempt::MaybeSent(cause(kind_of(&error), Some(error)))
                }
            },
            Err(_) => Attempt::MaybeSent(cause(FailureKind::Timeout, None)),
        }
    }
}

fn kind_of(error: &hyper::Error) -> FailureKind {
    if error.is_parse() {
        FailureKind::Protocol
    } else if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        FailureKind::Closed
    } else {
        FailureKind::Reset
    }
}
