//! The body of a sign-in: where it asks for push, and the same body with other addresses.
//!
//! Only the addresses change (docs/protocol.md 6.3 and 6.4). Text that is not plain ASCII is written as `\uXXXX`, so
//! that the upstream finds no other address in it, whatever its charset: see `one_reading`.

use std::ops::Range;

use serde_json::value::RawValue;

use super::answer::AnswerReader;
use super::json_lexer::trim_bom;
use super::loose_names::{Field, meant_one};
use super::members::each_member;
use super::one_reading::written_out;
use super::push_address::PushForm;
use crate::preview::AgentId;

/// One address in a sign-in that the application wants pushes at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushAddress {
    /// The parameter that it was found in.
    pub form: PushForm,
    /// Its text, unescaped.
    pub url: String,
    /// Position of its JSON string in the body, quotes included.
    pub range: Range<usize>,
}

/// Why the addresses in a sign-in cannot be determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignInFault {
    /// The body is not a JSON object in UTF-8, so it may or may not ask for push.
    #[error("the sign-in is not a JSON object in UTF-8")]
    NotAnObject,
    /// It asks for push, and the upstream might take either of two values.
    #[error("a push parameter is given twice")]
    Repeated,
    /// It asks for push at something that is no text.
    #[error("a push address is not a string")]
    NotText,
}

/// The push addresses of a sign-in, in the order in which they stand there; none if the application will poll.
///
/// `callBackUri` counts only together with `serviceToken`. Names are compared loosely: nothing public says how the upstream
/// compares them, and changing a parameter that it ignores does no harm.
///
/// # Errors
/// [`SignInFault`]
pub fn push_addresses(body: &[u8]) -> Result<Vec<PushAddress>, SignInFault> {
    if body.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    let text = std::str::from_utf8(trim_bom(body)).map_err(|_| SignInFault::NotAnObject)?;
    let found = Members::read(text)?;
    let call_back = found.call_back_uri.filter(|_| found.service_token.is_some_and(is_given));
    let mut addresses = Vec::new();
    for (form, value) in [(PushForm::CallBackUri, call_back), (PushForm::PushUrl, found.push_url)] {
        if let Some(value) = value.filter(|value| is_given(value)) {
            let url = serde_json::from_str(value.get()).map_err(|_| SignInFault::NotText)?;
            addresses.push(PushAddress { form, url, range: place(body, value) });
        }
    }
    addresses.sort_by_key(|address| address.range.start);
    Ok(addresses)
}

/// The same body with other addresses at the places where `addresses` were found, in a spelling with one reading.
pub fn with_addresses<'a>(body: &[u8], addresses: impl IntoIterator<Item = (&'a PushAddress, String)>) -> Vec<u8> {
    let mut changed = Vec::with_capacity(body.len() + 512);
    let mut position = 0;
    for (PushAddress { range, .. }, url) in addresses {
        changed.extend_from_slice(body.get(position..range.start).unwrap_or_default());
        changed.extend_from_slice(serde_json::Value::from(url).to_string().as_bytes());
        position = range.end;
    }
    changed.extend_from_slice(body.get(position..).unwrap_or_default());
    match std::str::from_utf8(trim_bom(&changed)) {
        Ok(text) => written_out(text, &[]).into_bytes(),
        Err(_) => changed,
    }
}

/// The agent who has signed in by account name, from the answer: `result.workno` (docs/protocol.md 7). Nothing if the
/// answer names none, or more than one.
pub fn signed_in_agent(answer: &[u8]) -> Option<AgentId> {
    let mut reader = AnswerReader::new();
    reader.feed(answer);
    reader.finish()?.signed_in_agent()
}

/// `null` and `""` count as absent.
fn is_given(value: &RawValue) -> bool {
    !matches!(value.get(), "null" | "\"\"")
}

/// Where `value`, which was borrowed from `body`, stands in it.
fn place(body: &[u8], value: &RawValue) -> Range<usize> {
    let start = value.get().as_ptr().addr().saturating_sub(body.as_ptr().addr());
    start..start + value.get().len()
}

/// The parameters that decide about push.
#[derive(Default)]
struct Members<'a> {
    call_back_uri: Option<&'a RawValue>,
    service_token: Option<&'a RawValue>,
    push_url: Option<&'a RawValue>,
}

impl<'a> Members<'a> {
    fn read(text: &'a str) -> Result<Self, SignInFault> {
        let mut members = Self::default();
        let mut repeated = false;
        let read = each_member(text, |name, value| {
            if let Some(place) = members.place(name) {
                repeated |= place.replace(value).is_some();
            }
        });
        match read {
            Err(_) => Err(SignInFault::NotAnObject),
            Ok(()) if repeated => Err(SignInFault::Repeated),
            Ok(()) => Ok(members),
        }
    }

    fn place(&mut self, name: &str) -> Option<&mut Option<&'a RawValue>> {
        match meant_one(name, &FIELDS)? {
            0 => Some(&mut self.call_back_uri),
            1 => Some(&mut self.service_token),
            _ => Some(&mut self.push_url),
        }
    }
}

