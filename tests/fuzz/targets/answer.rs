//! Answers: pieces make no difference, and what a strict reader finds in an envelope is found here.
#![no_main]

use http::header::HeaderMap;
use libfuzzer_sys::fuzz_target;
use previewgate::protocol::sign_in::signed_in_agent;
use previewgate::protocol::{Envelope, EventStream, parse_events};

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, body) = input;
    let whole = parse_events(body);
    let mut stream = EventStream::new(&HeaderMap::new());
    // A byte order mark must arrive whole.
    body.chunks(usize::from(piece).max(3)).for_each(|piece| stream.feed(piece));
    if !body.starts_with(b"\xff\xfe") && !body.starts_with(b"\xfe\xff") {
        assert_eq!(stream.finish().is_ok(), whole.is_ok());
    }
    let _ = signed_in_agent(body);
    let envelope = Envelope::read(body);
    if let Ok(strict) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(body)
        && strict.keys().filter(|name| name.eq_ignore_ascii_case("retcode")).count() == 1
        && strict.get("retcode").and_then(|code| code.as_str()) == Some("100-006")
        && std::str::from_utf8(body).is_ok_and(|text| text.to_ascii_lowercase().matches("retcode").count() == 1)
    {
        assert_eq!(envelope.retcode.as_deref(), Some("100-006"));
    }
});
