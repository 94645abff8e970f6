//! A JSON text written out so that every reader finds the same members in it.
//!
//! The gateway reads a body as strict JSON in UTF-8. The application behind it may decode the bytes in another charset
//! (the default of its JVM), recover from malformed input in its own way, and read the text with a mapper that takes
//! single quotes, comments and bare names. Two things let such a reader see other members:
//!
//! - **A byte that is not ASCII.** In GBK, Big5 or Shift_JIS it can swallow the byte behind it, a backslash included.
//! - **A backslash in front of a quote.** In charsets such as x-IBM943 it is a yen sign and escapes nothing, so the string
//!   ends there.
//!
//! [`written_out`] removes both: it writes every character that is not printable ASCII, every quote and every backslash
//! within a string as `\uXXXX`. Then quotes only begin and end strings, in every charset that contains ASCII. What stands
//! outside of strings is strict JSON, which lenient mappers read as such. The meaning of the text stays the same.

use std::borrow::Cow;

/// The same JSON text with one reading. `text` must be strict JSON. In the values of the top-level members `padded`,
/// NUL characters are left out: they are padding there (docs/protocol.md 5).
pub(super) fn written_out(text: &str, padded: &[&str]) -> String {
    let mut writer = Writer { out: String::with_capacity(text.len() + text.len() / 4), depth: 0, member: Member::Name };
    let mut rest = text;
    while let Some((outside, behind)) = rest.split_once('"') {
        writer.outside(outside);
        let end = end_of_string(behind);
        let (string, after) = behind.split_at_checked(end).unwrap_or((behind, ""));
        writer.string(string, padded);
        rest = after.strip_prefix('"').unwrap_or_default();
    }
    writer.outside(rest);
    writer.out
}

/// Whether strict JSON in `text` has one reading as it stands, provided that no backslash is in a top-level name or in a
/// value that counts. No byte may swallow another. A reader for whom backslashes escape nothing must fail at the first
/// escaped quote: the string ends there for it, and mappers accept no letter or digit directly behind a string. In case
/// one of them does, the text behind that quote must not spell any of `names` a second time.
pub(super) fn is_plain(text: &str, names: &[&str]) -> bool {
    let fails_at = |behind: &str| behind.starts_with(|c: char| c.is_ascii_alphanumeric());
    text.is_ascii() && first_escaped_quote(text).is_none_or(|behind| fails_at(behind) && !spells_twice(text, names))
}

/// Whether the letters and digits in `text`, without regard to case and to anything between them, spell a name twice.
fn spells_twice(text: &str, names: &[&str]) -> bool {
    let letters: String =
        text.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect();
    // A code unit may be any letter.
    text.contains("\\u") || names.iter().any(|name| letters.matches(name).nth(1).is_some())
}

/// The text behind the first quote that a backslash escapes.
fn first_escaped_quote(text: &str) -> Option<&str> {
    let mut rest = text;
    loop {
        let (_, escaped) = rest.split_once('\\')?;
        rest = match escaped.strip_prefix('"') {
            Some(behind) => return Some(behind),
            None => escaped.get(1..).unwrap_or_default(),
        };
    }
}

/// The position of the quote that ends the string at the beginning of `text`.
fn end_of_string(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(found) = bytes.get(from..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        let at = from + found;
        if bytes.get(at) == Some(&b'"') {
            return at;
        }
        from = at + 2;
    }
    text.len()
}

/// What the next string is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Member {
    /// At the top level: the name of a member.
    Name,
    /// The value of a member, from which NUL characters are left out if it is padded.
    Value { padded: bool },
}

struct Writer {
    out: String,
    depth: usize,
    member: Member,
}

impl Writer {
    fn outside(&mut self, text: &str) {
        for byte in text.bytes() {
            match byte {
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                // At the top level; further within, no string has a part in this.
                b',' => self.member = Member::Name,
                _ => {}
            }
        }
        self.out.push_str(text);
    }

    fn string(&mut self, string: &str, padded: &[&str]) {
        let drop_nuls = self.depth == 1 && self.member == Member::Value { padded: true };
        self.out.push('"');
        let start = self.out.len();
        self.characters(string, drop_nuls);
        if self.member == Member::Name {
            let is_padded = self.out.get(start..).is_some_and(|name| padded.contains(&name));
            self.member = Member::Value { padded: is_padded };
        }
        self.out.push('"');
    }

    fn characters(&mut self, string: &str, drop_nuls: bool) {
        let mut rest = string;
        loop {
            let plain = rest.bytes().position(|byte| !is_plain_byte(byte)).unwrap_or(rest.len());
            let (text, odd) = rest.split_at_checked(plain).unwrap_or((rest, ""));
            self.out.push_str(text);
            let Some(character) = odd.chars().next() else { return };
            let length = if character == '\\' { self.escape(odd, drop_nuls) } else { self.character(character) };
            rest = odd.get(length..).unwrap_or_default();
        }
    }

