//! One worker's client of the upstream: it chooses an endpoint, sends once, and says how far a failed request got.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::Instant;

use super::connect::{Sender, connect};
use super::endpoint::Endpoint;
use super::failure::{Cause, Failure};
use super::health::{FailureMode, Health};
use super::pool::{Lease, Pool};
use super::request_body::{RequestBody, SendProgress, TrackedBody};
use super::response_body::UpstreamBody;
use super::route::Route;
use super::shared::Upstream;
use crate::failure::{FailureKind, is_local_exhaustion};
use crate::lazy_timer::LazyTimer;

/// Sends requests over connections of its own. Each worker has one.
pub struct Client {
    upstream: Arc<Upstream>,
    /// One pool for each endpoint, in the same order.
    pools: Vec<Arc<Pool>>,
}

/// A response of the upstream: its head has arrived.
#[derive(Debug)]
pub struct UpstreamResponse {
    /// The head, and the body on its way.
    pub response: Response<UpstreamBody>,
    /// Position of the endpoint that responded.
    pub endpoint: usize,
}

/// A request until an endpoint takes it. The futures on the way refer to it: each that held it itself would be larger by
/// its size.
pub struct Unsent {
    request: Option<Request<RequestBody>>,
    /// Whether the client sent a `Host`. Its value is not kept: it would keep the buffer that the head was read into, as
    /// long as a poll is held.
    has_host: bool,
}

/// The outcome of an attempt at one endpoint, or at each of a route.
pub(super) enum Outcome {
    Answered(UpstreamResponse),
    /// No endpoint received any byte. Only now [`Unsent`] has the request again.
    NotSent(Cause),
    MaybeSent(Cause),
}

impl Unsent {
    /// A request whose target is in origin form.
    pub fn new(request: Request<RequestBody>) -> Self {
        let has_host = request.headers().contains_key(header::HOST);
        Self { request: Some(request), has_host }
    }
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

    /// At `now`, sends a request to the first endpoint of `route` that takes it, and waits for the response head. The wait is at most
    /// `response_timeout` from when the upstream has the whole request. Dropping the future cancels the request and closes
    /// its connection.
    ///
    /// # Errors
    /// [`Failure::NotSent`] if no endpoint received any of it, [`Failure::MaybeSent`] otherwise.
    pub async fn send(&self, unsent: &mut Unsent, route: Route, now: Instant) -> Result<UpstreamResponse, Failure> {
        match self.attempt_route(unsent, route, now).await {
            Outcome::Answered(response) => Ok(response),
            Outcome::NotSent(cause) => Err(Failure::NotSent(cause)),
            Outcome::MaybeSent(cause) => Err(Failure::MaybeSent(cause)),
        }
    }

    /// Tries the endpoints of `route` until one takes the request. Without that, `unsent` still has it.
    pub(super) async fn attempt_route(&self, unsent: &mut Unsent, route: Route, mut now: Instant) -> Outcome {
        let mut last = None;
        for position in route.0 {
            match self.attempt(position, unsent, now).await {
                Outcome::NotSent(cause) => last = Some(cause),
                outcome => return outcome,
            }
            // A connection that could not be established may have taken long.
            now = Instant::now();
        }
        Outcome::NotSent(last.unwrap_or_else(no_endpoint))
    }

    /// Closes connections that have been idle for too long.
    pub fn expire_idle(&self) {
        self.pools.iter().for_each(|pool| pool.expire());
    }

    /// Closes idle connections at once, and every other one when its response is complete: no more requests follow.
    pub fn retire(&self) {
        self.pools.iter().for_each(|pool| pool.retire());
    }

    /// Tries one endpoint: over a pooled connection if a good one exists, else over a new one.
    async fn attempt(&self, position: usize, unsent: &mut Unsent, now: Instant) -> Outcome {
        let (Some(endpoint), Some(pool)) = (self.upstream.endpoints.get(position), self.pools.get(position)) else {
            return Outcome::NotSent(no_endpoint());
        };
        let keeps_host = unsent.has_host && self.upstream.settings.preserve_host;
        if let Some(request) = unsent.request.as_mut().filter(|_| !keeps_host) {
            request.headers_mut().insert(header::HOST, endpoint.authority.clone());
        }
        // A pooled connection that turns out to be closed gives the request back. The next one may be good.
        while let Some(sender) = pool.take(now) {
            match self.exchange(Place { position, endpoint, pool, kept: true }, sender, unsent, now).await {
                Outcome::NotSent(_) => {}
                done => return done,
            }
        }
        if endpoint.health() == Health::HalfOpen {
            endpoint.begin_trial();
        }
        // Boxed, because the state of a handshake would otherwise be part of every request's future, even of a held
        // poll.
        match Box::pin(connect(&self.upstream, endpoint)).await {
            Ok(sender) => {
                self.exchange(Place { position, endpoint, pool, kept: false }, sender, unsent, Instant::now()).await
            }
            Err(cause) => Outcome::NotSent(cause),
        }
    }

