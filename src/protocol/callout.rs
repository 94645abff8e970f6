//! The body of a `previewCallout`: one strict reading, or none.
//!
//! The very bytes that are judged here are forwarded, and the upstream reads them with a JSON mapper of its own. So
//! whatever two parsers could read differently is refused: repeated keys however escaped, keys that a forgiving
//! mapper folds onto the two that count, numbers that are not integers, anything but UTF-8, what could name another call in
//! another charset, anything after the object.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::lenient;
use super::other_charsets::may_add_a_member;
use crate::preview::{Callout, ControlId, DialedNumber, Reason};

/// Longest `called`, in bytes: as long as `dialeddigits` can be (protocol.md 5).
pub const LONGEST_NUMBER: usize = 120;

/// Why a body is not a callout. The text is for the client: it names fields, never values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalloutError {
    /// Not one JSON object in UTF-8, or one with more than one reading.
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

/// Reads a `previewCallout` body (protocol.md 4).
///
/// `called` must be a string of printable ASCII without blanks, commas, quotes and backslashes; `callcontrolid` an
/// integer within 64 bits, or its canonical decimal spelling as a string. Further fields are ignored.
///
/// # Errors
/// [`CalloutError`], with a sentence that says what is wrong.
pub fn parse_callout(body: &[u8]) -> Result<Callout, CalloutError> {
    let text = std::str::from_utf8(body).map_err(|_| malformed("it is not UTF-8"))?;
    let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| explain(&error))?;
    if may_add_a_member(text, &[CALLED, CONTROL_ID]) {
        return Err(malformed("in another charset it could name another called or callcontrolid"));
    }
    let called = fields.called.ok_or(CalloutError::MissingField(CALLED))?;
    let control_id = fields.control_id.ok_or(CalloutError::MissingField(CONTROL_ID))?;
    Ok(Callout { called: number(&called)?, control_id })
}

/// The control ID that a successful `cancelPreviewCallout` gives back; nothing if that is not beyond doubt.
pub fn parse_cancelled(body: &[u8]) -> Option<ControlId> {
    let text = std::str::from_utf8(body).ok().filter(|text| !may_add_a_member(text, &[CONTROL_ID]))?;
    serde_json::from_str::<Fields<'_>>(text).ok()?.control_id
}

const CALLED: &str = "called";
const CONTROL_ID: &str = "callcontrolid";

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

fn number(called: &str) -> Result<DialedNumber, CalloutError> {
    let dialable = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b',' | b'"' | b'\\');
    match called {
        "" => Err(CalloutError::MissingField(CALLED)),
        _ if called.len() > LONGEST_NUMBER => Err(malformed("called is too long")),
        _ if !called.bytes().all(dialable) => Err(malformed("called holds characters that cannot be dialled")),
        _ => Ok(DialedNumber::new(called)),
    }
}

/// The fields that count, as they stand in the object.
#[derive(Default)]
struct Fields<'a> {
    called: Option<Cow<'a, str>>,
    control_id: Option<ControlId>,
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
    let mut seen: Vec<Cow<'de, str>> = Vec::new();
    while let Some(Text(key)) = map.next_key()? {
        match key.as_ref() {
            CALLED => fields.called = map.next_value::<Option<Text<'de>>>()?.map(|Text(called)| called),
            CONTROL_ID => fields.control_id = map.next_value::<Option<StrictId>>()?.map(|StrictId(id)| id),
            other if folds_onto_a_field(other) => {
                return Err(de::Error::custom("a key could be mistaken for called or callcontrolid"));
            }
            _ => {
                map.next_value::<Skipped>()?;
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

/// Whether a mapper that ignores case, compatibility forms, blanks and punctuation would take `key` for one of the two
/// fields.
pub(super) fn folds_onto_a_field(key: &str) -> bool {
    let mut folded = String::new();
    for character in key.chars() {
        let before = folded.len();
        lenient::fold_into(&mut folded, character);
        if folded.len() == before && character.is_alphanumeric() {
            folded.push(character);
        }
    }
    folded == CALLED || folded == CONTROL_ID
}

/// A JSON string, borrowed where it holds no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}

/// A control ID as an integer or as the canonical spelling of one; nothing that a mapper would have to round.
struct StrictId(ControlId);

impl<'de> Deserialize<'de> for StrictId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;

        const EXPECTED: &str = "callcontrolid must be a 64-bit integer";

        impl Visitor<'_> for IdVisitor {
            type Value = StrictId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_i64<E: de::Error>(self, id: i64) -> Result<StrictId, E> {
                Ok(StrictId(ControlId(id)))
            }

            fn visit_u64<E: de::Error>(self, id: u64) -> Result<StrictId, E> {
                i64::try_from(id).map(|id| StrictId(ControlId(id))).map_err(|_| E::custom(EXPECTED))
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<StrictId, E> {
                Err(E::custom(EXPECTED))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<StrictId, E> {
                text.parse().map(StrictId).map_err(|_| E::custom(EXPECTED))
            }
        }

        deserializer.deserialize_any(IdVisitor)
    }
}

/// Any value, read and forgotten. Unlike serde's `IgnoredAny` it recurses, so that the parser's bound on depth (128)
/// holds here too: what nests deeper is read by some mappers and not by others.
struct Skipped;

impl<'de> Deserialize<'de> for Skipped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyVisitor;

        impl<'de> Visitor<'de> for AnyVisitor {
            type Value = Skipped;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_unit<E>(self) -> Result<Skipped, E> {
                Ok(Skipped)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Skipped, E> {
                Ok(Skipped)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Skipped, E> {
                Ok(Skipped)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Skipped, E> {
                Ok(Skipped)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Skipped, E> {
                Ok(Skipped)
            }

            fn visit_str<E>(self, _: &str) -> Result<Skipped, E> {
                Ok(Skipped)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Skipped, A::Error> {
                while seq.next_element::<Skipped>()?.is_some() {}
                Ok(Skipped)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Skipped, A::Error> {
                while map.next_entry::<Skipped, Skipped>()?.is_some() {}
                Ok(Skipped)
            }
        }

        deserializer.deserialize_any(AnyVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(body: &str) -> Result<(String, i64), Reason> {
        parse_callout(body.as_bytes())
            .map(|callout| (callout.called.reveal().to_owned(), callout.control_id.0))
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
            "\u{feff}{\"called\":\"1\",\"callcontrolid\":1}",
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
            r#"{"called":"1\u0000","callcontrolid":1}"#,
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

    #[test]
    fn what_is_cancelled() {
        let cancelled = |body: &str| parse_cancelled(body.as_bytes()).map(|id| id.0);
        assert_eq!(cancelled(r#"{"callcontrolid":7}"#), Some(7));
        assert_eq!(cancelled(r#"{"callcontrolid":"7","x":null}"#), Some(7));
        for doubtful in ["", "{}", "7", r#"{"callcontrolid":7,"callcontrolid":8}"#, r#"{"callControlId":7}"#] {
            assert_eq!(cancelled(doubtful), None, "{doubtful}");
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
            if let Ok(callout) = parse_callout(body.as_bytes()) {
                let value: serde_json::Value = serde_json::from_str(&body).unwrap();
                prop_assert_eq!(value["called"].as_str().unwrap(), callout.called.reveal());
                let id = value["callcontrolid"].to_string();
                prop_assert_eq!(id.trim_matches('"'), callout.control_id.to_string());
            }
        }
    }
}
