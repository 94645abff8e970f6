//! The most lenient readings of a path: those of *any* server, router or filter that may stand behind the gateway.
//!
//! They serve only to refuse. `resource` reads a plain path exactly. A path that is not plain is decoded until nothing
//! is left to decode, cut at each character that some parser takes for the end of a segment, and stripped of each
//! character that some parser ignores. If a guarded word appears then, the path is refused. Otherwise the path passes
//! unchanged, because no server can read a guarded operation in it.
//!
//! More decoding does not find more: an odd form that means a letter to one server is dropped by another, or ends
//! what that one reads. So a text with such forms is decoded in two ways: see [`each_decoding`].
//!
//! Each text is decoded once and searched once, whatever the question. The work for each byte is bounded: a client that
//! sends the longest head that is allowed costs well under a millisecond. `worst_cases` in the tests counts it.

use std::cell::OnceCell;

use super::folded::{Folded, each_compatible, work};

const CALLOUT: &[u8] = b"previewcallout";

/// A path, and its readings, which are computed when they are first needed.
pub(super) struct Path<'a> {
    /// As the client spelled it.
    pub(super) text: &'a str,
    readings: OnceCell<Readings>,
}

impl<'a> Path<'a> {
    /// A path that is not read yet.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, readings: OnceCell::new() }
    }

    /// What some server may find in it.
    pub(super) fn readings(&self) -> Readings {
        *self.readings.get_or_init(|| Readings::of(self.text.as_bytes()))
    }
}

/// What some reading of a path is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Readings {
    /// A path that leaves its folder by `..`.
    pub(super) climbs: bool,
    /// A guarded operation: a callout, a poll, or a request that ends a preview.
    pub(super) is_guarded: bool,
    /// A path that mentions the guarded resource.
    pub(super) mentions_callout: bool,
}

impl Readings {
    /// The readings of a path in a header field, or of one that was never text. A byte that is not ASCII is read like a
    /// percent-encoded one, because servers disagree about both in the same way.
    pub(super) fn of(path: &[u8]) -> Self {
        let mut readings = Self::default();
        each_decoding(path, |decoded| {
            let mut words = Words::default();
            decoded.split(['/', '\\']).for_each(|segment| words.segment(segment));
            readings = readings.or(words.readings());
        });
        readings
    }

    fn or(self, other: Self) -> Self {
        Self {
            climbs: self.climbs || other.climbs,
            is_guarded: self.is_guarded || other.is_guarded,
            mentions_callout: self.mentions_callout || other.mentions_callout,
        }
    }
}

/// The words that matter, as far as they were found.
#[derive(Default)]
struct Words {
    climbs: bool,
    callout: bool,
    cancel_or_events: bool,
    quality_control: bool,
    session: bool,
    /// The number of real segments behind the last `onlineagent`.
    behind_online_agent: Option<usize>,
}

impl Words {
    fn segment(&mut self, segment: &str) {
        let mut is_online_agent = false;
        for token in segment.split(TOKEN_ENDS) {
            self.climbs |= is_without_skipped(token, "..");
            each_reading(token, |word| match word {
                CALLOUT => self.callout = true,
                b"cancelpreviewcallout" | b"agentevent" => self.cancel_or_events = true,
                b"onlineagent" => is_online_agent = true,
                b"qualitycontrol" => self.quality_control = true,
                b"forcelogin" | b"loginex" | b"logout" | b"forcelogout" => self.session = true,
                _ => {}
            });
        }
        if is_online_agent {
            self.behind_online_agent = Some(0);
        } else if !is_without_skipped(segment, "")
            && !is_without_skipped(segment, ".")
            && let Some(count) = &mut self.behind_online_agent
        {
            *count += 1;
        }
    }

    fn readings(&self) -> Readings {
        let signs_in_or_out = self.behind_online_agent.is_some_and(|segments| {
            // At most one segment follows: `onlineagent/{id}` itself is the sign-in. A `..` may take the others away.
            self.session || segments <= 1 || self.climbs
        });
        let is_guarded =
            self.callout || self.cancel_or_events || signs_in_or_out || (self.quality_control && self.session);
        Readings { climbs: self.climbs, is_guarded, mentions_callout: self.callout }
    }
}

/// The segments of a path that has one reading.
#[derive(Clone, Copy)]
pub(super) struct Segments<'a> {
    path: &'a str,
    /// The first ones; the others are empty. No path that matters has more.
    pub(super) first: [&'a str; 5],
    /// How many there are.
    pub(super) count: usize,
}

