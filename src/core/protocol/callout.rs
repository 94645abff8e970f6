//! The body of a `previewCallout`: one strict reading, or none.
//!
//! The upstream reads the forwarded body with its own JSON mapper, in its own charset. So the gateway refuses every body
//! that two parsers could read differently: repeated keys however escaped, keys that a forgiving mapper folds onto the two that
//! count, numbers that are not integers, anything but UTF-8, anything after the object. A body whose bytes could be read
//! in another way although it is strict JSON is forwarded in another spelling with the same meaning: see `one_reading`.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use smallvec::SmallVec;

use super::json_lexer::trim_bom;
use super::loose_names::{Field, MAX_NAME, may_mean_one_of};
use super::one_reading::{is_plain, without_padding, written_out};
use super::strict_json::{Skipped, Text};
use crate::preview::{Callout, ControlId, DialedNumber, Reason};

/// Longest `called`, in bytes: as long as `dialeddigits` can be (docs/protocol.md 5).
pub const MAX_CALLED: usize = 120;

/// A body that has one reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedCallout {
    /// The number and the control ID.
    pub callout: Callout,
    /// The body to forward in place of the one received; nothing if that one has one reading for everybody as it stands.
    pub rewritten: Option<Bytes>,
}

/// A `cancelPreviewCallout` body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParsedCancel {
    /// It names one preview.
    One {
        /// Which one.
        control_id: ControlId,
        /// As in [`ParsedCallout`].
        rewritten: Option<Bytes>,
    },
    /// It names none, or not the same one to every reader: on success any preview of the agent may be the one that ends.
    Unclear,
}

/// Why a body is not a callout. The text is for the client: it names fields, never values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalloutError {
    /// The body is not one JSON object in UTF-8, or has more than one reading.
    #[error("the message body is not valid: {0}")]
    Malformed(Cow<'static, str>),
    /// A mandatory field is absent, null or empty.
    #[error("the mandatory parameter {0} is missing")]
    MissingField(&'static str),
}

impl CalloutError {
    /// The word for the log and the client.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Malformed(_) => Reason::MalformedBody,
            Self::MissingField(_) => Reason::MissingField,
        }
    }
}

/// Reads a `previewCallout` body (docs/protocol.md 4).
///
/// `called` must be a string of printable ASCII and blanks within, without commas, quotes and backslashes;
/// `callcontrolid` an integer within 64 bits, or its canonical decimal spelling as a string. Both may be padded with NUL
/// characters. Further fields are ignored. A byte order mark is not forwarded.
///
/// # Errors
/// [`CalloutError`], with a sentence that says what is wrong.
pub fn parse_callout(body: &[u8]) -> Result<ParsedCallout, CalloutError> {
    let text = std::str::from_utf8(trim_bom(body)).map_err(|_| malformed("it is not UTF-8"))?;
    let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| explain(&error))?;
    let called = fields.called.ok_or(CalloutError::MissingField(CALLED))?;
    let control_id = fields.control_id.ok_or(CalloutError::MissingField(CONTROL_ID))?;
    let callout = Callout { called: number(called)?, control_id };
    Ok(ParsedCallout { callout, rewritten: rewritten(body, text, fields.escaped) })
}

/// Reads a `cancelPreviewCallout` body with the same strictness (docs/protocol.md 4).
pub fn parse_cancel(body: &[u8]) -> ParsedCancel {
    let read = || {
        let text = std::str::from_utf8(trim_bom(body)).ok()?;
        let fields = serde_json::from_str::<Fields<'_>>(text).ok()?;
        Some(ParsedCancel::One { control_id: fields.control_id?, rewritten: rewritten(body, text, fields.escaped) })
    };
    read().unwrap_or(ParsedCancel::Unclear)
}

