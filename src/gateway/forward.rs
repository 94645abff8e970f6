//! Forwards a request and returns the response: adapts both heads, and records the endpoint and the time.

use std::io;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Uri};
use http::{Request, Response, Version, request, response};
use tokio::time::Instant;

use super::context::RequestContext;
use super::drain::DrainStage;
use super::error::GatewayError;
use super::headers::{REQUEST_ID, ask_for_known_codings, prepare_response, strip_hop_by_hop};
use super::proxy_chain::{FORWARDED_FOR, ProxyChain};
use super::read_whole::{Unread, read_whole};
use super::record::Recorder;
use super::response_body::ResponseBody;
use super::set_guid::{follow_renewal, issued_guid};
use crate::protocol::{Envelope, content};
use crate::upstream::{Client, Failure, RequestBody, Unsent, UpstreamBody, UpstreamResponse};

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The request for the upstream, with a head that is fit for it.
pub(super) fn prepare(context: &RequestContext, mut head: request::Parts, body: RequestBody) -> Unsent {
    prepare_request(&mut head, context);
    Unsent::new(Request::from_parts(head, body))
}

/// Forwards a request and returns the upstream's response with a head that is fit for the client.
pub(super) async fn forward(
    context: &RequestContext,
    record: &mut Recorder,
    client: &Client,
    unsent: &mut Unsent,
) -> Result<Response<UpstreamBody>, GatewayError> {
    let mut response = send(context, record, client, unsent).await?;
    prepare_response(&mut response);
    // Only the answer to a poll can show that the GUID of the poll is the agent's own, so that comes first there.
    if !context.classified.operation.is_long_poll() {
        let renewed = follow_renewal(context, issued_guid(response.headers()));
        // It ends nothing, so nothing is to be held back.
        let _ = context.services().ledger.share(renewed.as_slice()).await;
    }
    if let Some(origin) = &context.origin {
        context.services().origins.learn(origin, response.headers());
    }
    Ok(response)
}

/// Sends a prepared request, and records which endpoint answered and after how long.
pub(super) async fn send(
    context: &RequestContext,
    record: &mut Recorder,
    client: &Client,
    unsent: &mut Unsent,
) -> Result<Response<UpstreamBody>, GatewayError> {
    let key = client.upstream().routing_key(context.agent(), context.guid.as_ref());
    let sent = Instant::now();
    let answer = if context.classified.operation.is_long_poll() {
        client.send_patiently(unsent, key, sent, || context.services().drain.until(DrainStage::Draining)).await
    } else {
        client.send(unsent, client.upstream().route(key), sent).await
    };
    let took = sent.elapsed();
    record.waited(took);
    if let Err(Failure::MaybeSent(cause)) = &answer {
        record.upstream_unclear(&cause.endpoint);
    }
    let UpstreamResponse { response, endpoint } = answer?;
    if let Some(endpoint) = client.upstream().endpoints().get(endpoint) {
        record.upstream_answered(&endpoint.name, took);
    }
    Ok(response)
}

/// An upstream response after an attempt to read it whole.
pub(super) enum Buffered {
    /// Head and body.
    Whole(response::Parts, Bytes),
    /// The body is longer than the bound: its beginning, and the rest as it arrives.
    TooLarge(response::Parts, Bytes, UpstreamBody),
}

/// A response that is longer than the bound, passed on as it arrives.
pub(super) fn resumed(head: response::Parts, beginning: Bytes, body: UpstreamBody) -> Response<ResponseBody> {
    Response::from_parts(head, ResponseBody::Resumed(Some(beginning), body))
}

/// Reads a response whole if its body is not longer than `max` bytes.
pub(super) fn buffer(
    response: Response<UpstreamBody>,
    max: usize,
) -> impl Future<Output = Result<Buffered, GatewayError>> {
    // Head and body have one place in the future that way, instead of two.
    let (head, mut body) = response.into_parts();
    async move {
        match read_whole(&mut body, max).await {
            Ok(bytes) => Ok(Buffered::Whole(head, bytes)),
            Err(Unread::TooLarge(beginning)) => Ok(Buffered::TooLarge(head, beginning, body)),
            Err(Unread::Broken(error)) => Err(broken(&body, error)),
        }
    }
}

