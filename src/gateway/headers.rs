//! Header fields that belong to one connection only, and those that a proxy adds (RFC 9110 7.6).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request;
use http::{Response, Version};

/// The request ID: the client's if it is plain, otherwise a new one. The upstream gets it, and each response that the
/// gateway makes itself.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Why a callout was refused.
pub(super) const REASON: HeaderName = HeaderName::from_static("x-previewgate-reason");
/// The agent's credential (docs/protocol.md 2).
pub(super) const GUID: HeaderName = HeaderName::from_static("guid");

/// Declares the length of a body that replaces the client's.
pub(super) fn replace_length(head: &mut request::Parts, body: &[u8]) {
    head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
}

/// Makes the upstream's response head fit for the client.
pub(super) fn prepare_response<B>(response: &mut Response<B>) {
    *response.version_mut() = Version::HTTP_11;
    strip_hop_by_hop(response.headers_mut());
}

/// For event polls: makes sure that the gateway can read the response as the client does. Removes ranges, conditions, and
/// codings that the gateway does not know.
pub(super) fn ask_for_readable(headers: &mut HeaderMap) {
    for name in [header::RANGE, header::IF_RANGE, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::IF_MATCH] {
        headers.remove(name);
    }
    ask_for_known_codings(headers);
}

/// Makes sure that the gateway can undo the content coding of the response.
pub(super) fn ask_for_known_codings(headers: &mut HeaderMap) {
    let accepted = headers.get_all(header::ACCEPT_ENCODING);
    let asks_for = |coding: &str| {
        let mut values = accepted.iter().filter_map(|value| value.to_str().ok());
        values.any(|value| value.split(',').any(|item| token(item).eq_ignore_ascii_case(coding)))
    };
    let known = |item: &str| {
        let coding = token(item);
        ["", "gzip", "deflate", "identity"].iter().any(|known| coding.eq_ignore_ascii_case(known))
    };
    let readable = accepted.iter().all(|value| value.to_str().is_ok_and(|value| value.split(',').all(known)));
    // The entry is not touched without need: to ask for the entry of a field that is absent enlarges the map.
    if !readable {
        let narrowed = if asks_for("gzip") { "gzip" } else { "identity" };
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(narrowed));
    }
}

/// The item of a list without its parameters: `gzip` of `gzip;q=0.5`.
fn token(item: &str) -> &str {
    item.split(';').next().unwrap_or_default().trim()
}

/// Fields that `Connection` cannot remove: what the gateway has evaluated must reach the upstream, and what the upstream
/// says must reach the client. RFC 9110 7.6.1 forbids senders to name fields for all recipients there.
const END_TO_END: [HeaderName; 9] = [
    GUID,
    HeaderName::from_static("set-guid"),
    HeaderName::from_static("service_token"),
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::COOKIE,
    header::SET_COOKIE,
    header::HOST,
];

/// Removes the fields that belong to one connection only.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let fields: Vec<HeaderValue> = headers.get_all(header::CONNECTION).iter().cloned().collect();
        let named = fields.iter().filter_map(|field| field.to_str().ok()).flat_map(|field| field.split(','));
        // Compares the text, because a field may have thousands of names, and each `HeaderName` is an allocation.
        for name in named.map(str::trim).filter(|name| !name.is_empty()) {
            if !END_TO_END.iter().any(|kept| kept.as_str().eq_ignore_ascii_case(name)) {
                headers.remove(name);
            }
        }
    }
    // Hardly any head has one of the others. To compare names costs less than to look each of them up.
    while let Some(name) = headers.keys().find(|name| is_hop_by_hop(name)).cloned() {
        headers.remove(name);
    }
}

/// Whether a field is one of those that are hop-by-hop although `Connection` does not name them.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
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
            ("connection", "keep-alive, X-Mine, Guid, content-type"),
            ("connection", "close"),
            ("keep-alive", "timeout=5"),
            ("x-mine", "1"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("transfer-encoding", "chunked"),
            ("guid", "g"),
            ("content-type", "application/json"),
            ("cookie", "a=b"),
        ]);
        strip_hop_by_hop(&mut map);
        assert_eq!(map, headers(&[("guid", "g"), ("content-type", "application/json"), ("cookie", "a=b")]));
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
}
