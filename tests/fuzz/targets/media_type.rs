//! Content types: where one is accepted, each reader who searches for a charset finds UTF-8 or none.
#![no_main]

use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use previewgate::protocol::media_type;

fuzz_target!(|value: &[u8]| {
    let Ok(field) = HeaderValue::from_bytes(value) else { return };
    let headers: HeaderMap = [(CONTENT_TYPE, field)].into_iter().collect();
    if !media_type::declares_json(&headers) {
        return;
    }
    assert!(!media_type::may_declare_another_charset(&headers));
    let lower = String::from_utf8(value.to_ascii_lowercase()).expect("accepted, but not text");
    let mut found = lower.split("charset").skip(1);
    if let Some(behind) = found.next() {
        let behind = behind.trim_start().strip_prefix('=').expect("no parameter").trim_start();
        let charset = behind.split(';').next().unwrap_or_default().trim().trim_matches(['"', '\'']);
        assert!(matches!(charset, "utf-8" | "utf8"), "{charset}");
    }
    assert!(found.next().is_none(), "two charsets");
});
