//! Envelopes, charsets, and members in odd places.

use super::*;
use crate::preview::Change;

fn read(body: &str) -> Answer {
    let mut reader = AnswerReader::new();
    reader.feed(body.as_bytes());
    reader.finish().unwrap()
}

#[test]
fn of_two_readings_that_differ_only_the_ends_count() {
    let shown = r#"{"retcode":"0","event":[{"eventType":"AgentEvent_Preview","workNo":"101","content":{"controlid":7}},
                   {"eventType":"AgentEvent_Release_Preview","workNo":"101"}]}"#;
    let released = r#"{"retcode":"0","event":{"eventType":"AgentEvent_Release_Preview","workNo":"102"}}"#;
    let found = read(shown).or_ends_of(read(released)).events();
    let ends: Vec<_> = found.events.iter().map(|event| (event.agent.unwrap().as_u32(), event.change.clone())).collect();
    assert_eq!(ends, [(101, Some(Change::Ended)), (102, Some(Change::Ended))]);
    assert!(found.unreadable > 0);
    let bare = r#"{"eventType":"AgentEvent_Preview","workNo":"101","content":{"controlid":7}}"#;
    assert_eq!(read(bare).or_ends_of(read(released)).events().events, []);
}

#[test]
fn a_return_code_that_differs_is_no_success() {
    for body in [r#"{"retcode":"0","RetCode":"100-006"}"#, r#"{"retcode":"100-006","retcode":0,"retcode":"0"}"#] {
        assert_eq!(read(body).events().retcode.as_deref(), Some("100-006"));
        assert_eq!(read(body).retcode_and_result().0, None);
    }
}

