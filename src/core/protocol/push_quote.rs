//! Recognises a push address in text, whatever escapes it is written with.
//!
//! The platform gets push addresses in sign-ins and may repeat one in an answer: in JSON, in JSON within a string, in
//! markup, in a redirect, in UTF-16. The matcher undoes what escapes a character in any of these, at any depth. It never
//! changes what passes.

use std::io::{self, Write};

/// The beginning of each push address (`push_address`), in lower case.
const BEGINNING: &[u8] = b"previewgate/push/";
/// Longest escape of one character, an unfinished escape within it included: `&#x0000002f;` and the like.
const MAX_ESCAPE: usize = 16;

/// Finds the beginning of a push address in text that passes in pieces. The secret of an address is its end, so text that
/// is withheld from the piece on that completes the beginning gives nothing away.
#[derive(Debug, Default)]
pub struct AddressMatcher {
    /// What may become the beginning of an address: in lower case, complete escapes undone.
    window: Vec<u8>,
    found: bool,
}

impl AddressMatcher {
    /// Reads the next piece. The result says whether this piece, or an earlier one, has completed the beginning of an
    /// address.
    pub fn feed(&mut self, piece: &[u8]) -> bool {
        let mut rest = piece;
        while !self.found {
            if self.window.is_empty() {
                // Most bytes begin nothing.
                let start = rest.iter().position(|byte| may_begin(*byte)).unwrap_or(rest.len());
                rest = rest.get(start..).unwrap_or_default();
            }
            let Some((byte, after)) = rest.split_first() else { break };
            rest = after;
            // In UTF-16 and UTF-32, NULs stand between the letters.
            if *byte != 0 {
                self.advance(byte.to_ascii_lowercase());
            }
        }
        self.found
    }

    /// Whether the beginning of an address has been found.
    pub fn has_found(&self) -> bool {
        self.found
    }

    fn advance(&mut self, byte: u8) {
        self.window.push(byte);
        while undo_last_escape(&mut self.window) {}
        self.found = self.window.starts_with(BEGINNING);
        while !self.found && !is_viable(&self.window) {
            self.window.remove(0);
        }
    }
}

