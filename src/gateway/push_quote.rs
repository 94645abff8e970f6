//! Keeps the gateway's push addresses from clients. A client that has one can show an agent false previews.
//!
//! The platform gets such an address in a sign-in and may repeat it in an answer. The secret is its last part, the
//! signature. So a response is withheld, or cut before the bytes that complete the beginning of an address. Its content
//! coding is undone to look inside.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Response, StatusCode, request};
use http_body::{Body, Frame};
use hyper::ext::ReasonPhrase;

use super::error::GatewayError;
use super::response_body::ResponseBody;
use crate::protocol::content::Coding;
use crate::protocol::{AddressMatcher, ContentStream};

/// Whether a text contains the beginning of a push address.
pub(super) fn quotes_push_address(text: &[u8]) -> bool {
    AddressMatcher::default().feed(text)
}

/// Removes header fields that contain the beginning of a push address. A proxy in front of the gateway may have written the
/// requested address there.
pub(super) fn remove_quoting_fields(head: &mut request::Parts) {
    let quoting: Vec<_> = head.headers.keys().filter(|name| !is_clean(&head.headers, name)).cloned().collect();
    for name in quoting {
        head.headers.remove(name);
    }
}

fn is_clean(headers: &HeaderMap, name: &header::HeaderName) -> bool {
    let mut values = headers.get_all(name).iter();
    !quotes_push_address(name.as_str().as_bytes()) && !values.any(|value| quotes_push_address(value.as_bytes()))
}

/// The response, if neither its head nor what is known of its body holds a push address. The rest of a body is for
/// [`QuoteGuard`].
pub(super) async fn screened(response: Response<ResponseBody>) -> Result<Response<ResponseBody>, GatewayError> {
    let (head, body) = response.into_parts();
    let phrase = head.extensions.get::<ReasonPhrase>();
    if phrase.is_some_and(|phrase| quotes_push_address(phrase.as_bytes()))
        || head.headers.keys().any(|name| !is_clean(&head.headers, name))
    {
        return Err(GatewayError::PushAddressQuoted);
    }
    if body.is_end_stream() {
        return Ok(Response::from_parts(head, body));
    }
    let is_part = head.status == StatusCode::PARTIAL_CONTENT && may_be_text(&head.headers);
    if is_part || compression(&head.headers) == Compression::Unreadable {
        return Err(GatewayError::UnreadableAnswer);
    }
    let (polled, body) = peek(body).await;
    if let Some(Ok(frame)) = &polled
        && !QuoteGuard::new(&head.headers).allows_frame(frame)
    {
        return Err(GatewayError::PushAddressQuoted);
    }
    let body = if polled.is_some() { ResponseBody::Peeked(polled, Box::new(body)) } else { body };
    Ok(Response::from_parts(head, body))
}

/// The first frame of a body if it is there already, and the rest. Does not wait. Most short answers arrive in one piece, so
/// that they can be withheld as a whole.
async fn peek(mut body: ResponseBody) -> (Option<Result<Frame<Bytes>, io::Error>>, ResponseBody) {
    match poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx))).await {
        Poll::Pending => (None, body),
        Poll::Ready(None) => (None, ResponseBody::Whole(Bytes::new())),
        Poll::Ready(polled) => (polled, body),
    }
}

/// Whether a part of a body, which may begin within an address, can be part of a text.
fn may_be_text(headers: &HeaderMap) -> bool {
    const OTHERS: [&str; 5] = ["audio/", "video/", "image/", "font/", "application/octet-stream"];
    let declared = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let declared = declared.trim().to_ascii_lowercase();
    !OTHERS.iter().any(|other| declared.starts_with(other)) || declared.contains("xml")
}

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    /// Not at all, or in a way that can be undone.
    Known(Coding),
    /// In another way, or more than once.
    Unreadable,
}

/// The content codings that the gateway does not know and that it does not let clients ask for. Other unknown words, such as
/// `utf-8`, are mistakes of the sender and not codings.
const UNREADABLE: [&str; 8] = ["br", "zstd", "compress", "x-compress", "dcb", "dcz", "exi", "pack200-gzip"];

fn compression(headers: &HeaderMap) -> Compression {
    let fields = headers.get_all(header::CONTENT_ENCODING).iter();
    let tokens = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b','));
    let mut found = Compression::Known(Coding::Identity);
    for token in tokens {
        let token = token.trim_ascii().to_ascii_lowercase();
        let coding = match token.as_slice() {
            b"gzip" | b"x-gzip" => Coding::Gzip,
            b"deflate" => Coding::Deflate,
            other if UNREADABLE.iter().any(|known| known.as_bytes() == other) => return Compression::Unreadable,
            _ => continue,
        };
        if found != Compression::Known(Coding::Identity) {
            return Compression::Unreadable;
        }
        found = Compression::Known(coding);
    }
    found
}

/// Looks for push addresses in a body that passes in pieces: in its bytes, and in the decompressed bytes.
pub(super) struct QuoteGuard {
    plain: AddressMatcher,
    decompressed: Option<ContentStream<AddressMatcher>>,
}