impl<'a> Segments<'a> {
    /// The segments of `path` if each has exactly one reading: non-empty, unreserved characters only (RFC 3986 2.3), no
    /// dot segment. One trailing `/` is allowed unless the last segment names the guarded resource: routers ignore it.
    pub(super) fn of(path: &'a str) -> Option<Self> {
        let trimmed = path.strip_suffix('/').unwrap_or(path);
        let mut segments = Self { path: trimmed, first: [""; 5], count: 0 };
        for segment in trimmed.split('/') {
            if !is_plain(segment) {
                return None;
            }
            if let Some(place) = segments.first.get_mut(segments.count) {
                *place = segment;
            }
            segments.count += 1;
        }
        let slash_matters = trimmed.len() != path.len() && trimmed.rsplit('/').next().is_some_and(names_callout);
        (!slash_matters).then_some(segments)
    }

    /// Whether one of them might be taken for `previewCallout`.
    pub(super) fn mention_callout(self) -> bool {
        self.path.split('/').any(names_callout)
    }

    /// The same segments, the last one without its suffix, if it has one.
    pub(super) fn without_suffix(mut self) -> Option<Self> {
        let (stem, _) = self.path.rsplit('/').next()?.split_once('.')?;
        if let Some(last) = self.count.checked_sub(1).and_then(|last| self.first.get_mut(last)) {
            *last = stem;
        }
        Some(self)
    }
}

fn is_plain(segment: &str) -> bool {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(unreserved)
}

/// Whether a segment might be taken for `previewCallout`.
pub(super) fn names_callout(segment: &str) -> bool {
    let mut found = false;
    each_reading(segment, |reading| found |= reading == CALLOUT);
    found
}

/// Whether some number parser would accept the text (`0101`, `-101`, `0x65`).
pub(super) fn may_be_a_number(text: &str) -> bool {
    let digits = text.trim_start_matches(['-', '+']);
    let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    match hexadecimal {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'),
    }
}

/// What some parser takes for the end of a segment, besides `/` and `\`.
const TOKEN_ENDS: [char; 3] = [';', '?', '#'];

/// Calls `seen` with all that `token` may be to a reader who ignores case, compatibility forms and everything that is
/// not a letter or digit, and who may stop at such a character (`previewCallout.json`, `previewCallout%00x`). Readings
/// longer than any word that matters are left out.
fn each_reading(token: &str, mut seen: impl FnMut(&[u8])) {
    let mut folded = Folded::default();
    let mut reported = 0;
    for character in token.chars() {
        let may_end = folded.push(character) == 0;
        let Some(word) = folded.word() else { return };
        if may_end && word.len() > reported {
            seen(word);
            reported = word.len();
        }
    }
    if let Some(word) = folded.word().filter(|word| word.len() > reported) {
        seen(word);
    }
}

/// Calls `seen` with each decoding of `text` that some server may have: the most forgiving one, and, if the text has bytes
/// beyond ASCII, that of a server which finds no letter in them. Such a server drops or replaces what it cannot decode, or
/// stops there. In the second decoding, [`SKIPPED`] stands for each of those bytes.
pub(super) fn each_decoding(text: &[u8], mut seen: impl FnMut(&str)) {
    if text.is_ascii() && !text.contains(&b'%') {
        return seen(&String::from_utf8_lossy(text));
    }
    let forgiving = Decoder::decode(text, Beyond::Forms);
    let is_ascii = forgiving.is_ascii;
    seen(&forgiving.into_text());
    if !is_ascii {
        seen(&Decoder::decode(text, Beyond::Nothing).into_text());
    }
}

/// Percent-decodes (`%70`, and `%u0070` as some servers do) until nothing is left to decode, in whatever mixture. One pass,
/// however deep the nesting: whatever is completed by a byte is decoded at once.
struct Decoder {
    beyond: Beyond,
    decoded: Vec<u8>,
    /// What escapes stand for and was not looked at yet, the last byte first.
    pending: Vec<u8>,
    /// No byte beyond ASCII was found so far.
    is_ascii: bool,
}

/// The meaning of bytes beyond ASCII.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beyond {
    /// They are UTF-8, read as forgivingly as the worst decoder does: overlong and compatibility forms count as the
    /// characters that they stand for.
    Forms,
    /// They mean nothing.
    Nothing,
}

