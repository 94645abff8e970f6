//! Keeps the gateway's push addresses from clients. A client that has one can show an agent false previews.
//!
//! The platform gets such an address in a sign-in and may repeat it in an answer. The secret is its last part, the
//! signature. So a response is cut before the bytes that complete the beginning of an address.

use http::HeaderMap;
use memchr::memmem;

/// The word in the path of each push address (`protocol::push_address`).
const WORD: &[u8] = b"previewgate";
/// The spellings of `/` in JSON, URLs and markup.
const SLASHES: [&[u8]; 6] = [b"/", b"\\/", b"%2f", b"\\u002f", b"&#47;", b"&#x2f;"];
/// Longest beginning of an address, in bytes: two slashes and two words.
const MAX_BEGINNING: usize = 2 * 6 + 11 + 4;

/// Whether `text` contains the beginning of a push address.
pub(super) fn quotes_push_address(text: &[u8]) -> bool {
    memmem::find_iter(text, WORD).any(|position| {
        let rest = text.get(position + WORD.len()..).unwrap_or_default();
        let after_push = |rest: &[u8]| rest.strip_prefix(b"push").is_some_and(|rest| after_slash(rest).is_some());
        after_slash(rest).is_some_and(after_push)
    })
}

fn after_slash(text: &[u8]) -> Option<&[u8]> {
    SLASHES.iter().find_map(|slash| {
        let (start, rest) = text.split_at_checked(slash.len())?;
        start.eq_ignore_ascii_case(slash).then_some(rest)
    })
}

/// Whether a header field contains the beginning of a push address.
pub(super) fn fields_quote_push_address(headers: &HeaderMap) -> bool {
    headers.values().any(|value| quotes_push_address(value.as_bytes()))
}

/// Looks for push addresses in a body that passes in pieces.
#[derive(Default)]
pub(super) struct QuoteGuard {
    /// The end of what has passed: an address may begin there.
    tail: Vec<u8>,
}

impl QuoteGuard {
    /// Whether `piece` may pass.
    pub(super) fn allows(&mut self, piece: &[u8]) -> bool {
        let across = [&self.tail, piece.get(..MAX_BEGINNING).unwrap_or(piece)].concat();
        if quotes_push_address(&across) || quotes_push_address(piece) {
            return false;
        }
        self.tail.extend_from_slice(piece.get(piece.len().saturating_sub(MAX_BEGINNING)..).unwrap_or_default());
        self.tail.drain(..self.tail.len().saturating_sub(MAX_BEGINNING));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const QUOTES: [&str; 5] = [
        r#"{"pushUrl":"https://gate/previewgate/push/push_url/101/1.x.y"}"#,
        r#"{"pushUrl":"https:\/\/gate\/previewgate\/push\/push\/101\/1.x.y"}"#,
        r#"{"pushUrl":"https:\u002F\u002fgate\u002Fpreviewgate\u002Fpush\u002Fpush"}"#,
        "callback=https%3A%2F%2Fgate%2Fpreviewgate%2Fpush%2Fpush%2F101%2F1.x.y",
        "<a href='https:&#47;&#47;gate&#x2F;previewgate&#47;push&#47;push'>",
    ];

    #[test]
    fn addresses_are_found_in_every_spelling() {
        for text in QUOTES {
            assert!(quotes_push_address(text.as_bytes()), "{text}");
        }
        for text in
            ["", "/previewgate/", "previewgate push", "/previewgate/pushes/", "previewgat/push/", "/push/push/101"]
        {
            assert!(!quotes_push_address(text.as_bytes()), "{text}");
        }
    }

    proptest! {
        /// However a body is cut into pieces, the piece that completes the beginning of an address does not pass.
        #[test]
        fn no_address_passes_in_pieces(
            text in prop::sample::select(QUOTES.to_vec()),
            lead in 0..200_usize,
            cuts in prop::collection::vec(1..40_usize, 1..20),
        ) {
            let body = [" ".repeat(lead).as_bytes(), text.as_bytes()].concat();
            let (mut guard, mut rest, mut passed) = (QuoteGuard::default(), &body[..], Vec::new());
            for cut in cuts.iter().cycle() {
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                if piece.is_empty() || !guard.allows(piece) {
                    break;
                }
                passed.extend_from_slice(piece);
                rest = after;
            }
            prop_assert!(!quotes_push_address(&passed));
        }
    }
}
