//! The vendor's response envelope: `message`, `retcode`, `result` (docs/protocol.md 3).

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;

use super::answer::{self, AnswerReader};

use crate::preview::Reason;

/// The `retcode` of a success.
pub const SUCCESS: &str = answer::SUCCESS;

/// The parts of an envelope that the gateway reads. It ignores unknown members; `retcode` may be a string or a number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// `"0"` is success; `None` if the answer is not an envelope.
    pub retcode: Option<Cow<'static, str>>,
    /// The call ID in the answer to a `previewCallout`. All that keep it share it.
    pub result: Option<Arc<str>>,
}

/// The outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream executed the request.
    Success,
    /// The upstream refused the request, and its code says why.
    Failure(String),
    /// The answer does not show the outcome: it is broken, or no envelope, or has two different return codes.
    Unreadable,
}

impl Envelope {
    /// Reads an answer of any size and depth, as forgivingly as events. An answer that is no envelope, or not a whole one,
    /// has neither member.
    pub fn read(body: &[u8]) -> Self {
        let mut reader = AnswerReader::new();
        reader.feed(body);
        let (retcode, result) = reader.finish().map(|answer| answer.retcode_and_result()).unwrap_or_default();
        Self { retcode, result }
    }

    /// The outcome that the answer shows.
    pub fn outcome(&self) -> Outcome {
        match self.retcode.as_deref() {
            Some(SUCCESS) => Outcome::Success,
            Some("") | None => Outcome::Unreadable,
            Some(code) => Outcome::Failure(code.to_owned()),
        }
    }

    /// Whether the upstream executed the request.
    pub fn is_success(&self) -> bool {
        self.outcome() == Outcome::Success
    }
}

/// Whether a `retcode` says that the agent has no session: not signed in (100-006) or signed out (100-008).
pub fn says_signed_out(retcode: &str) -> bool {
    matches!(retcode, "100-006" | "100-008")
}

/// Whether a part of an answer may contain such a `retcode`, for readers that must not hold back answers without one.
pub fn may_say_signed_out(part: &[u8]) -> bool {
    part.windows(6).any(|window| window == b"100-00")
}

/// The envelope of a response that the gateway makes itself. It has no `result`, as every failure.
pub fn refusal(message: &str, retcode: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Members<'a> {
        message: &'a str,
        retcode: &'a str,
    }
    // Serializing two strings into memory cannot fail. If it did, an empty body would do the least harm.
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
        Reason::Overloaded
        | Reason::UpstreamFailure
        | Reason::StoreUnavailable
        | Reason::AuditUnavailable
        | Reason::InternalError => "100-007",
        Reason::UnknownPreview
        | Reason::ControlIdMismatch
        | Reason::PreviewExpired
        | Reason::NumberUsed
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes_are_read_forgivingly() {
        let read = |text: &str| {
            let envelope = Envelope::read(text.as_bytes());
            (envelope.retcode.unwrap_or_default().into_owned(), envelope.result.unwrap_or_default().to_string())
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
    fn every_answer_has_one_of_three_outcomes() {
        let outcome = |text: &str| Envelope::read(text.as_bytes()).outcome();
        let large = "x".repeat(70_000);
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        for success in [
            r#"{"retcode":"0"}"#,
            "{\"RetCode\":\"0\\u0000\\u0000\"}\0\0",
            "\0\0{\"retcode\":\"0\0\",\"message\":\"a\tb\nc\u{1}\"}",
            r#" { "retcode" : " 0 " , "RETCODE" : 0 } "#,
            &format!(r#"{{"message":"{large}","result":{{"retcode":"1","x":{deep}}},"retcode":"0"}}"#),
        ] {
            assert_eq!(outcome(success), Outcome::Success, "{success:.80}");
        }
        assert_eq!(outcome(r#"{"retcode":"100-006","Retcode":"100-006"}"#), Outcome::Failure("100-006".to_owned()));
        for unreadable in [
            "",
            "<html>",
            "[]",
            "{}",
            r#"{"retcode":null}"#,
            r#"{"retcode":""}"#,
            r#"{"retcode":{"retcode":"0"}}"#,
            r#"{"retcode":"0","RetCode":"100-006"}"#,
            r#"{"retcode":"0","result":"#,
            r#"{"retcode":"0"} {"retcode":"1"}"#,
        ] {
            assert_eq!(outcome(unreadable), Outcome::Unreadable, "{unreadable}");
        }
        // In GBK the last character ends with a backslash.
        assert!(Envelope::read(b"{\"message\":\"\xbf\x5c\",\"retcode\":\"0\"}").is_success());
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

    #[test]
    fn codes_of_agents_without_a_session() {
        for (code, says, may) in [
            ("100-006", true, true),
            ("100-008", true, true),
            ("100-007", false, true),
            ("100-00", false, true),
            ("100-0", false, false),
            ("0", false, false),
            ("", false, false),
        ] {
            assert_eq!((says_signed_out(code), may_say_signed_out(code.as_bytes())), (says, may), "{code}");
        }
        assert!(may_say_signed_out(br#"{"message":"x","retcode":"100-006"}"#));
    }
}