    /// Writes the escape at the beginning of `text`; returns its length.
    fn escape(&mut self, text: &str, drop_nuls: bool) -> usize {
        let meant = match text.as_bytes().get(1) {
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.unit(text.get(2..6).unwrap_or_default(), drop_nuls);
                return 6;
            }
            other => other.copied().map_or('\\', char::from),
        };
        self.character(meant);
        2
    }

    /// Writes a code unit that was escaped. Units of pairs stay as they are.
    fn unit(&mut self, digits: &str, drop_nuls: bool) {
        match u32::from_str_radix(digits, 16).ok() {
            Some(0) if drop_nuls => {}
            Some(code @ 0x20..=0x7e) => _ = self.character(char::from_u32(code).unwrap_or(' ')),
            _ => {
                self.out.push_str("\\u");
                self.out.push_str(digits);
            }
        }
    }

    /// Writes a character; returns its length in UTF-8.
    fn character(&mut self, character: char) -> usize {
        if u8::try_from(character).is_ok_and(is_plain_byte) {
            self.out.push(character);
        } else {
            character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| self.code_unit(*unit));
        }
        character.len_utf8()
    }

    /// Writes a code unit as `\uXXXX`. By hand: `format!` takes several times as long, and a text may hold nothing else.
    fn code_unit(&mut self, unit: u16) {
        self.out.push_str("\\u");
        for shift in [12, 8, 4, 0] {
            self.out.push(char::from_digit(u32::from(unit >> shift & 0xf), 16).unwrap_or('0'));
        }
    }
}

/// Printable ASCII that stands for itself in a string.
fn is_plain_byte(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')
}

/// `text` without the NUL characters that pad it; nothing if there are others.
pub(super) fn without_padding(text: Cow<'_, str>) -> Option<Cow<'_, str>> {
    if !text.contains('\0') {
        return Some(text);
    }
    let trimmed = text.trim_end_matches('\0');
    (!trimmed.contains('\0')).then(|| Cow::Owned(trimmed.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn quotes_backslashes_and_text_are_written_as_code_units() {
        for (text, expected) in [
            (r#"{"a":"say \"hi\""}"#, r#"{"a":"say \u0022hi\u0022"}"#),
            (r#"{ "a" : "C:\\x\\" }"#, r#"{ "a" : "C:\u005cx\u005c" }"#),
            (r#"{"你":"\u4F60𝔠\/\n"}"#, r#"{"\u4f60":"\u4F60\ud835\udd20/\u000a"}"#),
            (r#"{"c\u0061lled":"8888\u0039039"}"#, r#"{"called":"88889039"}"#),
            ("{\"a\":\"\u{7f}\\u0022\\u005C\"}", r#"{"a":"\u007f\u0022\u005c"}"#),
            (r#"[{"a":[1.50,true]},"\"",{}]"#, r#"[{"a":[1.50,true]},"\u0022",{}]"#),
            ("", ""),
        ] {
            assert_eq!(written_out(text, &[]), expected, "{text}");
        }
    }

    #[test]
    fn padding_is_left_out_of_the_members_named_and_of_no_other() {
        let text = r#"{"x":"1\u0000","call\u0065d":"1\u0000\u0000","y":{"called":"1\u0000"},"z":["called","\u0000"]}"#;
        let expected = r#"{"x":"1\u0000","called":"1","y":{"called":"1\u0000"},"z":["called","\u0000"]}"#;
        assert_eq!(written_out(text, &["called"]), expected);
        // Behind what is nested, and within the value of such a member.
        let text = r#"{"y":[{},["called"]],"z":{"a":{}},"called":["1\u0000",{"x":"\u0000"}],"x":"1\u0000","called":"2\u0000"}"#;
        let expected =
            r#"{"y":[{},["called"]],"z":{"a":{}},"called":["1\u0000",{"x":"\u0000"}],"x":"1\u0000","called":"2"}"#;
        assert_eq!(written_out(text, &["called"]), expected);
        assert_eq!(written_out(r#"{"x":"called","y":"\u0000"}"#, &["called"]), r#"{"x":"called","y":"\u0000"}"#);
    }

    #[test]
    fn text_within_text_is_plain_where_every_other_reader_fails() {
        for plain in [
            r#"{"a":"{\"name\":\"x\"}","called":"1"}"#,
            r#"{"a":"C:\\x\\","b":"\n\u4f60"}"#,
            r#"{"a":"say \"hi\""}"#,
            "{}",
        ] {
            assert!(is_plain(plain, &["called"]), "{plain}");
        }
        for odd in [
            r#"{"a":"\",'called':'2'"}"#,
            r#"{"a":"\"\"x"}"#,
            r#"{"a":"\" x"}"#,
            r#"{"a":"\\\"/**/"}"#,
            r#"{"a":"\"x\u0063alled"}"#,
            r#"{"a":"{\"CALL-ed\":\"2\"}","called":"1"}"#,
            r#"{"a":"你"}"#,
        ] {
            assert!(!is_plain(odd, &["called"]), "{odd}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let text = "(\\PC|\"|\\\\|\u{0}|\n|'|,|:|\\{|/){0,12}";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text.prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((text, inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_meaning_stays(value in any_json()) {
            let text = value.to_string();
            prop_assert_eq!(serde_json::from_str::<Value>(&written_out(&text, &[])).unwrap(), value);
        }

        /// The same strings begin and end at the same places for readers with and without escapes.
        #[test]
        fn quotes_only_delimit(value in any_json()) {
            let out = written_out(&value.to_string(), &[]);
            prop_assert!(out.is_ascii());
            prop_assert!(!out.contains("\\\"") && !out.contains("\\\\"));
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,60}", odd in "(\"|\\\\|u|0|\\{|,|你){0,20}") {
            let _ = (written_out(&text, &["a"]), written_out(&odd, &["a"]), is_plain(&odd, &["a"]));
        }
    }
}