/// For decoders that write what they undo.
impl Write for AddressMatcher {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.feed(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether an address or an escape can begin with this byte.
fn may_begin(byte: u8) -> bool {
    matches!(byte, b'p' | b'P') || begins_escape(byte)
}

fn begins_escape(byte: u8) -> bool {
    matches!(byte, b'%' | b'=' | b'\\' | b'&')
}

/// Whether `window` is empty, or begins an address and ends at most in an unfinished escape.
fn is_viable(window: &[u8]) -> bool {
    let common = window.iter().zip(BEGINNING).take_while(|(one, other)| one == other).count();
    let rest = window.get(common..).unwrap_or_default();
    let unfinished = rest.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'#' || begins_escape(*byte));
    rest.first().is_none_or(|first| begins_escape(*first) && unfinished && rest.len() < MAX_ESCAPE)
}

/// Replaces the escape that `window` ends with by its character. Says whether there was one.
fn undo_last_escape(window: &mut Vec<u8>) -> bool {
    let Some((length, byte)) = last_escape(window) else { return false };
    window.truncate(window.len().saturating_sub(length));
    window.push(byte.to_ascii_lowercase());
    true
}

/// The length of the escape at the end of `text`, and the character that it stands for. Only ASCII is of interest, and
/// anything else stands for itself.
fn last_escape(text: &[u8]) -> Option<(usize, u8)> {
    match text {
        // Empty segments of a path mean nothing.
        [.., b'/', b'/'] => Some((2, b'/')),
        [.., b'\\', byte @ (b'/' | b'\\' | b'p')] => Some((2, *byte)),
        [.., b'%' | b'=', high, low] => Some((3, number(&[*high, *low], 16)?)),
        [.., b'\\', b'x', high, low] => Some((4, number(&[*high, *low], 16)?)),
        [.., b'\\', b'u', a, b, c, d] => Some((6, number(&[*a, *b, *c, *d], 16)?)),
        [before @ .., b';'] => entity(before).map(|(length, byte)| (length + 1, byte)),
        _ => None,
    }
}

/// A character reference of HTML or XML without its `;`.
fn entity(text: &[u8]) -> Option<(usize, u8)> {
    let start = text.iter().rposition(|byte| *byte == b'&')?;
    let name = text.get(start + 1..)?;
    let byte = match name {
        b"amp" => b'&',
        b"sol" => b'/',
        b"bsol" => b'\\',
        b"percnt" => b'%',
        b"equals" => b'=',
        [b'#', b'x', digits @ ..] => number(digits, 16)?,
        [b'#', digits @ ..] => number(digits, 10)?,
        _ => return None,
    };
    Some((name.len() + 1, byte))
}

/// The ASCII character with this number.
fn number(digits: &[u8], radix: u32) -> Option<u8> {
    let digits =
        std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u8::from_str_radix(digits, radix).ok().filter(u8::is_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn finds(text: impl AsRef<[u8]>) -> bool {
        AddressMatcher::default().feed(text.as_ref())
    }

    #[test]
    fn addresses_are_found_in_every_spelling() {
        for text in [
            r#"{"pushUrl":"https://gate/previewgate/push/push_url/101/1.x.y"}"#,
            r#"{"pushUrl":"https:\/\/gate\/previewgate\/push\/push\/101\/1.x.y"}"#,
            r#"{"pushUrl":"https:\u002F\u002fgate\u002Fpreviewgate\u002Fpush\u002Fpush"}"#,
            r#"{"pushUrl":"\u0070review\u0067ate/push/"}"#,
            r#""{\"pushUrl\":\"https:\\\/\\\/gate\\\/previewgate\\\/push\\\/push\"}""#,
            r#""\\u0070reviewgate\\u002fpush\\\\/""#,
            "callback=https%3A%2F%2Fgate%2Fpreviewgate%2Fpush%2Fpush%2F101%2F1.x.y",
            "callback=%2570reviewgate%252Fpush%25252fpush",
            "<a href='https:&#47;&#47;gate&#x2F;previewgate&#47;push&#x0000002f;push'>",
            "<a href='&amp;#112;reviewgate&sol;push&amp;sol;'>",
            "https=3A=2F=2Fgate=2Fpreviewgate=2Fpush=2Fpush",
            "/PreviewGate/PUSH/",
            "/previewgate//push/",
            "previewprevievpreviewgate/push/",
            "\\x70reviewgate\\x2fpush/",
            "&previewgate/push/",
            "%previewgate/push/",
            "=previewgate/push/",
            "&percnt;70reviewgate/push/",
            "&equals;70reviewgate/push/",
            "&bsol;u0070reviewgate&bsol;/push/",
        ] {
            assert!(finds(text), "{text}");
        }
        for text in [
            "",
            "/previewgate/",
            "previewgate push",
            "/previewgate/pushes/",
            "previewgat/push/",
            "/push/push/101",
            "previewgate%2",
            "previewgate%2fpush%",
            "previewgate/%00push/",
            "%%%%%%%%%%%%%%%%%%%%&&&&&&&&&&&&&&&&&&&&&&&&\\\\\\\\\\\\",
        ] {
            assert!(!finds(text), "{text}");
        }
        for utf_16 in [u16::to_le_bytes, u16::to_be_bytes] {
            let text = "https://gate/previewgate/push/push/101/".encode_utf16().flat_map(utf_16);
            assert!(finds(text.collect::<Vec<_>>()));
        }
    }

    /// One spelling of a character.
    fn spelled(character: char, spelling: u8) -> String {
        let code = u32::from(character);
        match spelling {
            0 => character.to_string(),
            1 => format!("\\u{code:04x}"),
            2 => format!("\\u{code:04X}"),
            3 => format!("%{code:02X}"),
            4 => format!("%{code:02x}"),
            5 => format!("%25{code:02x}"),
            6 => format!("&#{code};"),
            7 => format!("&#x{code:X};"),
            8 => format!("\\\\u{code:04x}"),
            9 => format!("&amp;#{code};"),
            10 => character.to_uppercase().to_string(),
            11 => format!("\0{character}"),
            12 => format!("={code:02X}"),
            _ => format!("%5cu{code:04x}"),
        }
    }

    #[test]
    fn decoders_write_to_it() {
        let mut matcher = AddressMatcher::default();
        assert_eq!(matcher.write(b"previewgate").unwrap(), 11);
        assert!(!matcher.has_found());
        matcher.write_all(b"/push/").unwrap();
        assert!(matcher.has_found());
    }

    #[test]
    fn the_window_stays_small_whatever_comes() {
        for text in ["%", "\\", "&", "&#", "=", "previewgate%", "p", "previewgate&#0", "%2", "\\u00"] {
            let mut matcher = AddressMatcher::default();
            assert!(!matcher.feed(text.repeat(1000).as_bytes()));
            assert!(matcher.window.len() <= BEGINNING.len() + MAX_ESCAPE, "{text}");
        }
    }

    proptest! {
        /// Each character in a spelling of its own, after any text, cut anywhere: the pieces before the one that is found
        /// do not hold the whole beginning.
        #[test]
        fn no_spelling_passes(
            before in prop::collection::vec(any::<u8>(), 0..60),
            spellings in prop::collection::vec(0..14_u8, BEGINNING.len()),
            cuts in prop::collection::vec(1..40_usize, 1..20),
        ) {
            let beginning = std::str::from_utf8(BEGINNING).unwrap();
            let address: String = beginning.chars().zip(&spellings).map(|(c, spelling)| spelled(c, *spelling)).collect();
            // A reader reads an escape that is cut off at the end of `before` together with the address.
            let body = [&before[..], b" ", address.as_bytes(), b"push/101/secret"].concat();
            let (mut matcher, mut rest, mut passed) = (AddressMatcher::default(), &body[..], 0);
            for cut in cuts.iter().cycle() {
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                if piece.is_empty() || matcher.feed(piece) {
                    break;
                }
                passed += piece.len();
                rest = after;
            }
            prop_assert!(matcher.has_found());
            prop_assert!(passed < before.len() + 1 + address.len());
        }

        #[test]
        fn pieces_are_read_as_the_whole(text in "[previwgatush/%\\\\&#;=02f7x]{0,80}", cut in 0..80_usize) {
            let mut matcher = AddressMatcher::default();
            let (one, other) = text.as_bytes().split_at(cut.min(text.len()));
            matcher.feed(one);
            prop_assert_eq!(matcher.feed(other), finds(&text));
            prop_assert_eq!(matcher.has_found(), finds(&text));
            prop_assert!(matcher.window.len() <= BEGINNING.len() + MAX_ESCAPE);
        }
    }
}