/// What to forward in place of `body`, whose strict JSON is `text`. `escaped`: see [`Fields`].
fn rewritten(body: &[u8], text: &str, escaped: bool) -> Option<Bytes> {
    let as_received = body.len() == text.len() && !escaped && is_plain(text, &NAMES);
    (!as_received).then(|| Bytes::from(written_out(text, &NAMES)))
}

const CALLED: &str = "called";
const CONTROL_ID: &str = "callcontrolid";
const NAMES: [&str; 2] = [CALLED, CONTROL_ID];
/// The members that count.
pub(super) const FIELDS: [Field; 2] = [Field::new(CALLED), Field::new(CONTROL_ID)];

const NOT_DIALLABLE: &str = "called holds characters that cannot be dialled";

fn malformed(what: &'static str) -> CalloutError {
    CalloutError::Malformed(Cow::Borrowed(what))
}

/// Says what is wrong without quoting a value: serde's own "invalid type: string \"…\"" would.
fn explain(error: &serde_json::Error) -> CalloutError {
    let place = format!("line {}, column {}", error.line(), error.column());
    let text = error.to_string();
    CalloutError::Malformed(Cow::Owned(match error.classify() {
        serde_json::error::Category::Data if text.starts_with("invalid ") => {
            format!("a value has the wrong type: called is a string, callcontrolid an integer ({place})")
        }
        serde_json::error::Category::Data => text,
        _ => format!("it is not one JSON object ({place})"),
    }))
}

fn number(called: Cow<'_, str>) -> Result<DialedNumber, CalloutError> {
    let dialable = |byte: u8| (byte.is_ascii_graphic() || byte == b' ') && !matches!(byte, b',' | b'"' | b'\\');
    let called = without_padding(called).ok_or_else(|| malformed(NOT_DIALLABLE))?;
    match called.as_ref() {
        "" => Err(CalloutError::MissingField(CALLED)),
        long if long.len() > MAX_CALLED => Err(malformed("called is too long")),
        odd if odd.trim().len() != odd.len() || !odd.bytes().all(dialable) => Err(malformed(NOT_DIALLABLE)),
        called => Ok(DialedNumber::new(called)),
    }
}

/// The fields that count, as they stand in the object.
#[derive(Default)]
struct Fields<'a> {
    called: Option<Cow<'a, str>>,
    control_id: Option<ControlId>,
    /// A reader for whom backslashes escape nothing may find another key or another value, or a value is padded.
    escaped: bool,
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;

        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                read_object(map)
            }
        }

        deserializer.deserialize_map(ObjectVisitor)
    }
}

fn read_object<'de, A: MapAccess<'de>>(mut map: A) -> Result<Fields<'de>, A::Error> {
    let mut fields = Fields::default();
    let mut seen: SmallVec<[Cow<'de, str>; 4]> = SmallVec::new();
    while let Some(Text(key)) = map.next_key()? {
        // A reader who knows no escapes does not find a field that is spelled with one, so it has no other value there.
        let spelled_out = matches!(key, Cow::Borrowed(_));
        match key.as_ref() {
            CALLED => {
                fields.called = map.next_value::<Option<Text<'de>>>()?.map(|Text(called)| called);
                let escaped = |called: &Cow<'_, str>| matches!(called, Cow::Owned(_)) && spelled_out;
                fields.escaped |= fields.called.as_ref().is_some_and(|called| escaped(called) || called.contains('\0'));
            }
            CONTROL_ID => {
                let id = map.next_value::<Option<StrictId>>()?;
                fields.escaped |= id.as_ref().is_some_and(|id| id.padded || (id.escaped && spelled_out));
                fields.control_id = id.map(|id| id.id);
            }
            long if long.len() > MAX_NAME => return Err(de::Error::custom("a key is too long")),
            other if may_mean_one_of(other, &FIELDS) => {
                return Err(de::Error::custom("a key could be mistaken for called or callcontrolid"));
            }
            _ => {
                map.next_value::<Skipped>()?;
                fields.escaped |= !spelled_out;
            }
        }
        seen.push(key);
    }
    // Sorted at the end, once: comparing each with all before it would take a body full of keys tens of milliseconds.
    seen.sort_unstable();
    if seen.windows(2).any(|pair| matches!(pair, [one, other] if one == other)) {
        return Err(de::Error::custom("a key occurs twice"));
    }
    Ok(fields)
}

