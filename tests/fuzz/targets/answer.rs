//! Answers: pieces make no difference, and what a strict reader finds in an envelope is found here.
#![no_main]

use http::header::HeaderMap;
use libfuzzer_sys::fuzz_target;
use previewgate::protocol::envelope::may_say_signed_out;
use previewgate::protocol::sign_in::signed_in_agent;
use previewgate::protocol::{AddressMatcher, Envelope, EventStream, Outcome, parse_events};
use serde_json::{Map, Value};

/// The members of the outermost object with their names in lower case; nothing if one occurs twice. Text is as serde
/// reads it.
fn strict(body: &[u8]) -> Option<Map<String, Value>> {
    let text = std::str::from_utf8(body).ok()?;
    let members: Map<String, Value> = serde_json::from_str(text).ok()?;
    let lower: Map<String, Value> = members.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
    // Of a name that is repeated, also within other values, serde keeps the last.
    let count = |name: &str| text.to_ascii_lowercase().matches(name).count();
    let is_unique = lower.len() == members.len() && ["retcode", "result", "workno"].iter().all(|name| count(name) <= 1);
    (is_unique && !text.contains("\\u")).then_some(lower)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, body) = input;
    let whole = parse_events(body);
    let mut stream = EventStream::new(&HeaderMap::new());
    body.chunks(usize::from(piece).max(1)).for_each(|piece| stream.feed(piece));
    // The decoder of a whole body finds UTF-16 by its mark, and the stream does it here.
    if !body.starts_with(b"\xff\xfe") && !body.starts_with(b"\xfe\xff") {
        assert_eq!(stream.finish(), whole);
    }
    let envelope = Envelope::read(body);
    assert!(whole.is_ok() || envelope.outcome() == Outcome::Unreadable, "no answer, but a return code");
    if let Some(members) = strict(body) {
        let expected = match members.get("retcode") {
            Some(Value::String(code)) if code.len() <= 60 && !code.contains(char::is_control) => Some(code.trim()),
            _ => None,
        };
        assert!(expected.is_none() || envelope.retcode.as_deref() == expected, "{envelope:?}");
        let agent = members.get("result").and_then(|result| result.as_object()?.get("workNo")?.as_u64());
        if let Some(agent @ 101..=999_999) = agent {
            assert_eq!(signed_in_agent(body).map(|agent| u64::from(agent.as_u32())), Some(agent));
        }
    }
    if matches!(envelope.outcome(), Outcome::Failure(code) if code == "100-006" || code == "100-008") {
        assert!(body.contains(&b'\\') || body.contains(&0) || may_say_signed_out(body));
    }
    // An address is found in the same piece of the text, however it is cut.
    let (mut matcher, mut bytewise) = (AddressMatcher::default(), AddressMatcher::default());
    body.chunks(usize::from(piece).max(1)).for_each(|piece| _ = matcher.feed(piece));
    body.iter().for_each(|byte| _ = bytewise.feed(&[*byte]));
    assert_eq!(matcher.has_found(), bytewise.has_found());
    assert!(matcher.has_found() || !body.to_ascii_lowercase().windows(17).any(|part| part == b"previewgate/push/"));
});
