//! The most lenient readings of a path: those of *any* server, router or filter that may stand behind the gateway.
//!
//! They serve only to refuse. `resource` reads a plain path exactly. A path that is not plain is decoded until nothing
//! is left to decode, cut at each character that some parser takes for the end of a segment, and stripped of each
//! character that some parser ignores. If a guarded word appears then, the path is refused. Otherwise the path passes
//! unchanged, because no server can read a guarded operation in it.

use unicode_normalization::UnicodeNormalization;

const CALLOUT: &str = "previewcallout";
/// Longest word that is kept while folding, in bytes: no guarded word is longer.
const MAX_WORD: usize = 24;

/// The segments of `path` if each has exactly one reading: non-empty, unreserved characters only (RFC 3986 2.3), no
/// dot segment. One trailing `/` is allowed unless the last segment names the guarded resource: routers ignore it.
pub(super) fn plain_segments(path: &str) -> Option<Vec<&str>> {
    let trimmed = path.strip_suffix('/').unwrap_or(path);
    let segments: Vec<&str> = trimmed.split('/').collect();
    let slash_matters = trimmed.len() != path.len() && segments.last().is_some_and(|last| names_callout(last));
    (!slash_matters && segments.iter().all(|segment| is_plain(segment))).then_some(segments)
}

fn is_plain(segment: &str) -> bool {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(unreserved)
}

/// Whether some reading of a path that is not plain leaves the allowed prefix.
pub(super) fn may_climb(path: &str) -> bool {
    tokens(&decode_fully(path)).any(|token| token == "..")
}

/// Whether some reading of `path` is a guarded operation: a callout, a poll, or a request that ends a preview.
pub(super) fn may_be_guarded(path: &str) -> bool {
    let decoded = decode_fully(path);
    let (mut matters, mut online_agent, mut quality_control, mut session) = (false, false, false, false);
    for token in tokens(&decoded) {
        each_reading(token, |word| match word {
            CALLOUT | "cancelpreviewcallout" | "agentevent" => matters = true,
            "onlineagent" => online_agent = true,
            "qualitycontrol" => quality_control = true,
            "forcelogin" | "loginex" | "logout" | "forcelogout" => session = true,
            _ => {}
        });
    }
    matters || (online_agent && (session || may_be_bare_sign_in(&decoded))) || (quality_control && session)
}

/// Whether at most one real segment follows `onlineagent`: `onlineagent/{id}` itself is the sign-in.
fn may_be_bare_sign_in(decoded: &str) -> bool {
    let mut segments = decoded.split(['/', '\\']).filter(|segment| !matches!(*segment, "" | "."));
    segments.by_ref().any(|segment| tokens(segment).any(|token| reads_as(token, "onlineagent")));
    segments.count() <= 1
}

/// Whether some reading of `path` mentions the guarded resource.
pub(super) fn mentions_callout(path: &str) -> bool {
    // Most paths are plain, and most of those cannot contain the word: do not allocate for them.
    let needs_decoding = path.bytes().any(|byte| byte == b'%' || !byte.is_ascii());
    if needs_decoding {
        let decoded = decode_fully(path);
        tokens(&decoded).any(names_callout)
    } else {
        tokens(path).any(names_callout)
    }
}

/// Whether a segment might be taken for `previewCallout`.
pub(super) fn names_callout(segment: &str) -> bool {
    reads_as(segment, CALLOUT)
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

/// Everything that some parser takes for the end of a segment.
fn tokens(path: &str) -> impl Iterator<Item = &str> {
    path.split(['/', '\\', ';', '?', '#'])
}

/// Whether `word` is a reading of `token`; see [`each_reading`].
fn reads_as(token: &str, word: &str) -> bool {
    let mut found = false;
    each_reading(token, |reading| found |= reading == word);
    found
}

/// Calls `seen` with all that `token` may be to a reader who ignores case, compatibility forms and everything that is
/// not a letter or digit, and who may stop at such a character (`previewCallout.json`, `previewCallout%00x`). Readings
/// longer than any word that matters are left out.
fn each_reading(token: &str, mut seen: impl FnMut(&str)) {
    let mut folded = String::with_capacity(MAX_WORD);
    let mut reported = 0;
    for character in token.chars() {
        let before = folded.len();
        fold_into(&mut folded, character);
        if folded.len() > MAX_WORD {
            return;
        }
        if folded.len() == before && before > reported {
            seen(&folded);
            reported = before;
        }
    }
    if folded.len() > reported {
        seen(&folded);
    }
}

/// Appends the ASCII letters and digits, in lower case, that a case-insensitive or compatibility comparison (NFKC) may
/// find in a character.
pub(super) fn fold_into(folded: &mut String, character: char) {
    match character {
        _ if character.is_ascii_alphanumeric() => folded.push(character.to_ascii_lowercase()),
        _ if character.is_ascii() => {}
        // The dotless i is the one letter that only case mapping moves into ASCII.
        '\u{131}' => folded.push('i'),
        _ => folded.extend(compatible(character).filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase())),
    }
}