#[test]
fn of_a_repeated_member_the_last_counts() {
    let release = r#"{"eventType":"AgentEvent_Release_Preview","workNo":"101"}"#;
    let body = format!(r#"{{"event":[{release},{release},17],"retcode":0,"Event":{release}}}"#);
    let found = read(&body).events();
    assert_eq!((found.events.len(), found.unreadable), (1, 0));
    assert_eq!(read(&format!(r#"{{"event":{release},"event":null}}"#)).events().events, []);
}

fn fed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<Events> {
    let mut reader = AnswerReader::new();
    pieces.into_iter().for_each(|piece| reader.feed(piece));
    reader.finish().map(Answer::events)
}

/// The control IDs that are shown, and the count of what cannot be read.
fn shown(body: &str) -> (Vec<i64>, usize) {
    let found = read(body).events();
    let id = |event: &Event| match &event.change {
        Some(Change::Shown(shown)) => shown.control_id.0,
        _ => -1,
    };
    (found.events.iter().map(id).collect(), found.unreadable)
}

fn preview(control_id: i64) -> String {
    format!(r#"{{"eventType":"AgentEvent_Preview","workNo":"101","content":{{"controlid":{control_id}}}}}"#)
}

#[test]
fn a_byte_order_mark_stands_at_the_beginning_only() {
    let mark = b"\xef\xbb\xbf".as_slice();
    let (start, rest) = (br#"{"retcode":"0","#.as_slice(), br#""a":1}"#.as_slice());
    assert!(fed([b"".as_slice(), &[mark, start].concat(), rest]).is_some());
    assert!(fed([start, &[mark, rest].concat()]).is_none());
}

/// A preview whose number ends in bytes that are something else in GBK, cut at `at`.
fn with_text(text: &[u8], cut: usize) -> Option<Vec<String>> {
    let before =
        br#"{"retcode":"0","event":{"eventType":"AgentEvent_Preview_CallOut","workNo":"101","content":{"callData":""#;
    let after = br#"","controlid":7,"dialeddigits":"100"}}}"#;
    let body = [&before[..], text, after].concat();
    let (one, other) = body.split_at(before.len() + cut);
    let events = fed([one, other])?.events;
    let Some(Change::Shown(shown)) = &events.first()?.change else { return None };
    Some(shown.numbers.iter().map(|number| number.reveal().to_owned()).collect())
}

#[test]
fn the_charset_is_decided_by_whole_characters_and_within_a_bound() {
    let readable = Some(vec!["100".to_owned()]);
    // UTF-8 that is cut within a character is UTF-8. In GBK the next byte would take the quote or the backslash with it.
    let utf_8 = "\u{738b}\u{738b}\\u0022".as_bytes();
    (0..utf_8.len()).for_each(|cut| assert_eq!(with_text(utf_8, cut), readable, "{cut}"));
    let number = r#"{"event":{"eventType":"AgentEvent_Preview","workNo":"101","content":{"controlid":7,"dialeddigits":"1?\u0031"}}}"#;
    let number = number.replace('?', "\u{738b}");
    let place = number.find('\u{738b}').unwrap();
    for cut in place..place + 4 {
        let (one, other) = number.as_bytes().split_at(cut);
        assert_eq!(fed([one, other]).unwrap().unreadable, 0, "{cut}");
    }
    // GBK behind text that is UTF-8 as far as it goes, and behind much ASCII.
    let gbk = b"\xbf\x5c";
    assert_eq!(with_text(&["\u{e9}".as_bytes(), gbk].concat(), 2), readable);
    let ascii = "a".repeat(MAX_UNDECIDED + 10);
    assert_eq!(with_text(&[ascii.as_bytes(), "\u{e9}".as_bytes(), gbk].concat(), ascii.len() + 2), readable);
    for (length, expected) in [(64 * 1024, readable), (64 * 1024 + 2, None)] {
        let text = "\u{e9}".repeat(length / 2);
        assert_eq!(with_text(&[text.as_bytes(), gbk].concat(), text.len()), expected, "{length}");
    }
}

#[test]
fn members_count_only_where_they_belong() {
    let (one, two) = (preview(7), preview(8));
    let odd = one.replace("\"workNo\"", "\"event\":1,\"eventList\":[1],\"workNo\"");
    for (body, expected) in [
        (format!(r#"{{"event":{one},"x":{{"event":null,"eventList":[]}},"retcode":"0"}}"#), (vec![7], 0)),
        (format!(r#"{{"eventList":[{one},{odd}],"event":{two},"message":""}}"#), (vec![8, 7, 7], 0)),
        (format!(r#"{{"event":[null,true,{one},null,[{two}]],"retcode":"0"}}"#), (vec![7], 2)),
        (r#"{"event":true,"eventList":"x","retcode":"0"}"#.to_owned(), (vec![], 2)),
        (format!(r#"{{"event":17,"x":{one}}}"#), (vec![], 1)),
    ] {
        assert_eq!(shown(&body), expected, "{body}");
    }
    for body in [r#"{"retcode":["100-006"],"retcode":"0"}"#, r#"{"retcode":[1],"retcode":0,"x":{"retcode":"1"}}"#] {
        assert_eq!(read(body).retcode_and_result().0.as_deref(), Some("0"), "{body}");
    }
}

#[test]
fn a_member_that_is_withdrawn_is_not_there() {
    let content = |content: &str| {
        let event = format!(r#"{{"eventType":"AgentEvent_Preview","workNo":"101","content":{{{content}}}}}"#);
        shown(&format!(r#"{{"event":{event}}}"#))
    };
    assert_eq!(content(r#""controlid":7,"controlid":null"#), (vec![], 1));
    assert_eq!(content(r#""controllid":7,"ControllId":[7]"#), (vec![], 1));
    assert_eq!(content(r#""controlid":7,"controllid":8,"controllid":null"#), (vec![7], 0));
    let event = |withdrawn: &str| {
        let event = r#"{"eventType":"AgentEvent_Preview","workNo":"101","eventGenTime":5,"content":{"controlid":7}"#;
        read(&format!(r#"{{"event":{event},{withdrawn}:null}}}}"#)).events()
    };
    let change = |found: &Events| found.events[0].change.is_some();
    assert!(!change(&event("\"EventType\"")) && change(&event("\"x\"")));
    assert_eq!((event("\"workno\"").events[0].agent, event("\"eventgentime\"").events[0].generated_at), (None, None));
    assert_eq!((event("\"content\"").events.len(), event("\"content\"").unreadable), (0, 1));
    let call = r#"{"event":{"eventType":"AgentEvent_Talking","content":{"callid":"1-2","callid":null}}}"#;
    assert_eq!(read(call).events().events[0].call, None);
}

#[test]
fn numbers_that_are_too_long_are_counted_in_every_event() {
    let long = "1".repeat(65);
    let event = format!(
        r#"{{"eventType":"AgentEvent_Preview_CallOut","workNo":"101","content":{{"controlid":7,"dialeddigits":"1,{long}"}}}}"#
    );
    for (body, expected) in [
        (format!(r#"{{"event":{event}}}"#), 1),
        (format!(r#"{{"eventList":[{event},{event}]}}"#), 2),
        (format!(r#"{{"event":{event},"eventList":[{event},{event}]}}"#), 3),
    ] {
        let found = read(&body).events();
        assert_eq!((found.events.len(), found.dropped_numbers), (expected, expected), "{body}");
    }
}

#[test]
fn a_text_in_a_list_of_events_is_no_event() {
    // The last member of the event before it is of no interest.
    let found = read(r#"{"eventList":[{"eventType":"AgentEvent_Talking","x":1},"text"]}"#).events();
    assert_eq!((found.events.len(), found.unreadable), (1, 1));
}

#[test]
fn scalars_are_bounded_and_hold_no_control_characters() {
    let result = |text: &str| read(&format!(r#"{{"result":"{text}"}}"#)).retcode_and_result().1.unwrap().to_string();
    let longest = "x".repeat(MAX_SCALAR);
    assert_eq!((result(&longest), result(&format!("{longest}x"))), (longest, String::new()));
    assert_eq!(result("a\\u0001b\\nc\\u0000d\\u0000"), "a b c\0d");
}
