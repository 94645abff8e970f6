//! The event parser, behind content codings and charsets: anything is read or refused.
#![no_main]

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use previewgate::protocol::{content, parse_events};

const CODINGS: [&str; 4] = ["identity", "gzip", "deflate", "br"];
const CHARSETS: [&str; 4] =
    ["application/json", "text/plain;charset=GBK", "application/json;charset=utf-16le", ";charset="];

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (coding, charset, body) = input;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(CODINGS[usize::from(coding) % 4]));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(CHARSETS[usize::from(charset) % 4]));
    if let Ok(text) = content::decoded(&headers, body, 64 * 1024) {
        let _ = parse_events(&text);
    }
    let _ = parse_events(body);
});