impl QuoteGuard {
    /// For a body with these header fields.
    pub(super) fn new(headers: &HeaderMap) -> Self {
        let decompressed = match compression(headers) {
            Compression::Known(Coding::Identity) | Compression::Unreadable => None,
            Compression::Known(coding) => Some(ContentStream::new(coding, AddressMatcher::default())),
        };
        Self { plain: AddressMatcher::default(), decompressed }
    }

    /// Whether `piece` may pass.
    pub(super) fn allows(&mut self, piece: &[u8]) -> bool {
        let quotes = self.plain.feed(piece);
        let Some(decompressed) = &mut self.decompressed else { return !quotes };
        decompressed.feed(piece);
        !quotes && !decompressed.writer().is_some_and(AddressMatcher::has_found)
    }

    /// Whether `frame` may pass.
    pub(super) fn allows_frame(&mut self, frame: &Frame<Bytes>) -> bool {
        match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => self.allows(data),
            (None, Some(trailers)) => trailers.keys().all(|name| is_clean(trailers, name)),
            (None, None) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression as Level;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use http::HeaderValue;
    use http::header::HeaderName;
    use std::io::Write;

    const QUOTE: &[u8] = br#"{"pushUrl":"https:\/\/gate\/previewgate\/push\/push_url\/101\/1.x.y"}"#;

    fn coded(coding: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static(coding))])
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(vec![], Level::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    /// The bytes that pass, cut into pieces of this length.
    fn passing(headers: &HeaderMap, body: &[u8], piece: usize) -> Vec<u8> {
        let mut guard = QuoteGuard::new(headers);
        body.chunks(piece).take_while(|piece| guard.allows(piece)).flatten().copied().collect()
    }

    #[test]
    fn the_piece_that_completes_the_beginning_of_a_compressed_address_does_not_pass() {
        let text = [&b"some text ".repeat(50)[..], QUOTE, &b" some other text".repeat(50)].concat();
        let (mut zlib, mut raw) =
            (ZlibEncoder::new(vec![], Level::default()), DeflateEncoder::new(vec![], Level::default()));
        zlib.write_all(&text).unwrap();
        raw.write_all(&text).unwrap();
        let two_members = [gzip(&text[..520]), gzip(&text[520..])].concat();
        for (coding, body) in [
            ("gzip", gzip(&text)),
            ("GZIP ", two_members),
            ("x-gzip, identity", gzip(&text)),
            ("deflate", zlib.finish().unwrap()),
            ("deflate", raw.finish().unwrap()),
            ("utf-8", text.clone()),
        ] {
            for piece in [1, 7, 100, 10_000] {
                let passed = passing(&coded(coding), &body, piece);
                assert!(passed.len() < body.len(), "{coding} {piece}");
                let mut rest = ContentStream::new(known(coding), AddressMatcher::default());
                rest.feed(&passed);
                assert!(!rest.writer().is_some_and(AddressMatcher::has_found), "{coding} {piece}");
            }
        }
        assert_eq!(passing(&coded("gzip"), &gzip(&b"text ".repeat(99)), 9), gzip(&b"text ".repeat(99)));
        // A body that cannot be decompressed passes, because no reader finds an address in it.
        assert_eq!(passing(&coded("gzip"), b"no gzip", 3), b"no gzip");
    }

    fn known(coding: &'static str) -> Coding {
        match compression(&coded(coding)) {
            Compression::Known(coding) => coding,
            Compression::Unreadable => panic!("{coding}"),
        }
    }

    #[test]
    fn unknown_and_repeated_codings_are_unreadable() {
        for coding in ["br", "zstd", "gzip, gzip", "deflate, gzip", "identity, br", "COMPRESS"] {
            assert_eq!(compression(&coded(coding)), Compression::Unreadable, "{coding}");
        }
        let mut twice = coded("gzip");
        twice.append(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert_eq!(compression(&twice), Compression::Unreadable);
    }

    #[test]
    fn a_part_of_a_body_is_taken_for_text_unless_its_type_excludes_it() {
        for (content_type, expected) in [
            ("application/json", true),
            ("text/plain", true),
            ("multipart/byteranges; boundary=x", true),
            ("image/svg+xml", true),
            ("", true),
            ("audio/wav", false),
            ("application/octet-stream", false),
        ] {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
            assert_eq!(may_be_text(&headers), expected, "{content_type}");
        }
    }

    #[test]
    fn trailers_and_header_fields_are_searched_too() {
        let fields =
            |value| HeaderMap::from_iter([(HeaderName::from_static("x-note"), HeaderValue::from_static(value))]);
        let mut guard = QuoteGuard::new(&HeaderMap::new());
        assert!(guard.allows_frame(&Frame::trailers(fields("/previewgate/"))));
        assert!(!guard.allows_frame(&Frame::trailers(fields("/previewgate/push/push"))));
        let (mut head, ()) = http::Request::new(()).into_parts();
        head.headers = fields("https%3A%2F%2Fgate%2Fpreviewgate%2Fpush%2F");
        head.headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        remove_quoting_fields(&mut head);
        assert_eq!(head.headers.len(), 1);
    }
}
