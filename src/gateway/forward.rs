//! To the upstream and back: the heads made fit, the endpoint and the time recorded.

use std::io;

use bytes::Bytes;
use http::{Request, Response, header, request, response};
use tokio::time::Instant;

use super::body::{ResponseBody, Unread, read_whole};
use super::context::RequestContext;
use super::error::GatewayError;
use super::headers::{GUID, prepare_request, prepare_response};
use super::record::Recorder;
use crate::protocol::{Envelope, content};
use crate::upstream::{Client, Failure, RequestBody, RoutingKey, UpstreamBody, UpstreamResponse};

/// Forwards a request and returns the upstream's response, its head made fit for the client.
pub(super) async fn forward(
    context: &RequestContext,
    record: &mut Recorder,
    client: &Client,
    mut head: request::Parts,
    body: RequestBody,
) -> Result<Response<UpstreamBody>, GatewayError> {
    prepare_request(&mut head, context);
    let mut response = send(context, record, client, Request::from_parts(head, body)).await?;
    prepare_response(&mut response);
    if let Some(origin) = &context.origin {
        context.services().origins.learn(origin, response.headers());
    }
    Ok(response)
}

/// Sends a prepared request, and records who answered and when.
pub(super) async fn send(
    context: &RequestContext,
    record: &mut Recorder,
    client: &Client,
    request: Request<RequestBody>,
) -> Result<Response<UpstreamBody>, GatewayError> {
    let route = client.upstream().route(RoutingKey::new(context.agent(), request.headers().get(GUID)));
    let sent = Instant::now();
    let answer = client.send(request, route).await;
    if let Err(Failure::MaybeSent(cause)) = &answer {
        record.upstream_unclear(&cause.endpoint);
    }
    let UpstreamResponse { response, endpoint } = answer?;
    if let Some(endpoint) = client.upstream().endpoints().get(endpoint) {
        record.upstream_answered(&endpoint.name, sent.elapsed());
    }
    Ok(response)
}

/// An upstream response after an attempt to read it whole.
pub(super) enum Buffered {
    /// Head and body.
    Whole(response::Parts, Bytes),
    /// The body is longer than the bound: it passes as it arrives.
    TooLarge(Response<ResponseBody>),
}

/// Reads a response whole if its body is not longer than `max` bytes.
pub(super) async fn buffer(response: Response<UpstreamBody>, max: usize) -> Result<Buffered, GatewayError> {
    let (head, mut body) = response.into_parts();
    match read_whole(&mut body, max).await {
        Ok(bytes) => Ok(Buffered::Whole(head, bytes)),
        Err(Unread::TooLarge(beginning)) => {
            Ok(Buffered::TooLarge(Response::from_parts(head, ResponseBody::Resumed(Some(beginning), body))))
        }
        Err(Unread::Broken(error)) => Err(broken(&body, error)),
    }
}

fn broken(body: &UpstreamBody, error: io::Error) -> GatewayError {
    Failure::MaybeSent(body.broken(error)).into()
}

/// The envelope in a whole response, its content coding and charset undone within `max` bytes.
pub(super) fn read_envelope(head: &response::Parts, body: &Bytes, max: usize) -> Envelope {
    content::decoded(&head.headers, body, max).map(|text| Envelope::read(&text)).unwrap_or_default()
}

/// Whether a client waits for `100 Continue`: reading the body of its request would invite it.
pub(super) fn expects_continue(head: &request::Parts) -> bool {
    head.headers.contains_key(header::EXPECT)
}
