//! The life of a request, from its head to its response. Every step is on this page, in order.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use http::{Request, Response};
use hyper::body::Incoming;
use tower::Service;

use super::admission;
use super::client_body::ClientRequest;
use super::context::RequestContext;
use super::error::GatewayError;
use super::finish_on_drop::FinishOnDrop;
use super::forward::expects_continue;
use super::operations::websocket::Tunnel;
use super::operations::{callout, events, passthrough, push, session, websocket};
use super::policy;
use super::push_quote::screened;
use super::record::Recorder;
use super::respond::{RecordedBody, error_response};
use super::response_body::ResponseBody;
use super::services::Generation;
use crate::downstream::Connection;
use crate::protocol::{Guard, Operation};
use crate::upstream::Client;

/// The data path for one client connection under one configuration.
#[derive(Clone)]
pub struct RequestService {
    generation: Arc<Generation>,
    client: Arc<Client>,
    connection: Arc<Connection>,
}

impl RequestService {
    /// Handles the requests of `connection` by `generation`, over the upstream connections of `client`.
    pub fn new(generation: &Arc<Generation>, client: &Arc<Client>, connection: &Arc<Connection>) -> Self {
        Self { generation: Arc::clone(generation), client: Arc::clone(client), connection: Arc::clone(connection) }
    }
}

impl Service<Request<Incoming>> for RequestService {
    type Response = Response<RecordedBody>;
    type Error = Infallible;
    type Future = FinishOnDrop<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Always ready: a request beyond the limits gets an answer instead of waiting.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let context = Arc::new(RequestContext::new(&self.generation, &self.connection, &request));
        let mut request = ClientRequest::new(request, &context);
        let client = Arc::clone(&self.client);
        let owner = Arc::clone(&context);
        // The outermost future owns everything: those within it refer to it, and so are small.
        FinishOnDrop::new(owner, async move { handle(&context, &client, &mut request).await })
    }
}

/// What a request leads to.
enum Routed {
    Response(Response<ResponseBody>),
    /// The connection leaves HTTP.
    Tunnel(Response<ResponseBody>, Tunnel),
}

/// The outer part. Every outcome of the inner part is answered, timed, counted and logged exactly once.
async fn handle(
    context: &Arc<RequestContext>,
    client: &Client,
    request: &mut ClientRequest,
) -> Result<Response<RecordedBody>, Infallible> {
    let mut record = Box::new(Recorder::start(context));
    // A panic must not close the connection without an answer, and its request must appear in the log.
    let routed = AssertUnwindSafe(route(context, &mut record, client, request)).catch_unwind().await;
    let (response, tunnel) = match routed.unwrap_or(Err(GatewayError::Internal)) {
        Ok(Routed::Response(response)) => (response, None),
        Ok(Routed::Tunnel(response, tunnel)) => (response, Some(tunnel)),
        Err(error) => (error_response(context, &mut record, &error), None),
    };
    // Before the first byte goes out: a client that has its response finds its decision in the log.
    record.respond(response.status());
    Ok(match tunnel {
        None => RecordedBody::of(context, response, Some(record)),
        Some(tunnel) => {
            tunnel.spawn(record);
            RecordedBody::of(context, response, None)
        }
    })
}

/// The inner part: one step after the other, and the first error ends it.
async fn route(
    context: &Arc<RequestContext>,
    record: &mut Recorder,
    client: &Client,
    request: &mut ClientRequest,
) -> Result<Routed, GatewayError> {
    // First, because a head that can be read in two ways must not reach any step that reads it.
    if let Err(error) = check_head(context, record) {
        return refuse(context, request, error).await;
    }
    if let Some(wait) = admission::wait_of_poll(context) {
        record.waited(wait);
        // Boxed: few requests need a timer.
        Box::pin(tokio::time::sleep(wait)).await;
    }
    // After classification, because shedding must know a held poll from a callout. Before any body is read or any
    // connection is opened, so that a refusal costs nothing.
    record.hold(admission::enter(context)?);
    let response = match context.classified.operation {
        // Boxed: a held poll must not be as large as a callout or a handshake.
        Operation::PreviewCallout { agent } => Box::pin(callout::handle(context, record, client, request, agent)).await,
        Operation::PollEvents { .. } | Operation::PollAllEvents => events::poll(context, record, client, request).await,
        Operation::CancelPreviewCallout { agent } => {
            Box::pin(session::cancel(context, record, client, request, agent)).await
        }
        Operation::SignIn { agent, .. } => {
            Box::pin(session::sign_in(context, record, client, request, Some(agent))).await
        }
        Operation::SignInByAccount => Box::pin(session::sign_in(context, record, client, request, None)).await,
        Operation::SignOut { agent, .. } => Box::pin(session::sign_out(context, record, client, request, agent)).await,
        Operation::Push { .. } => Box::pin(push::relay(context, record, request)).await,
        Operation::CalloutPreflight | Operation::Other { .. } | Operation::Unroutable => match context.classified.guard
        {
            // Reached in monitor mode only.
            Guard::SuspectedCallout | Guard::Callout(_) => {
                Box::pin(callout::forward_unverified(context, record, client, request)).await
            }
            // Reached only if `validation.allow_websocket` is set.
            Guard::Unguarded if websocket::is_handshake(context) => {
                let (response, tunnel) = Box::pin(websocket::open(context, record, client, request)).await?;
                return Ok(match tunnel {
                    Some(tunnel) => Routed::Tunnel(response, tunnel),
                    None => Routed::Response(response),
                });
            }
            Guard::Unguarded => passthrough::forward_streamed(context, record, client, request).await,
        },
    };
    // Last, because the effects of the response count even if the client must not see it.
    match context.generation.push.relay() {
        None => response.map(Routed::Response),
        Some(_) => Box::pin(screened(response?)).await.map(Routed::Response),
    }
}

/// Whether the head may go further. In monitor mode an objection of callout validation becomes the verdict.
fn check_head(context: &RequestContext, record: &mut Recorder) -> Result<(), GatewayError> {
    if let Some(fault) = context.head_fault {
        context.services().metrics.requests.head_fault();
        context.services().metrics.client_connections.head_refused(fault);
        return Err(GatewayError::Head(fault));
    }
    if let Some(decision) = policy::admit(&context.classified, &context.config().validation)? {
        record.decide(decision);
    }
    Ok(())
}

/// Reads the body of a refused request, so that the connection can be used again.
async fn refuse(
    context: &RequestContext,
    request: &mut ClientRequest,
    error: GatewayError,
) -> Result<Routed, GatewayError> {
    let (head, body) = request.take()?.into_parts();
    if !expects_continue(&head) {
        // For a larger body it is cheaper to close the connection. hyper does so when the body is dropped unread.
        let limits = context.limits();
        let _ = Box::pin(body.read(limits.callout_body, limits)).await;
    }
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, F: Future>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// Thousands of polls are held at the same time, each by one of these.
    #[test]
    fn the_future_of_a_request_is_small() {
        let bytes = size_of_future(handle) + size_of::<ClientRequest>();

        assert!(bytes <= 2816, "{bytes}");
    }
}