/// A control ID as an integer or as the canonical spelling of one, NUL padding aside; nothing that a mapper would have
/// to round.
struct StrictId {
    id: ControlId,
    escaped: bool,
    padded: bool,
}

impl<'de> Deserialize<'de> for StrictId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;

        const EXPECTED: &str = "callcontrolid must be a 64-bit integer";

        fn read<E: de::Error>(text: Cow<'_, str>) -> Result<StrictId, E> {
            let (escaped, padded) = (matches!(text, Cow::Owned(_)), text.contains('\0'));
            let id = without_padding(text).and_then(|text| text.parse().ok()).ok_or_else(|| E::custom(EXPECTED))?;
            Ok(StrictId { id, escaped, padded })
        }

        impl<'de> Visitor<'de> for IdVisitor {
            type Value = StrictId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_i64<E: de::Error>(self, id: i64) -> Result<StrictId, E> {
                Ok(StrictId { id: ControlId(id), escaped: false, padded: false })
            }

            fn visit_u64<E: de::Error>(self, id: u64) -> Result<StrictId, E> {
                i64::try_from(id).map_err(|_| E::custom(EXPECTED)).and_then(|id| self.visit_i64(id))
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<StrictId, E> {
                Err(E::custom(EXPECTED))
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<StrictId, E> {
                read(Cow::Borrowed(text))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<StrictId, E> {
                read(Cow::Owned(text.to_owned()))
            }
        }

        deserializer.deserialize_any(IdVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(body: &str) -> Result<(String, i64), Reason> {
        parse_callout(body.as_bytes())
            .map(|parsed| (parsed.callout.called.reveal().to_owned(), parsed.callout.control_id.0))
            .map_err(|error| error.reason())
    }

    #[test]
    fn the_forms_that_clients_send() {
        let expected = Ok(("88889039".to_owned(), 11776));
        for body in [
            r#"{"called": "88889039", "callcontrolid": "11776"}"#,
            r#"{"called":"88889039","callcontrolid":11776}"#,
            "\r\n\t {\"callcontrolid\":11776,\"called\":\"88889039\"} \n",
            r#"{"called":"88889039","callcontrolid":11776,"caller":"1000","extra":{"called2":[1,{"called":"1"}]}}"#,
            r#"{"c\u0061lled":"8888\u0039039","callcontrolid":11776}"#,
        ] {
            assert_eq!(parsed(body), expected, "{body}");
        }
        assert_eq!(parsed(r#"{"called":"+49*31#","callcontrolid":0}"#), Ok(("+49*31#".to_owned(), 0)));
        let largest = r#"{"called":"1","callcontrolid":9223372036854775807}"#;
        assert_eq!(parsed(largest), Ok(("1".to_owned(), i64::MAX)));
    }

    #[test]
    fn a_refusal_says_what_is_wrong_and_quotes_no_value() {
        let message = |body: &str| parse_callout(body.as_bytes()).unwrap_err().to_string();
        for (body, expected) in [
            (
                r#"{"called":4711,"callcontrolid":1}"#,
                "a value has the wrong type: called is a string, callcontrolid an integer",
            ),
            ("[4711]", "a value has the wrong type: called is a string, callcontrolid an integer"),
            (r#"{"called":"4711","callcontrolid":1,"called":"4712"}"#, "a key occurs twice"),
            (r#"{"called":"4711","callcontrolid":"x4711"}"#, "callcontrolid must be a 64-bit integer"),
            (r#"{"called":"4711","#, "it is not one JSON object (line 1, column 17)"),
        ] {
            let found = message(body);
            assert!(found.starts_with(&format!("the message body is not valid: {expected}")), "{found}");
            assert!(!found.contains("4711"), "{found}");
        }
    }

    #[test]
    fn mandatory_fields() {
        for body in [
            "{}",
            r#"{"called":"1"}"#,
            r#"{"callcontrolid":1}"#,
            r#"{"called":null,"callcontrolid":1}"#,
            r#"{"called":"1","callcontrolid":null}"#,
            r#"{"called":"","callcontrolid":1}"#,
        ] {
            assert_eq!(parsed(body), Err(Reason::MissingField), "{body}");
        }
    }

    #[test]
    fn what_has_more_than_one_reading_is_refused() {
        for body in [
            "",
            "null",
            "[]",
            r#"[{"called":"1","callcontrolid":1}]"#,
            r#""called""#,
            r#"{"called":"1","callcontrolid":1"#,
            r#"{"called":"1","callcontrolid":1}}"#,
            r#"{"called":"1","callcontrolid":1} {"called":"2","callcontrolid":1}"#,
            "\u{feff}\u{feff}{\"called\":\"1\",\"callcontrolid\":1}",
            r#"{"called":"1","called":"1","callcontrolid":1}"#,
            r#"{"called":"1","c\u0061lled":"2","callcontrolid":1}"#,
            r#"{"called":"1","callcontrolid":1,"callcontrolid":1}"#,
            r#"{"called":"1","callcontrolid":1,"x":1,"\u0078":2}"#,
            r#"{"called":"1","callcontrolid":1,"Called":"2"}"#,
            r#"{"called":"1","callcontrolid":1,"CALLED":"2"}"#,
            r#"{"called":"1","callcontrolid":1,"called ":"2"}"#,
            r#"{"called":"1","callcontrolid":1,"ｃalled":"2"}"#,
            r#"{"called":"1","callcontrolid":1,"\ud835\udd20alled":"2"}"#,
            r#"{"called":"1","callcontrolid":1,"ⓒaⅼled":"2"}"#,
            r#"{"called":"1","callcontrolid":1,"call℅ntrolid":2}"#,
            r#"{"called":"1","callcontrolid":1,"call_control_id":2}"#,
            r#"{"called":"1","callcontrolid":1,"callControlId":2}"#,
            r#"{"called":"1","callcontrolid":1,"called\u0000":"2"}"#,
            r#"{"called":1,"callcontrolid":1}"#,
            r#"{"called":["1"],"callcontrolid":1}"#,
            r#"{"called":true,"callcontrolid":1}"#,
            r#"{"called":"1,2","callcontrolid":1}"#,
            r#"{"called":" 1","callcontrolid":1}"#,
            r#"{"called":"1 ","callcontrolid":1}"#,
            r#"{"called":"1\u00002","callcontrolid":1}"#,
            r#"{"called":"\u00001","callcontrolid":1}"#,
            r#"{"called":"1 \u0000","callcontrolid":1}"#,
            r#"{"called":"1\t2","callcontrolid":1}"#,
            r#"{"called":"1","callcontrolid":"1\u00002"}"#,
            r#"{"called":"１","callcontrolid":1}"#,
            r#"{"called":"1","callcontrolid":1.0}"#,
            r#"{"called":"1","callcontrolid":1e0}"#,
            r#"{"called":"1","callcontrolid":-0}"#,
            r#"{"called":"1","callcontrolid":9223372036854775808}"#,
            r#"{"called":"1","callcontrolid":"1.0"}"#,
            r#"{"called":"1","callcontrolid":" 1"}"#,
            r#"{"called":"1","callcontrolid":"01"}"#,
            r#"{"called":"1","callcontrolid":""}"#,
            r#"{"called":"1","callcontrolid":true}"#,
            r#"{"called":"1","callcontrolid":[1]}"#,
            r#"{'called':'1','callcontrolid':1}"#,
            r#"{"called":"1","callcontrolid":1,}"#,
            r#"{"called":"1",/**/"callcontrolid":1}"#,
            "{\"called\":\"1\",\"callcontrolid\":1}\0",
        ] {
            assert_eq!(parsed(body), Err(Reason::MalformedBody), "{body}");
        }
    }

    #[test]
    fn a_body_too_deep_or_not_in_utf_8_is_refused() {
        let deep = format!(r#"{{"called":"1","callcontrolid":1,"x":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
        assert_eq!(parsed(&deep), Err(Reason::MalformedBody));
        assert_eq!(
            parse_callout(b"{\"called\":\"\xff\",\"callcontrolid\":1}").unwrap_err().reason(),
            Reason::MalformedBody
        );
        let utf16: Vec<u8> = r#"{"called":"1","callcontrolid":1}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(parse_callout(&utf16).unwrap_err().reason(), Reason::MalformedBody);
    }

    #[test]
    fn no_explanation_quotes_a_value() {
        for body in [
            r#"{"called":88889039,"callcontrolid":1}"#,
            r#"{"called":-88889039,"callcontrolid":1}"#,
            r#"{"called":88889039.5,"callcontrolid":1}"#,
            r#"{"called":["88889039"],"callcontrolid":1}"#,
            r#"{"called":"88889039 ","callcontrolid":1}"#,
            r#"{"called":"1","callcontrolid":"88889039x"}"#,
            r#"{"called":"1","callcontrolid":88889039.5}"#,
            r#""88889039""#,
            "88889039",
        ] {
            let explanation = parse_callout(body.as_bytes()).unwrap_err().to_string();
            assert!(!explanation.contains("88889039"), "{body}: {explanation}");
        }
    }

    fn forwarded(body: &str) -> String {
        let parsed = parse_callout(body.as_bytes()).unwrap();
        let bytes = parsed.rewritten.map_or_else(|| body.as_bytes().to_vec(), |rewritten| rewritten.to_vec());
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn what_everybody_reads_the_same_is_forwarded_as_received() {
        for body in [
            r#"{"called":"710101","callcontrolid":1010}"#,
            "\r\n{\t\"callcontrolid\" : \"1010\" , \"called\" : \"71 01 01\" }\r\n",
            r#"{"called":"1","callcontrolid":2,"callData":"{\"name\":\"x\",\"path\":\"C:\\\\x\\\\\"}","remark":"a\nb"}"#,
            r#"{"called":"1","callcontrolid":2,"callData":"\u738b"}"#,
            r#"{"\u0063alled":"0571\u0032345","callcontrolid":2}"#,
        ] {
            assert_eq!(forwarded(body), body);
            assert_eq!(parse_callout(body.as_bytes()).unwrap().rewritten, None, "{body}");
        }
    }

    #[test]
    fn anything_else_is_forwarded_in_a_spelling_that_has_one_reading() {
        for (body, expected) in [
            ("\u{feff}{\"called\":\"1\",\"callcontrolid\":2}", r#"{"called":"1","callcontrolid":2}"#),
            (r#"{"called":"\u0031","callcontrolid":2}"#, r#"{"called":"1","callcontrolid":2}"#),
            (r#"{"c\u0061lled":"1","callcontrolid":"\u0032"}"#, r#"{"called":"1","callcontrolid":"2"}"#),
            (r#"{"c\u0061lled":"1\u0000","callcontrolid":2}"#, r#"{"called":"1","callcontrolid":2}"#),
            (
                r#"{"called":"1\u0000\u0000","callcontrolid":"2\u0000","x":"\u0000"}"#,
                r#"{"called":"1","callcontrolid":"2","x":"\u0000"}"#,
            ),
            (
                r#"{"called":"1","callcontrolid":2,"x":"王 \"called\":\"3\""}"#,
                r#"{"called":"1","callcontrolid":2,"x":"\u738b \u0022called\u0022:\u00223\u0022"}"#,
            ),
            (
                r#"{"x":"\",'called':'2',\"","called":"1","callcontrolid":2}"#,
                r#"{"x":"\u0022,'called':'2',\u0022","called":"1","callcontrolid":2}"#,
            ),
            (
                r#"{"callco\ntrolid":3,"called":"1","callcontrolid":2}"#,
                r#"{"callco\u000atrolid":3,"called":"1","callcontrolid":2}"#,
            ),
        ] {
            assert_eq!(forwarded(body), expected, "{body}");
        }
    }

    #[test]
    fn lengths_are_bounded_and_the_bound_is_allowed() {
        let called = |length: usize| parsed(&format!(r#"{{"called":"{}","callcontrolid":1}}"#, "1".repeat(length)));
        assert_eq!(called(MAX_CALLED), Ok(("1".repeat(MAX_CALLED), 1)));
        assert_eq!(called(MAX_CALLED + 1), Err(Reason::MalformedBody));
        assert_eq!(called(MAX_CALLED * 2), Err(Reason::MalformedBody));
        let name = |length: usize| {
            parsed(&format!(r#"{{"called":"1","callcontrolid":1,"{}":1}}"#, "x".repeat(length))).map(|_| ())
        };
        assert_eq!(name(MAX_NAME), Ok(()));
        assert_eq!(name(MAX_NAME + 1), Err(Reason::MalformedBody));
        assert_eq!(name(MAX_NAME * 2), Err(Reason::MalformedBody));
    }

    #[test]
    fn padding_is_no_part_of_a_number_and_blanks_within_are() {
        assert_eq!(parsed(r#"{"called":"138 0013\u0000","callcontrolid":"7\u0000"}"#), Ok(("138 0013".to_owned(), 7)));
        let empty = r#"{"called":"\u0000","callcontrolid":1}"#;
        assert_eq!(parsed(empty), Err(Reason::MissingField));
    }

    #[test]
    fn what_is_cancelled() {
        let cancelled = |body: &str| match parse_cancel(body.as_bytes()) {
            ParsedCancel::One { control_id, rewritten } => Some((control_id.0, rewritten.is_some())),
            ParsedCancel::Unclear => None,
        };
        assert_eq!(cancelled(r#"{"callcontrolid":7}"#), Some((7, false)));
        assert_eq!(cancelled(r#"{"callcontrolid":"7","x":null}"#), Some((7, false)));
        assert_eq!(cancelled("\u{feff}{\"callcontrolid\":\"7\"}"), Some((7, true)));
        assert_eq!(cancelled(r#"{"callcontrolid":7,"x":"你\",'callcontrolid':8,\""}"#), Some((7, true)));
        for unclear in [
            "",
            "{}",
            "7",
            r#"{"callcontrolid":7,"callcontrolid":8}"#,
            r#"{"callControlId":7}"#,
            r#"{"callcontrolid":7,"call_control_id":8}"#,
            r#"{'callcontrolid':7}"#,
        ] {
            assert_eq!(cancelled(unclear), None, "{unclear}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_callout(&body);
        }

        /// What is accepted here is what a forgiving reader finds too, and it finds nothing else.
        #[test]
        fn a_forgiving_reader_agrees(body in "\\{(\"(called|callcontrolid|x)\":(\"[0-9]{1,3}\"|[0-9]{1,3}|null),?){0,4}\\}") {
            if let Ok(ParsedCallout { callout, .. }) = parse_callout(body.as_bytes()) {
                let value: serde_json::Value = serde_json::from_str(&body).unwrap();
                prop_assert_eq!(value["called"].as_str().unwrap(), callout.called.reveal());
                let id = value["callcontrolid"].to_string();
                prop_assert_eq!(id.trim_matches('"'), callout.control_id.to_string());
            }
        }
    }
}