/// Stands for a byte that means nothing. No letter, so a word may end there or go on.
const SKIPPED: u8 = 0x7f;

/// Whether `text` is `expected` to a reader who skips what means nothing.
fn is_without_skipped(text: &str, expected: &str) -> bool {
    text.bytes().filter(|byte| *byte != SKIPPED).eq(expected.bytes())
}

impl Decoder {
    fn decode(text: &[u8], beyond: Beyond) -> Self {
        let decoded = Vec::with_capacity(text.len() + 16);
        let mut decoder = Self { beyond, decoded, pending: Vec::new(), is_ascii: true };
        text.iter().for_each(|byte| decoder.push(*byte));
        decoder
    }

    fn into_text(self) -> String {
        String::from_utf8(self.decoded).unwrap_or_else(|error| forgiving_utf8(error.as_bytes()))
    }

    /// Each step takes a byte of the input or makes the text shorter, or plainer, so their number is bounded.
    fn push(&mut self, byte: u8) {
        self.pending.push(byte);
        while let Some(byte) = self.pending.pop() {
            work::count();
            self.is_ascii &= byte.is_ascii();
            if self.beyond == Beyond::Nothing && !byte.is_ascii() {
                self.decoded.push(SKIPPED);
                continue;
            }
            self.decoded.push(byte);
            if byte.is_ascii_hexdigit() {
                self.percent();
            } else if matches!(byte, 0x80..=0xbf) {
                self.character();
            }
        }
    }

    /// Replaces the escape that the text ends with, if it does.
    fn percent(&mut self) {
        match *self.decoded.as_slice() {
            [.., b'%', a, b] => {
                if let Some(byte) = hex_pair(a, b) {
                    self.replace(3, &[byte]);
                }
            }
            [.., b'%', b'u' | b'U', a, b, c, d] => {
                if let (Some(high), Some(low)) = (hex_pair(a, b), hex_pair(c, d)) {
                    let unit = u16::from_be_bytes([high, low]);
                    let character = char::from_u32(unit.into()).unwrap_or(char::REPLACEMENT_CHARACTER);
                    self.replace(6, character.encode_utf8(&mut [0; 4]).as_bytes());
                }
            }
            _ => {}
        }
    }

    /// Replaces the character that the text ends with, if it is an overlong form, or if all of it is ASCII to a reader who
    /// ignores compatibility forms.
    fn character(&mut self) {
        let joined = |high: u8, low: u8| [(high & 1) * 64 + (low & 0x3f)];
        match *self.decoded.as_slice() {
            [.., a @ 0xc0..=0xc1, b] => self.replace(2, &joined(a, b)),
            [.., 0xf0, 0x80, a @ 0x80..=0x81, b] => self.replace(4, &joined(a, b)),
            [.., 0xe0, a @ 0x80..=0x81, b] => self.replace(3, &joined(a, b)),
            _ => {
                if let Some(character) = last_character(&self.decoded) {
                    self.in_ascii(character);
                }
            }
        }
    }

    fn in_ascii(&mut self, character: char) {
        let start = self.pending.len();
        let mut is_ascii = true;
        each_compatible(character, |part| {
            is_ascii &= part.is_ascii();
            self.pending.push(u8::try_from(part).unwrap_or_default());
        });
        if is_ascii {
            self.decoded.truncate(self.decoded.len().saturating_sub(character.len_utf8()));
            self.pending.get_mut(start..).unwrap_or_default().reverse();
        } else {
            self.pending.truncate(start);
        }
    }

    fn replace(&mut self, length: usize, meant: &[u8]) {
        self.decoded.truncate(self.decoded.len().saturating_sub(length));
        self.pending.extend(meant.iter().rev());
    }
}

/// The character that `bytes`, which end with a continuation byte, end with.
fn last_character(bytes: &[u8]) -> Option<char> {
    let length = match *bytes {
        [.., 0xc2..=0xdf, _] => 2,
        [.., 0xe0..=0xef, _, _] => 3,
        [.., 0xf0..=0xf4, _, _, _] => 4,
        _ => return None,
    };
    let tail = bytes.get(bytes.len().checked_sub(length)?..)?;
    std::str::from_utf8(tail).ok()?.chars().next()
}

fn hex_pair(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    Some(digit(high)? * 16 + digit(low)?)
}