fn broken(body: &UpstreamBody, error: io::Error) -> GatewayError {
    Failure::MaybeSent(body.broken(error)).into()
}

/// The envelope in a whole response, its content coding and charset undone within `max` bytes.
pub(super) fn read_envelope(head: &response::Parts, body: &Bytes, max: usize) -> Envelope {
    content::decoded(&head.headers, body, max).map(|text| Envelope::read(&text)).unwrap_or_default()
}

/// Whether the client waits for `100 Continue`. hyper sends that as soon as the body of the request is read.
pub(super) fn expects_continue(head: &request::Parts) -> bool {
    head.headers.contains_key(header::EXPECT)
}

/// Makes a client's request head fit to be forwarded: origin form, end-to-end fields only. The upstream client sets
/// `Host`, hyper the framing.
pub(super) fn prepare_request(head: &mut request::Parts, context: &RequestContext) {
    if head.uri.authority().is_some() {
        head.uri = origin_form(&head.uri);
    }
    head.version = Version::HTTP_11;
    strip_hop_by_hop(&mut head.headers);
    // hyper answers it when the body is read.
    head.headers.remove(header::EXPECT);
    if context.generation.push.relay().is_some() {
        // The gateway must be able to search the response for push addresses.
        ask_for_known_codings(&mut head.headers);
    }
    head.headers.insert(REQUEST_ID, context.request_id());
    if context.config().upstream.forwarded_headers {
        add_forwarded(&mut head.headers, context);
    }
}

fn origin_form(uri: &Uri) -> Uri {
    let target = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    Uri::from(target)
}

/// Appends the peer to `X-Forwarded-For` and sets `X-Forwarded-Proto`. Earlier entries are the client's own claim: they
/// are passed on as they came, unless the operator names the proxies to trust.
fn add_forwarded(headers: &mut HeaderMap, context: &RequestContext) {
    let peer = context.connection.client.ip;
    let listener = &context.config().listener;
    if listener.trusted_proxies.is_some() {
        keep_believed(headers, ProxyChain::read(headers, peer, |ip| listener.trusts(ip)));
    }
    if headers.contains_key(FORWARDED_FOR) {
        let mut route = Vec::new();
        for earlier in headers.get_all(FORWARDED_FOR) {
            route.extend_from_slice(earlier.as_bytes());
            route.extend_from_slice(b", ");
        }
        route.extend_from_slice(context.connection.forwarded_for.as_bytes());
        if let Ok(route) = HeaderValue::from_bytes(&route) {
            headers.insert(FORWARDED_FOR, route);
        }
    } else {
        headers.insert(FORWARDED_FOR, context.connection.forwarded_for.clone());
    }
    // A trusted proxy that ends TLS knows the scheme that the client has used.
    let is_scheme = |value: &HeaderValue| value == "http" || value == "https";
    if listener.trusts(peer) && headers.get(FORWARDED_PROTO).is_some_and(is_scheme) {
        return;
    }
    let scheme = if context.connection.encrypted { "https" } else { "http" };
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
}

/// Removes the entries that no trusted proxy wrote.
fn keep_believed(headers: &mut HeaderMap, chain: ProxyChain) {
    for (name, believed) in [(FORWARDED_FOR, chain.forwarded_for), (header::FORWARDED, chain.forwarded)] {
        match believed {
            Some(believed) => drop(headers.insert(name, believed)),
            None => drop(headers.remove(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_sent_in_origin_form() {
        for (target, expected) in [("http://a:1/x?y=%2F", "/x?y=%2F"), ("/x", "/x"), ("https://a", "/")] {
            assert_eq!(origin_form(&target.parse().unwrap()).to_string(), expected);
        }
    }
}