/// A character without its compatibility form: `／` is `/`, `ⓒ` is `c`, `㎈` is `cal`.
fn compatible(character: char) -> impl Iterator<Item = char> {
    std::iter::once(character).nfkd()
}

/// Percent-decodes (`%70`, and `%u0070` as some servers do) until nothing is left to decode, in whatever mixture, and
/// reads the bytes as UTF-8 as forgivingly as the worst decoder: overlong and compatibility forms count as the characters
/// they stand for. One pass, however deep the nesting: whatever is completed by a byte is decoded at once.
pub(super) fn decode_fully(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        decoded.push(byte);
        while let Some((length, meant)) = escaped(&decoded) {
            decoded.truncate(decoded.len() - length);
            match meant {
                Meant::Byte(byte) => decoded.push(byte),
                Meant::Text(text) => decoded.extend_from_slice(text.as_bytes()),
            }
        }
    }
    forgiving_utf8(&decoded)
}

/// What an escape stands for.
enum Meant {
    /// Perhaps a part of a character.
    Byte(u8),
    Text(String),
}

/// The length of the escape that `bytes` end with, and what it stands for.
fn escaped(bytes: &[u8]) -> Option<(usize, Meant)> {
    let joined = |high: u8, low: u8| Meant::Byte((high & 1) << 6 | (low & 0x3f));
    let overlong = match *bytes {
        [.., a @ 0xc0..=0xc1, b @ 0x80..=0xbf] => Some((2, joined(a, b))),
        [.., 0xf0, 0x80, a @ 0x80..=0x81, b @ 0x80..=0xbf] => Some((4, joined(a, b))),
        [.., 0xe0, a @ 0x80..=0x81, b @ 0x80..=0xbf] => Some((3, joined(a, b))),
        _ => None,
    };
    let percent = || match *bytes {
        [.., b'%', a, b] => Some((3, Meant::Byte(hex_pair(a, b)?))),
        _ => None,
    };
    let unicode = || match *bytes {
        [.., b'%', b'u' | b'U', a, b, c, d] => {
            let code = u32::from(hex_pair(a, b)?) << 8 | u32::from(hex_pair(c, d)?);
            Some((6, Meant::Text(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER).into())))
        }
        _ => None,
    };
    overlong.or_else(percent).or_else(unicode).or_else(|| in_ascii(bytes))
}

/// The character that `bytes` end with, if all of it is ASCII to a reader who ignores compatibility forms.
fn in_ascii(bytes: &[u8]) -> Option<(usize, Meant)> {
    let last = *bytes.last()?;
    if last.is_ascii() {
        return None;
    }
    let tail = |length: usize| std::str::from_utf8(bytes.get(bytes.len().checked_sub(length)?..)?).ok();
    let character = (2..=4).find_map(tail)?;
    let text: String = character.chars().flat_map(compatible).collect();
    text.is_ascii().then_some((character.len(), Meant::Text(text)))
}

fn hex_pair(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

fn forgiving_utf8(mut rest: &[u8]) -> String {
    let bits = |byte: u8| u32::from(byte & 0x3f);
    let mut text = String::with_capacity(rest.len());
    while let Some((&first, tail)) = rest.split_first() {
        let (code, after) = match *rest {
            [a @ 0xc0..=0xdf, b @ 0x80..=0xbf, ..] => (u32::from(a & 0x1f) << 6 | bits(b), 2),
            [a @ 0xe0..=0xef, b @ 0x80..=0xbf, c @ 0x80..=0xbf, ..] => {
                (u32::from(a & 0x0f) << 12 | bits(b) << 6 | bits(c), 3)
            }
            [a @ 0xf0..=0xf7, b @ 0x80..=0xbf, c @ 0x80..=0xbf, d @ 0x80..=0xbf, ..] => {
                (u32::from(a & 0x07) << 18 | bits(b) << 12 | bits(c) << 6 | bits(d), 4)
            }
            _ => (u32::from(first), 1),
        };
        text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        rest = if after == 1 { tail } else { rest.get(after..).unwrap_or_default() };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ] {
            assert_eq!(decode_fully(encoded), expected, "{encoded}");
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
}
