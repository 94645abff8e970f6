//! The event parser, behind content codings and charsets: an answer that is read in pieces has the events of the whole one,
//! numbers are bounded, and where the text is strict JSON the events are those that a plain reader finds.
#![no_main]

mod strict_events;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use previewgate::preview::Change;
use previewgate::protocol::event::{MAX_NUMBER, MAX_NUMBERS};
use previewgate::protocol::{EventStream, Events, content, parse_events};

const CODINGS: [&str; 4] = ["identity", "gzip", "deflate", "br"];
const CHARSETS: [&str; 4] =
    ["application/json", "text/plain;charset=GBK", "application/json;charset=utf-16le", ";charset="];
const MAX_DECODED: usize = 64 * 1024;

/// No answer makes the gateway keep more than the bounds allow.
fn is_bounded(events: &Events) {
    for event in &events.events {
        if let Some(Change::Shown(announcement)) = &event.change {
            assert!(announcement.numbers.len() <= MAX_NUMBERS);
            assert!(announcement.numbers.iter().all(|number| number.reveal().len() <= 3 * MAX_NUMBER));
        }
    }
}

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (coding, charset, body) = input;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(CODINGS[usize::from(coding) % 4]));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(CHARSETS[usize::from(charset) % 4]));
    if let Ok(text) = content::decoded(&headers, body, MAX_DECODED) {
        let whole = parse_events(&text);
        if let Ok(events) = &whole {
            is_bounded(events);
        }
        let mut stream = EventStream::new(&headers);
        body.chunks(usize::from(coding >> 2).max(1)).for_each(|piece| stream.feed(piece));
        let streamed = stream.finish();
        // Only a whole answer may have something behind its coding.
        let is_odd = usize::from(coding) % 4 != 0 && streamed.is_err();
        assert!(is_odd || streamed == whole, "{streamed:?} is not {whole:?}");
    }
    if let Some(expected) = strict_events::of(body) {
        let found = parse_events(body).expect("strict JSON with events is not read");
        let found: Vec<_> = found.events.into_iter().map(|event| (event.event_type, event.agent, event.change)).collect();
        assert_eq!(found, expected.events);
        assert_eq!(parse_events(body).map(|events| events.unreadable), Ok(expected.unreadable));
    }
});