const FIELDS: [Field; 3] = [Field::new("callbackuri"), Field::new("servicetoken"), Field::new("pushurl")];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(body: &str) -> Vec<(PushForm, String)> {
        let addresses = push_addresses(body.as_bytes()).unwrap();
        addresses.into_iter().map(|address| (address.form, address.url)).collect()
    }

    fn rewritten(body: &str) -> String {
        let addresses = push_addresses(body.as_bytes()).unwrap();
        let changed =
            with_addresses(body.as_bytes(), addresses.iter().map(|address| (address, format!("x:{}", address.form))));
        String::from_utf8(changed).unwrap()
    }

    #[test]
    fn what_asks_for_push() {
        use PushForm::*;
        let one = |form, url: &str| vec![(form, url.to_owned())];
        for (body, expected) in [
            ("", vec![]),
            ("{}", vec![]),
            (r#"{"password":"","phonenum":"40038"}"#, vec![]),
            (r#"{"callBackUri":"http://a"}"#, vec![]),
            (r#"{"serviceToken":"t"}"#, vec![]),
            (r#"{"callBackUri":"http://a","serviceToken":""}"#, vec![]),
            (r#"{"callBackUri":"","serviceToken":"t","pushUrl":null}"#, vec![]),
            (r#"{"x":{"pushUrl":"http://a"}}"#, vec![]),
            (r#"{"callBackUri":"http://a","serviceToken":"t"}"#, one(CallBackUri, "http://a")),
            (r#"{"serviceToken":"t","CALLBACKURI":"http:\/\/a"}"#, one(CallBackUri, "http://a")),
            (r#"{"push_url":"http://a"}"#, one(PushUrl, "http://a")),
            (r#"{"push\u0055rl":"http://a","callBackUri":"http://b"}"#, one(PushUrl, "http://a")),
            (
                r#"{"pushUrl":"http://a","callBackUri":"http://b","serviceToken":"t"}"#,
                vec![(PushUrl, "http://a".to_owned()), (CallBackUri, "http://b".to_owned())],
            ),
        ] {
            assert_eq!(found(body), expected, "{body}");
        }
    }

    #[test]
    fn what_cannot_be_told() {
        use SignInFault::*;
        for (body, expected) in [
            ("[]", NotAnObject),
            ("callBackUri=http://a", NotAnObject),
            (r#"{"pushUrl":"http://a"} x"#, NotAnObject),
            (r#"{"pushUrl":"a","pushUrl":"b"}"#, Repeated),
            (r#"{"pushUrl":"a","pushurl":"b"}"#, Repeated),
            (r#"{"callBackUri":"a","serviceToken":"t","serviceToken":""}"#, Repeated),
            (r#"{"pushUrl":["a"]}"#, NotText),
            (r#"{"callBackUri":1,"serviceToken":"t"}"#, NotText),
        ] {
            assert_eq!(push_addresses(body.as_bytes()), Err(expected), "{body}");
        }
        assert_eq!(push_addresses(b"{\"pushUrl\":\"\xff\"}"), Err(NotAnObject));
    }

    #[test]
    fn who_has_signed_in_by_account() {
        let agent = |answer: &str| signed_in_agent(answer.as_bytes()).map(AgentId::as_u32);
        for answer in [
            r#"{"message":"","retcode":"0","result":{"workno":"101","vdnid":1}}"#,
            r#"{"retcode":"0","result":{"x":{"workno":"102"},"WorkNo":101}}"#,
            "{\"result\":{\"workNo\":\"101\\u0000\",\"workno\":101},\"retcode\":\"0\"}\0",
        ] {
            assert_eq!(agent(answer), Some(101), "{answer}");
        }
        for answer in [
            "",
            r#"{"retcode":"0","workno":"101"}"#,
            r#"{"retcode":"0","result":"101"}"#,
            r#"{"retcode":"0","result":[{"workno":"101"}]}"#,
            r#"{"retcode":"0","result":{"workno":"101","WorkNo":"102"}}"#,
            r#"{"retcode":"0","result":{"workno":"7"}}"#,
            r#"{"retcode":"0","result":{"workno":"101"}"#,
        ] {
            assert_eq!(agent(answer), None, "{answer}");
        }
    }

    #[test]
    fn only_the_addresses_change() {
        assert_eq!(
            rewritten("\u{feff}{ \"pushUrl\" :\t\"http:\\/\\/a\" ,\"name\":\"\\u4f60 \u{597d}\",\n\"n\":1.50}\n"),
            "{ \"pushUrl\" :\t\"x:push_url\" ,\"name\":\"\\u4f60 \\u597d\",\n\"n\":1.50}\n"
        );
        let foreign = "{\"name\":\"\u{738b}\u{7f}\",\"pushUrl\":\"http://a\"}";
        assert_eq!(rewritten(foreign), "{\"name\":\"\\u738b\\u007f\",\"pushUrl\":\"x:push_url\"}");
        let hidden = r#"{"pushUrl":"http://a","x":"\",'pushUrl':'http://b',\""}"#;
        assert_eq!(rewritten(hidden), r#"{"pushUrl":"x:push_url","x":"\u0022,'pushUrl':'http://b',\u0022"}"#);
        assert_eq!(
            rewritten(r#"{"pushUrl":"http://a","callBackUri":"http://b","serviceToken":"t"}"#),
            r#"{"pushUrl":"x:push_url","callBackUri":"x:push","serviceToken":"t"}"#
        );
    }

    proptest! {
        #[test]
        fn nothing_panics(body in "\\PC{0,80}", bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = push_addresses(body.as_bytes());
            let _ = push_addresses(&bytes);
        }

        /// Around the address, any members in any order stay byte for byte.
        #[test]
        fn surroundings_stay(before in "[a-z ]{0,9}", name in "[ -~&&[^\"\\\\]]{0,9}", after in "[0-9]{1,9}") {
            let (head, tail) = (format!("{{\"a{before}\":\"{name}\", \"pushUrl\":"), format!(",\"z\":[1{after}] }}"));
            prop_assert_eq!(rewritten(&format!("{head}\"http://a\"{tail}")), format!("{head}\"x:push_url\"{tail}"));
        }
    }
}
