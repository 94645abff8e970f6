//! How telephone numbers, and text that a client chose, appear in the log.

use std::borrow::Cow;
use std::fmt::{self, Write};

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{hmac, rand};

use crate::bounded_text::BoundedText;
use crate::preview::DialedNumber;

/// Maximum length of a number in a log line; `dialeddigits` holds 24 characters for one number (docs/protocol.md 5).
const MAX_NUMBER: usize = 64;

/// Masks and hashes numbers for the log.
#[derive(Debug)]
pub struct Redactor {
    mask_numbers: bool,
    key: HashKey,
}

impl Redactor {
    /// With `mask_numbers = false` numbers are shown in full. The operator decides this in `[log]`.
    pub fn new(mask_numbers: bool, key: HashKey) -> Self {
        Self { mask_numbers, key }
    }

    /// The number as the log shows it.
    pub fn shown<'a>(&self, number: &'a DialedNumber) -> ShownNumber<'a> {
        ShownNumber { number, mask: self.mask_numbers }
    }

    /// A hash that is equal for equal numbers under one key, so that log entries correlate. Without the key, the number
    /// cannot be found by hashing all telephone numbers.
    pub fn hash(&self, number: &DialedNumber) -> CalledHash {
        let tag = hmac::sign(&self.key.0, number.reveal().as_bytes());
        let mut start = [0; 8];
        for (to, from) in start.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        CalledHash(u64::from_be_bytes(start))
    }
}

/// The key of [`Redactor::hash`].
pub struct HashKey(hmac::Key);

impl HashKey {
    /// Makes a key from the content of `log.hash_key`.
    pub fn from_bytes(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// Makes a random key: log entries correlate until the next start.
    ///
    /// # Errors
    /// The system returned no random bytes.
    pub fn random() -> Result<Self, Unspecified> {
        hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new()).map(Self)
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(…)")
    }
}

/// 64 bits of a keyed hash; `Display` writes 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CalledHash(u64);

impl CalledHash {
    /// As text, without the machinery of `format!`: each decision line has one.
    pub(super) fn text(self) -> BoundedText<16> {
        let mut text = BoundedText::default();
        text.push_hex(self.0, 16);
        text
    }
}

impl fmt::Display for CalledHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

/// A number as the log shows it: masked, unless `log.mask_numbers` is false.
pub struct ShownNumber<'a> {
    number: &'a DialedNumber,
    mask: bool,
}

impl fmt::Display for ShownNumber<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.mask {
            fmt::Display::fmt(&sanitized(self.number.masked(), MAX_NUMBER), f)
        } else {
            fmt::Display::fmt(&sanitized(self.number.reveal(), MAX_NUMBER), f)
        }
    }
}

/// Untrusted text made safe for a message: a bounded number of characters, unprintable ones escaped.
pub struct LogText<T> {
    text: T,
    max: usize,
}

/// At most `max` characters of `text`, unprintable ones escaped. Longer text is cut and ends in `…`.
///
/// ```
/// # use previewgate_core as previewgate;
/// use previewgate::telemetry::sanitized;
/// assert_eq!(sanitized("one\ntwo", 100).to_string(), "one\\ntwo");
/// assert_eq!(sanitized("one two", 3).to_string(), "one…");
/// ```
pub fn sanitized<T: fmt::Display>(text: T, max: usize) -> LogText<T> {
    LogText { text, max }
}

/// [`sanitized`] text. It is borrowed if it is short and printable, as nearly every text is.
pub fn bounded(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max && is_printable_ascii(text) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(sanitized(text, max).to_string())
}

impl<T: fmt::Display> fmt::Display for LogText<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bounded = Bounded { out: f, left: self.max, overflowed: false };
        let result = write!(bounded, "{}", self.text);
        if bounded.overflowed { f.write_char('…') } else { result }
    }
}

impl<T: fmt::Display> fmt::Debug for LogText<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

