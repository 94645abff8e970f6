//! Header fields that belong to one connection only, and those that a proxy adds (RFC 9110 7.6).

use http::header::{self, Entry, HeaderMap, HeaderName, HeaderValue};
use http::request;
use http::uri::{PathAndQuery, Uri};
use http::{Response, Version};

use super::context::RequestContext;

/// The request ID: the client's if it is plain, otherwise a new one. The upstream gets it, and each response that the
/// gateway makes itself.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Why a callout was refused.
pub(super) const REASON: HeaderName = HeaderName::from_static("x-previewgate-reason");
/// The agent's credential (protocol.md 2).
pub(super) const GUID: HeaderName = HeaderName::from_static("guid");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Hop-by-hop fields, besides those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Makes a client's request head fit to be forwarded: origin form, end-to-end fields only. The upstream client sets
/// `Host`, hyper the framing.
pub(super) fn prepare_request(head: &mut request::Parts, context: &RequestContext) {
    head.uri = origin_form(&head.uri);
    head.version = Version::HTTP_11;
    strip_hop_by_hop(&mut head.headers);
    // hyper answers it when the body is read.
    head.headers.remove(header::EXPECT);
    head.headers.insert(REQUEST_ID, context.request_id.clone());
    if context.config().upstream.forwarded_headers {
        add_forwarded(&mut head.headers, context);
    }
}

/// Declares the length of a body that replaces the client's.
pub(super) fn replace_length(head: &mut request::Parts, body: &[u8]) {
    head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
}

/// Makes the upstream's response head fit for the client.
pub(super) fn prepare_response<B>(response: &mut Response<B>) {
    *response.version_mut() = Version::HTTP_11;
    strip_hop_by_hop(response.headers_mut());
}

/// For event polls: makes sure that the gateway can read the response as the client does. No ranges, no conditions, no
/// coding that the gateway does not know. A client that asks for none of these notices nothing.
pub(super) fn ask_for_readable(headers: &mut HeaderMap) {
    for name in [header::RANGE, header::IF_RANGE, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::IF_MATCH] {
        headers.remove(name);
    }
    if let Entry::Occupied(mut accepted) = headers.entry(header::ACCEPT_ENCODING) {
        let asks_for = |coding: &str| {
            let mut values = accepted.iter().filter_map(|value| value.to_str().ok());
            values.any(|value| value.split(',').any(|item| token(item).eq_ignore_ascii_case(coding)))
        };
        let known =
            |item: &str| ["gzip", "deflate", "identity", ""].iter().any(|c| token(item).eq_ignore_ascii_case(c));
        let readable = accepted.iter().all(|value| value.to_str().is_ok_and(|value| value.split(',').all(known)));
        if !readable {
            let narrowed = if asks_for("gzip") { "gzip" } else { "identity" };
            accepted.insert(HeaderValue::from_static(narrowed));
        }
    }
}

/// The item of a list without its parameters: `gzip` of `gzip;q=0.5`.
fn token(item: &str) -> &str {
    item.split(';').next().unwrap_or_default().trim()
}

fn origin_form(uri: &Uri) -> Uri {
    let target = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    Uri::from(target)
}

pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| HeaderName::try_from(name.trim()).ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Appends the client to `X-Forwarded-For` and sets `X-Forwarded-Proto`. Earlier entries are the client's own claim.
fn add_forwarded(headers: &mut HeaderMap, context: &RequestContext) {
    let mut route = Vec::new();
    for earlier in headers.get_all(FORWARDED_FOR) {
        route.extend_from_slice(earlier.as_bytes());
        route.extend_from_slice(b", ");
    }
    route.extend_from_slice(context.connection.client.address.ip().to_canonical().to_string().as_bytes());
    if let Ok(route) = HeaderValue::from_bytes(&route) {
        headers.insert(FORWARDED_FOR, route);
    }
    let scheme = if context.connection.encrypted { "https" } else { "http" };
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        fields.iter().map(field).collect()
    }

    #[test]
    fn hop_by_hop_fields_stay_behind() {
        let mut map = headers(&[
            ("connection", "keep-alive, X-Mine"),
            ("connection", "close"),
            ("keep-alive", "timeout=5"),
            ("x-mine", "1"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("transfer-encoding", "chunked"),
            ("guid", "g"),
            ("cookie", "a=b"),
        ]);
        strip_hop_by_hop(&mut map);
        assert_eq!(map, headers(&[("guid", "g"), ("cookie", "a=b")]));
    }

    #[test]
    fn polls_ask_only_for_what_can_be_read() {
        for (asked, expected) in [
            ("gzip, deflate", "gzip, deflate"),
            ("identity", "identity"),
            ("gzip;q=0.5", "gzip;q=0.5"),
            ("gzip, deflate, br, zstd", "gzip"),
            ("br", "identity"),
            ("*", "identity"),
        ] {
            let mut map = headers(&[("accept-encoding", asked), ("range", "bytes=0-1"), ("if-none-match", "*")]);
            ask_for_readable(&mut map);
            assert_eq!(map, headers(&[("accept-encoding", expected)]), "{asked}");
        }
    }

    #[test]
    fn targets_are_sent_in_origin_form() {
        for (target, expected) in [("http://a:1/x?y=%2F", "/x?y=%2F"), ("/x", "/x"), ("https://a", "/")] {
            assert_eq!(origin_form(&target.parse().unwrap()).to_string(), expected);
        }
    }
}
