//! Header fields that belong to one connection only, and those that a proxy adds (RFC 9110 7.6).

use http::header::{self, Entry, HeaderMap, HeaderName, HeaderValue};
use http::request;
use http::uri::{PathAndQuery, Uri};
use http::{Version, response};

use super::exchange::Exchange;

/// The request ID: taken over when sane, else made; told to the upstream and in the gateway's own answers.
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

/// Method override headers: an upstream that honours one would do something else than what was judged.
pub(super) const METHOD_OVERRIDES: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
];

/// Path override headers, honoured by some frameworks in the way of the method overrides.
pub(super) const PATH_OVERRIDES: [HeaderName; 2] =
    [HeaderName::from_static("x-original-url"), HeaderName::from_static("x-rewrite-url")];

/// Makes a client's request head fit to be sent on: origin form, end-to-end fields only. `Host` is the upstream
/// client's business, framing is hyper's.
pub(super) fn prepare_request(head: &mut request::Parts, exchange: &Exchange) {
    head.uri = origin_form(&head.uri);
    head.version = Version::HTTP_11;
    strip_hop_by_hop(&mut head.headers);
    // hyper has answered it, or will when the body is asked for.
    head.headers.remove(header::EXPECT);
    head.headers.insert(REQUEST_ID, exchange.request_id.clone());
    if exchange.gateway.config.upstream.forwarded_headers {
        add_forwarded(&mut head.headers, exchange);
    }
}

/// Makes the upstream's answer head fit for the client.
pub(super) fn prepare_response(head: &mut response::Parts) {
    head.version = Version::HTTP_11;
    strip_hop_by_hop(&mut head.headers);
}

/// For event polls: the answer must be one that the gateway can read as the client would. No ranges, no conditions,
/// no coding that is not understood here. A client that asks for none of these notices nothing.
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

/// Appends the client to `X-Forwarded-For` and says how it spoke to us. What stood there before is the client's word.
fn add_forwarded(headers: &mut HeaderMap, exchange: &Exchange) {
    let mut route = Vec::new();
    for earlier in headers.get_all(FORWARDED_FOR) {
        route.extend_from_slice(earlier.as_bytes());
        route.extend_from_slice(b", ");
    }
    route.extend_from_slice(exchange.connection.client.address.ip().to_canonical().to_string().as_bytes());
    if let Ok(route) = HeaderValue::from_bytes(&route) {
        headers.insert(FORWARDED_FOR, route);
    }
    let scheme = if exchange.connection.encrypted { "https" } else { "http" };
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
