//! The vendor's response envelope: `message`, `retcode`, `result` (protocol.md 3).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::preview::Reason;

/// The `retcode` of a success.
pub const SUCCESS: &str = "0";

/// What the gateway reads of an envelope. Unknown members are ignored; `retcode` may be a string or a number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// `"0"` is success; absent when the answer is not an envelope.
    pub retcode: Option<String>,
    /// The call ID in the answer to a `previewCallout`.
    pub result: Option<String>,
}

impl Envelope {
    /// Reads what can be read; an answer that is no envelope has neither member.
    pub fn read(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Members<'a> {
            #[serde(borrow, default)]
            retcode: Option<Scalar<'a>>,
            #[serde(borrow, default)]
            result: Option<Scalar<'a>>,
        }

        let members = serde_json::from_slice::<Members<'_>>(trim_bom(body));
        let text = |scalar: Option<Scalar<'_>>| scalar.and_then(Scalar::into_text);
        members.map_or_else(|_| Self::default(), |m| Self { retcode: text(m.retcode), result: text(m.result) })
    }

    /// Whether the upstream did what it was asked to.
    pub fn is_success(&self) -> bool {
        self.retcode.as_deref() == Some(SUCCESS)
    }
}

/// Whether a `retcode` says that the agent has no session: not signed in (100-006) or signed out (100-008).
pub fn says_signed_out(retcode: &str) -> bool {
    matches!(retcode, "100-006" | "100-008")
}

/// A string or number; anything else is of no interest here.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Number(serde_json::Number),
    Else(serde::de::IgnoredAny),
}

impl Scalar<'_> {
    fn into_text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.trim_end_matches('\0').to_owned()),
            Self::Number(number) => Some(number.to_string()),
            Self::Else(_) => None,
        }
    }
}

/// An envelope that the gateway makes itself: without `result`, as for every failure.
pub fn refusal(message: &str, retcode: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Members<'a> {
        message: &'a str,
        retcode: &'a str,
    }
    // Serializing two strings into memory cannot fail; an empty body would be the least bad answer if it did.
    serde_json::to_vec(&Members { message, retcode }).unwrap_or_default()
}

/// The vendor's code for a refusal: `200-001` for a number that was not shown, `100-006` for an agent that is not
/// signed in, `100-007` (internal error, resource not reachable) when the client did nothing wrong, `000-002` for
/// everything else that the client sent wrong.
pub fn retcode_of(reason: Reason) -> &'static str {
    match reason {
        Reason::Ok => SUCCESS,
        Reason::NumberNotInPreview => "200-001",
        Reason::SignedOut => "100-006",
        Reason::Overloaded | Reason::UpstreamFailure | Reason::StoreUnavailable | Reason::InternalError => "100-007",
        Reason::UnknownPreview
        | Reason::ControlIdMismatch
        | Reason::PreviewExpired
        | Reason::MalformedBody
        | Reason::MissingField
        | Reason::InvalidAgentId
        | Reason::InvalidContentType
        | Reason::MissingGuid
        | Reason::MethodNotAllowed
        | Reason::AmbiguousPath
        | Reason::TooLarge
        | Reason::ForeignSession
        | Reason::ClientGone => "000-002",
    }
}

/// The text without a UTF-8 byte order mark.
pub(super) fn trim_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes_are_read_forgivingly() {
        let read = |text: &str| {
            let envelope = Envelope::read(text.as_bytes());
            (envelope.retcode.unwrap_or_default(), envelope.result.unwrap_or_default())
        };
        let pair = |retcode: &str, result: &str| (retcode.to_owned(), result.to_owned());
        assert_eq!(read(r#"{"message":"","retcode":"0","result":"1455885056-1095"}"#), pair("0", "1455885056-1095"));
        assert_eq!(read("\u{feff}{\"retcode\":\"100-006\"}"), pair("100-006", ""));
        assert_eq!(read(r#"{"retcode":0,"result":{"id":1},"x":[]}"#), pair("0", ""));
        assert_eq!(read("{\"retcode\":\"0\\u0000\"}"), pair("0", ""));
        for text in ["", "null", "[]", "<html>", r#"{"result":null}"#] {
            assert_eq!(read(text), pair("", ""), "{text}");
        }
    }

    #[test]
    fn a_refusal_is_an_envelope_without_result() {
        let body = refusal("say \"no\"\n", "000-002");
        assert_eq!(String::from_utf8(body.clone()).unwrap(), r#"{"message":"say \"no\"\n","retcode":"000-002"}"#);
        assert!(!Envelope::read(&body).is_success());
    }

    #[test]
    fn no_reason_but_ok_is_a_success() {
        for reason in Reason::ALL {
            assert_eq!(retcode_of(*reason) == SUCCESS, *reason == Reason::Ok, "{reason}");
        }
    }
}
