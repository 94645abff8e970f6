//! The trace that a request belongs to, from `traceparent` (W3C Trace Context).

use std::fmt;
use std::num::NonZero;

use http::HeaderMap;
use http::header::HeaderName;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// `00-`, 32 digits, `-`, 16 digits, `-`, 2 digits.
const VERSION_0_LENGTH: usize = 55;

/// The ID of a trace: 32 hexadecimal digits, not all of them zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TraceId(NonZero<u128>);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl TraceId {
    /// The trace of a request. `None` without exactly one valid `traceparent`.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut fields = headers.get_all(TRACEPARENT).iter();
        let field = fields.next()?.as_bytes().trim_ascii();
        if fields.next().is_some() { None } else { parse(str::from_utf8(field).ok()?) }
    }
}

fn parse(text: &str) -> Option<TraceId> {
    // A later version may have more fields behind these four.
    let mut fields = text.splitn(5, '-');
    let version = hex::<2>(fields.next()?)?;
    let trace = hex::<32>(fields.next()?)?;
    let parent = hex::<16>(fields.next()?)?;
    hex::<2>(fields.next()?)?;
    let is_known = match version {
        0 => text.len() == VERSION_0_LENGTH,
        0xff => false,
        _ => true,
    };
    (is_known && parent != 0).then_some(TraceId(NonZero::new(trace)?))
}

/// Exactly `DIGITS` hexadecimal digits, without capital letters.
fn hex<const DIGITS: usize>(text: &str) -> Option<u128> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == DIGITS && text.bytes().all(is_digit)).then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_fields_name_their_trace() {
        for (text, expected) in [
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "4bf92f3577b34da6a3ce929d0e0e4736"),
            ("00-0000000000000000000000000000000a-00f067aa0ba902b7-00", "0000000000000000000000000000000a"),
            (
                "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more-to-come",
                "4bf92f3577b34da6a3ce929d0e0e4736",
            ),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn invalid_fields_name_no_trace() {
        for text in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-a-b-01",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn two_fields_name_no_trace() {
        let field = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse::<http::HeaderValue>().unwrap();
        let mut headers = HeaderMap::from_iter([(TRACEPARENT, field.clone())]);
        assert!(TraceId::of(&headers).is_some());
        headers.append(TRACEPARENT, field);
        assert_eq!(TraceId::of(&headers), None);
    }
}