    /// Sends the request over one connection at `now`.
    async fn exchange(&self, place: Place<'_>, mut sender: Sender, unsent: &mut Unsent, now: Instant) -> Outcome {
        let settings = &self.upstream.settings;
        let Some(request) = unsent.request.take() else { return Outcome::NotSent(no_endpoint()) };
        let Sent { answer, progress, may_switch } = send_over(&mut sender, request);
        let (answer, patience) = (pin!(answer), Patience { since: now, span: settings.response_timeout });
        match answer_within(patience, &mut sender.timer, progress.as_deref(), answer).await {
            Some(Ok(response)) if response.status() == StatusCode::SWITCHING_PROTOCOLS && !may_switch => {
                Outcome::MaybeSent(place.broke_off(FailureKind::Protocol, None))
            }
            Some(Ok(response)) => {
                place.endpoint.answered();
                // After 101 the connection belongs to another protocol.
                let reusable = response.status() != StatusCode::SWITCHING_PROTOCOLS;
                let lease = Lease { sender, pool: Arc::clone(place.pool), reusable };
                let wrap = |incoming| UpstreamBody::new(incoming, lease, settings.body_idle_timeout, place.endpoint);
                Outcome::Answered(UpstreamResponse { response: response.map(wrap), endpoint: place.position })
            }
            // hyper gives the request back only if no byte of it was written.
            Some(Err(mut error)) => match error.take_message() {
                Some(given_back) => {
                    unsent.request = Some(given_back.map(TrackedBody::into_inner));
                    Outcome::NotSent(place.refused(error.into_error()))
                }
                None => {
                    let error = error.into_error();
                    Outcome::MaybeSent(place.broke_off(kind_of(&error), Some(error)))
                }
            },
            None => Outcome::MaybeSent(place.failed(FailureKind::Timeout, None)),
        }
    }
}

/// The endpoint and connection of one attempt.
#[derive(Clone, Copy)]
struct Place<'a> {
    position: usize,
    endpoint: &'a Endpoint,
    pool: &'a Arc<Pool>,
    /// The connection was used before: it may have ended in the normal way.
    kept: bool,
}

impl Place<'_> {
    /// The connection ended before it took the request.
    fn refused(self, error: hyper::Error) -> Cause {
        if self.kept {
            // Every pooled connection ends some day; that is no failure.
            return self.cause(FailureKind::Closed, Some(error));
        }
        self.failed(FailureKind::Closed, Some(error))
    }

    /// The connection broke before a response. Counted, but does not eject the endpoint: one crash-inducing request
    /// would otherwise move every agent off its node.
    fn broke_off(self, kind: FailureKind, error: Option<hyper::Error>) -> Cause {
        self.endpoint.metrics.failed(kind);
        self.cause(kind, error)
    }

    /// The endpoint did not respond in time.
    fn failed(self, kind: FailureKind, error: Option<hyper::Error>) -> Cause {
        let cause = self.broke_off(kind, error);
        self.endpoint.failed(FailureMode::Unresponsive, &cause);
        cause
    }

    fn cause(self, kind: FailureKind, error: Option<hyper::Error>) -> Cause {
        Cause { kind, endpoint: self.endpoint.name.clone(), source: error.map(Into::into) }
    }
}

fn no_endpoint() -> Cause {
    Cause { kind: FailureKind::Resolve, endpoint: "no endpoint".into(), source: None }
}

/// A request that a connection has taken.
struct Sent<F> {
    answer: F,
    progress: Option<Arc<SendProgress>>,
    /// Whether the response may be a switch of protocols.
    may_switch: bool,
}

/// Hands a request to a connection. This is no part of [`Client::exchange`], so that its future has no place for the
/// request.
fn send_over(sender: &mut Sender, request: Request<RequestBody>) -> Sent<impl Future<Output = Answer> + use<>> {
    // Only WebSocket handshakes that are allowed still have this header.
    let may_switch = request.headers().contains_key(header::UPGRADE);
    let request = request.map(TrackedBody::new);
    let progress = request.body().progress();
    Sent { answer: sender.http.try_send_request(request), progress, may_switch }
}

/// What hyper says about a request in the end.
type Answer = Result<Response<Incoming>, TrySendError<Request<TrackedBody>>>;

/// The time for a response.
struct Patience {
    since: Instant,
    span: Duration,
}

/// Waits for a response until the upstream has the whole request, and for the time of `patience` after that.
async fn answer_within<T>(
    patience: Patience,
    timer: &mut LazyTimer,
    body: Option<&SendProgress>,
    mut answer: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    let mut deadline = patience.since + patience.span;
    poll_fn(|cx| {
        if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
            return Poll::Ready(Some(answer));
        }
        while timer.is_overdue(deadline, cx) {
            let later = body.map(|body| body.deadline(patience.span));
            match later.filter(|later| *later > Instant::now()) {
                Some(later) => deadline = later,
                None => return Poll::Ready(None),
            }
        }
        Poll::Pending
    })
    .await
}

fn kind_of(error: &hyper::Error) -> FailureKind {
    let system = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    if system.is_some_and(is_local_exhaustion) {
        FailureKind::LocalResources
    } else if error.is_user() {
        // Only the request body can cause this: the client or its connection failed.
        FailureKind::Aborted
    } else if error.is_parse() {
        FailureKind::Protocol
    } else if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        FailureKind::Closed
    } else {
        FailureKind::Reset
    }
}
