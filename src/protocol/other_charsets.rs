//! A body in UTF-8, as a server that takes it for text in another charset reads it.
//!
//! In GBK, Big5 and Shift_JIS, the defaults of systems in the vendor's home market, the second byte of a character may be
//! a backslash. `你\"` is a character and an escaped quote in UTF-8; in GBK the backslash belongs to a character, and
//! the quote ends the string. What was text in one reading are members of the object in the other. Nothing else in JSON
//! can be swallowed: outside strings all is ASCII, and a quote is never a second byte.

use encoding_rs::{BIG5, Encoding, GB18030, SHIFT_JIS};

use super::lenient;

const OTHERS: [&Encoding; 3] = [GB18030, BIG5, SHIFT_JIS];

/// Whether another reading of `text` may hold another value of a member: one of `names` occurs twice, in whatever
/// spelling, and a quote might end a string that in UTF-8 it does not end. Texts without both have one reading.
pub(super) fn may_add_a_member(text: &str, names: &[&str]) -> bool {
    if text.is_ascii() || !may_end_a_string_early(text.as_bytes()) {
        return false;
    }
    let others = OTHERS.iter().map(|charset| charset.decode_without_bom_handling(text.as_bytes()).0);
    let twice = |reading: &str| {
        let letters = letters(reading);
        names.iter().any(|name| letters.matches(name).count() > 1)
    };
    others.into_iter().any(|reading| may_be_read(&reading) && (twice(text) || twice(&reading)))
}

/// Whether any JSON mapper, forgiving ones included, could take the beginning of `text` for a value. Text within text
/// (JSON in a string of JSON) is full of backslashes; where the strings end early, they stand outside of one, and that no
/// mapper bears.
fn may_be_read(text: &str) -> bool {
    let mut within = None;
    let mut depth = 0_usize;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (within, character) {
            (Some(_), '\\') => drop(characters.next()),
            (Some(quote), _) if quote == character => within = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => within = Some(character),
            (None, '\\') => return false,
            (None, '{' | '[') => depth += 1,
            // Many do not look at what stands behind the value.
            (None, '}' | ']') if depth <= 1 => return true,
            (None, '}' | ']') => depth -= 1,
            // A comment may hold anything.
            (None, '/' | '#') => return true,
            (None, _) => {}
        }
    }
    false
}

/// Whether backslashes with a quote behind them follow a byte that is not ASCII.
fn may_end_a_string_early(bytes: &[u8]) -> bool {
    let mut runs = bytes.split(|byte| *byte == b'"');
    // What stands behind the last quote is in front of none.
    runs.next_back();
    runs.any(|run| {
        let escapes = run.iter().rev().take_while(|byte| **byte == b'\\').count();
        let before = run.len().checked_sub(escapes + 1).and_then(|at| run.get(at));
        escapes > 0 && before.is_some_and(|byte| !byte.is_ascii())
    })
}

/// All ASCII letters and digits that anybody may find in `text`, JSON's own escapes included.
fn letters(text: &str) -> String {
    let mut units = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let digits = rest.strip_prefix("\\u").and_then(|rest| rest.get(..4));
        let length = match digits.and_then(|digits| u16::from_str_radix(digits, 16).ok()) {
            Some(unit) => {
                units.push(unit);
                6
            }
            None => {
                units.extend_from_slice(character.encode_utf16(&mut [0; 2]));
                character.len_utf8()
            }
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    let mut letters = String::with_capacity(text.len());
    for character in char::decode_utf16(units).flatten() {
        lenient::fold_into(&mut letters, character);
    }
    letters
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may_differ(text: &str) -> bool {
        may_add_a_member(text, &["called", "callcontrolid"])
    }

    #[test]
    fn a_swallowed_backslash_makes_members_of_text() {
        let text = "{\"x\":\"你\\\",'called':'2','z':'\",\"called\":\"1\",\"q\":\"'}\"}";
        assert!(serde_json::from_str::<serde_json::Value>(text).is_ok());
        assert!(may_differ(text));
        for spelling in ["Called", "c\\u0061lled", "\\ud835\\udd20alled", "ｃalled", "call-ed"] {
            assert!(may_differ(&text.replace("'called'", spelling)), "{spelling}");
        }
        assert!(may_differ(&text.replace("你\\\"", "你\\\\\\\"")));
    }

    #[test]
    fn what_stands_behind_the_value_or_in_a_comment_may_be_anything() {
        for trailing in ["} \\", "//\\", "#\\"] {
            let text = format!("{{\"x\":\"你\\\",'called':'2'{trailing}\\\",\"called\":\"1\"}}");
            assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
            assert!(may_differ(&text), "{text}");
        }
    }

    #[test]
    fn ordinary_texts_have_one_reading() {
        for text in [
            r#"{"called":"1","callcontrolid":2,"x":"\"called\""}"#,
            r#"{"called":"1","callcontrolid":2,"x":"你好 \"called\""}"#,
            r#"{"called":"1","callcontrolid":2,"x":"你好\n\"called\""}"#,
            r#"{"called":"1","callcontrolid":2,"callData":"{\"name\":\"王\",\"city\":\"北京\"}"}"#,
            r#"{"called":"1","callcontrolid":2,"被叫":"你"}"#,
            r#"{"called":"1","callcontrolid":2,"callData":"{\"name\":\"王\",\"called\":\"138\"}"}"#,
            "",
            "你",
        ] {
            assert!(!may_differ(text), "{text}");
        }
    }
}