/// UTF-8, overlong forms included. A byte that is no part of such a form stands for the character of its number.
fn forgiving_utf8(mut rest: &[u8]) -> String {
    let mut text = String::with_capacity(rest.len());
    while let Some((&first, tail)) = rest.split_first() {
        let (bits, more) = match first {
            0xc0..=0xdf => (first & 0x1f, 1),
            0xe0..=0xef => (first & 0x0f, 2),
            0xf0..=0xf7 => (first & 0x07, 3),
            _ => (first, 0),
        };
        let is_whole = |form: &[u8]| form.iter().all(|byte| matches!(byte, 0x80..=0xbf));
        let (form, behind) = tail.split_at_checked(more).filter(|(form, _)| is_whole(form)).unwrap_or((&[], tail));
        let bits = if form.len() == more { bits } else { first };
        let code = form.iter().fold(u32::from(bits), |code, byte| code * 64 + u32::from(byte & 0x3f));
        text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        rest = behind;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decoding_goes_on_until_nothing_changes() {
        for (encoded, expected) in [
            ("a%2fb", "a/b"),
            ("a%252fb", "a/b"),
            ("a%25252Fb", "a/b"),
            ("%u0070%U0041", "pA"),
            ("%zz%4", "%zz%4"),
            ("%c1%b0%e0%81%b0%f0%80%81%b0", "ppp"),
            ("%E4%BD%A0", "你"),
            ("%ff", "ÿ"),
            ("%e0%80%a525%C0%B55", "U"),
            ("a%EF%BC%8Fb%EF%BC%8570", "a/bp"),
            ("a%EF%B9%A8b%EF%B9%AA70%E2%80%A5", "a\\bp.."),
            ("%%3235", "#5"),
            ("%u0%2541%u%3070041", "%u0A\u{700}41"),
            // A compatibility form completes an escape with its first character.
            ("previewCallou%7⒋", "previewCallout."),
            ("%u007⒋%u32%CF%80", "t.%u32π"),
            // Forms of two, three and four bytes that are a digit.
            ("%6²%6①%6𝟏", "baa"),
            ("%E3%81%82%uD800%u4F60", "あ\u{fffd}你"),
            // With a byte that is no UTF-8, all else is read forgivingly.
            ("%ff%C5%B7%E4%BD%A0%F0%9F%98%80%F4%8F%BF%BF", "ÿŷ你😀\u{10ffff}"),
            ("%ff%E0%82%AA%F0%8F%BD%90%F0%80%82%AA", "ÿªｐª"),
            ("%C5", "Å"),
            ("%E4%BDx%F0%9D%94", "ä½xð\u{9d}\u{94}"),
            ("%C3%C3%A9%bf%F8%88%F7%BF%BF%BF", "Ãé¿ø\u{88}\u{fffd}"),
        ] {
            assert_eq!(decodings(encoded)[0], expected, "{encoded}");
        }
    }

    fn decodings(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        each_decoding(text.as_bytes(), |decoded| found.push(decoded.to_owned()));
        found
    }

    #[test]
    fn a_text_beyond_ascii_has_a_second_decoding_without_those_bytes() {
        assert_eq!(decodings("a/b"), ["a/b"]);
        assert_eq!(decodings("%2561%u0062"), ["ab"]);
        assert_eq!(decodings("a%ff%u4f60b"), ["aÿ你b", "a\u{7f}\u{7f}\u{7f}\u{7f}b"]);
        assert_eq!(decodings("%a㏂"), ["ª.m.", "%a\u{7f}\u{7f}\u{7f}"]);
        assert_eq!(decodings("%EF%BC%856%66"), ["o", "\u{7f}\u{7f}\u{7f}6f"]);
    }

    /// Forms that are letters to a forgiving reader, and nothing, or the end of the text, to another one.
    const FORMS: [&str; 11] = [
        "%c1%b0",
        "%C0%80",
        "%e0%81%b0",
        "%f0%80%81%b0",
        "%ff",
        "\u{e9}",
        "%C3%A9",
        "%uff50",
        "%E2%93%92",
        "%F4%90%80%80",
        "%25c1%25b0",
    ];
    /// Escapes for a decoder that takes the last character for a digit. Other decoders may stop there.
    const ENDS: [&str; 4] = ["%a㏂", "%7⒋", "%u006①", "%%36①"];

    #[test]
    fn a_form_that_may_mean_nothing_hides_no_word() {
        let readings = |path: String| Readings::of(path.as_bytes());
        for form in FORMS {
            for at in 0..=14 {
                let (before, after) = "previewCallout".split_at(at);
                assert!(readings(format!("voicecall/101/{before}{form}{after}")).mentions_callout, "{form} at {at}");
            }
            for path in
                ["agentevent", "onlineagent/101", "onlineagent", "onlineagent/101/logout", "cancelPreviewCallout"]
            {
                for path in
                    [format!("{path}{form}"), format!("{form}{path}"), path.replace("agent", &format!("agent{form}"))]
                {
                    assert!(readings(path.clone()).is_guarded, "{path}");
                }
            }
            assert!(readings(format!("a/.{form}./b")).climbs, "{form}");
            assert!(readings(format!("onlineagent/101/{form}/.{form}")).is_guarded, "{form}");
            assert!(!readings(format!("voicecall/101/{form}answer{form}")).is_guarded, "{form}");
        }
        for end in ENDS {
            for word in
                ["agentevent", "onlineagent", "previewCallout", "cancelPreviewCallout", "qualitycontrol/1/logout"]
            {
                assert!(readings(format!("{word}{end}")).is_guarded, "{word}{end}");
                let escaped = word.replace('e', "%65").replace('o', "%256f").replace('g', "%u0067");
                assert!(readings(format!("{escaped}{end}/x")).is_guarded || word.contains('/'), "{escaped}{end}");
            }
        }
    }

    #[test]
    fn words_are_recognised_in_disguise_but_not_within_longer_words() {
        for disguise in [
            "previewCallout",
            "PREVIEWCALLOUT",
            "previewCallout.json",
            "preview-callout",
            "\0previewCallout ",
            "ｐreⓥi𝔢w𝑪alℓout",
            "preview㎈lout",
        ] {
            assert!(names_callout(disguise), "{disguise:?}");
        }
        for other in ["cancelPreviewCallout", "previewCalloutHistory", "previewCall", "callout", ""] {
            assert!(!names_callout(other), "{other:?}");
        }
    }

    #[test]
    fn paths_that_may_be_guarded() {
        let guarded = |path: &str| Readings::of(path.as_bytes()).is_guarded;
        for path in [
            "a/agentevent;x/101",
            "onlineagent/101",
            "x/onlineagent",
            "onlineagent/101/x/..",
            "onlineagent/x/onlineagent/101",
            "qualitycontrol/1/forcelogout",
        ] {
            assert!(guarded(path), "{path}");
        }
        for path in ["", "onlineagent/101/handshake", "qualitycontrol/1/x", "logout", "calls/forcelogout"] {
            assert!(!guarded(path), "{path}");
        }
    }

    /// Pieces of hostile text: long compatibility forms, characters that turn into ASCII, deep encodings, marks.
    const PIECES: [&[u8]; 17] = [
        b"a",
        b"%",
        b"%25",
        b"%61/",
        b"%uFDFA",
        b"%u0025",
        b"%CC%81",
        b"%c1%81",
        b"\xc1\x81",
        b"\xe0\x80\xa5",
        b"\xff",
        b"onlineagen%74/",
        "\u{fdfa}".as_bytes(),
        "\u{247d}".as_bytes(),
        "\u{2105}".as_bytes(),
        "\u{301}".as_bytes(),
        "\u{d55c}".as_bytes(),
    ];
    /// The longest compatibility form has 18 characters in 3 bytes. It is looked at when the text is decoded, and once more
    /// when words are searched for.
    const MAX_WORK: usize = 14;

    #[test]
    fn the_work_for_each_byte_is_bounded() {
        for piece in PIECES {
            for bytes in [300, 30 * 1024] {
                let text = piece.repeat(bytes / piece.len());
                let work = work::of(|| Readings::of(&text));
                assert!(work <= MAX_WORK * text.len(), "{work} for {bytes} bytes of {}", piece.escape_ascii());
            }
        }
    }

    proptest! {
        #[test]
        fn the_work_for_each_byte_of_any_mixture_is_bounded(parts in prop::collection::vec(0..PIECES.len(), 1..200)) {
            let text = parts.into_iter().map(|part| PIECES[part]).collect::<Vec<_>>().concat();
            prop_assert!(work::of(|| Readings::of(&text)) <= MAX_WORK * text.len());
        }
    }
}