struct Bounded<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    left: usize,
    overflowed: bool,
}

impl Write for Bounded<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // The common case: printable ASCII that fits.
        if text.len() <= self.left && is_printable_ascii(text) {
            self.left -= text.len();
            return self.out.write_str(text);
        }
        for character in text.chars() {
            if self.left == 0 {
                self.overflowed = true;
                // Stops formatting the rest of the text.
                return Err(fmt::Error);
            }
            self.left -= 1;
            if is_unprintable(character) {
                write!(self.out, "{}", character.escape_default())?;
            } else {
                self.out.write_char(character)?;
            }
        }
        Ok(())
    }
}

/// Whether the text can stay as it is. Looks at all bytes: without an early end, the compiler takes many at a time.
pub fn is_printable_ascii(text: &str) -> bool {
    text.bytes().fold(true, |printable, byte| printable & (b' '..=b'~').contains(&byte))
}

/// Control characters (C0, DEL, C1), line and paragraph separators, and characters that change the direction of text.
/// Characters with which a terminal or viewer could show text that was not logged.
pub(super) fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(digits: &str) -> DialedNumber {
        DialedNumber::new(digits)
    }

    #[test]
    fn the_hash_depends_on_number_and_key_only() {
        let redactor = |key: &[u8]| Redactor::new(true, HashKey::from_bytes(key));
        let hash = redactor(b"sixteen bytes...").hash(&number("88889039")).to_string();
        assert_eq!(hash.len(), 16);
        assert!(hash.bytes().all(|b| b.is_ascii_hexdigit()));
        assert_eq!(redactor(b"sixteen bytes...").hash(&number("88889039")).to_string(), hash);
        assert_ne!(redactor(b"sixteen bytes...").hash(&number("88889038")).to_string(), hash);
        assert_ne!(redactor(b"another key.....").hash(&number("88889039")).to_string(), hash);
        let random = || Redactor::new(true, HashKey::random().unwrap()).hash(&number("88889039"));
        assert_ne!(random(), random());
    }

    #[test]
    fn the_hash_is_hmac_sha256() {
        // RFC 4231, test case 2: key "Jefe", data "what do ya want for nothing?".
        let redactor = Redactor::new(true, HashKey::from_bytes(b"Jefe"));
        assert_eq!(redactor.hash(&number("what do ya want for nothing?")).to_string(), "5bdcc146bf60754e");
    }

    #[test]
    fn numbers_are_masked_unless_masking_is_off() {
        let shown = |mask| Redactor::new(mask, HashKey::from_bytes(b"k")).shown(&number("88889039")).to_string();
        assert_eq!(shown(true), "******39");
        assert_eq!(shown(false), "88889039");
    }

    #[test]
    fn a_number_as_long_as_a_body_stays_short_in_the_log() {
        let long = number(&"7".repeat(30_000));
        for mask in [true, false] {
            let shown = Redactor::new(mask, HashKey::from_bytes(b"k")).shown(&long).to_string();
            assert_eq!(shown.chars().count(), MAX_NUMBER + 1);
        }
    }

    #[test]
    fn untrusted_text_becomes_printable_and_bounded() {
        let hostile = "a\r\nlevel=ERROR \u{1b}[2J\u{9b}2J\u{202e}\0\u{2028}";
        let shown = sanitized(hostile, 1000).to_string();
        assert_eq!(shown, "a\\r\\nlevel=ERROR \\u{1b}[2J\\u{9b}2J\\u{202e}\\u{0}\\u{2028}");
        assert_eq!(sanitized("äöü", 3).to_string(), "äöü");
        assert_eq!(sanitized("äöüß", 3).to_string(), "äöü…");
        assert_eq!(sanitized("", 0).to_string(), "");
    }

    #[test]
    fn debug_shows_no_key() {
        assert_eq!(format!("{:?}", HashKey::from_bytes(b"secret")), "HashKey(…)");
    }
}
