//! The `Content-Type` of a request whose body the gateway judges: JSON in UTF-8, in every reading of the header field.
//!
//! Servers read this field in different ways. Tomcat takes the first `charset=` anywhere in the value, also inside the
//! quoted value of another parameter; others split at each semicolon, or join several fields. So the rule is strict:
//! the word "charset" may stand there once, as the name of a parameter, and its value must be UTF-8.

use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

/// The charsets that are UTF-8, in lower case.
const UTF_8: [&str; 2] = ["utf-8", "utf8"];

/// Whether `headers` declare JSON in UTF-8 and nothing else: one `Content-Type: application/json`, without a charset
/// or with UTF-8.
pub fn declares_json(headers: &HeaderMap) -> bool {
    only_field(headers).is_some_and(is_json)
}

/// Whether some reading of `headers` declares another charset than UTF-8. No `Content-Type` declares none.
pub fn may_declare_another_charset(headers: &HeaderMap) -> bool {
    headers.contains_key(CONTENT_TYPE) && only_field(headers).is_none_or(|value| parameters(value).is_none())
}

fn only_field(headers: &HeaderMap) -> Option<&str> {
    let mut fields = headers.get_all(CONTENT_TYPE).iter();
    let field = fields.next().map(HeaderValue::to_str)?.ok()?;
    fields.next().is_none().then_some(field)
}

/// How nearly every message declares JSON in UTF-8.
const USUAL: [&str; 5] = [
    "application/json; charset=UTF-8",
    "application/json",
    "application/json;charset=UTF-8",
    "application/json; charset=utf-8",
    "application/json;charset=utf-8",
];

/// Whether this is one of the usual spellings of JSON in UTF-8. To compare them costs less than to read one.
pub(super) fn is_usual(value: &str) -> bool {
    USUAL.contains(&value)
}

fn is_json(value: &str) -> bool {
    is_usual(value) || parameters(value).is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/json"))
}

/// The media type, if all parameters behind it have one reading and none declares another charset than UTF-8.
fn parameters(value: &str) -> Option<&str> {
    let value = value.trim_matches([' ', '\t']);
    let (media_type, mut rest) = value.split_at(value.find(';').unwrap_or(value.len()));
    let mut charsets = 0;
    while let Some(parameter) = rest.strip_prefix(';') {
        let parameter = parameter.trim_start_matches([' ', '\t']);
        rest = if parameter.is_empty() || parameter.starts_with(';') {
            parameter
        } else {
            let (name, value, rest) = first_parameter(parameter)?;
            if name.eq_ignore_ascii_case("charset") {
                charsets += 1;
                UTF_8.iter().find(|known| unquoted(value).eq_ignore_ascii_case(known))?;
            }
            rest
        };
    }
    let media_type = media_type.trim_end_matches([' ', '\t']);
    let plain = media_type.bytes().all(|byte| is_token(byte) || byte == b'/');
    let mentions = value.as_bytes().windows(7).filter(|word| word.eq_ignore_ascii_case(b"charset")).count();
    (plain && rest.is_empty() && mentions == charsets && charsets <= 1).then_some(media_type)
}

/// Name and value of the parameter at the beginning of `text`, and the text behind it. The value is a token or quoted
/// without a backslash: an escape is read in two ways.
fn first_parameter(text: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = text.split_once('=')?;
    let (name, rest) = (name.trim_end_matches([' ', '\t']), rest.trim_start_matches([' ', '\t']));
    let length = match rest.strip_prefix('"') {
        Some(quoted) => quoted.find(['"', '\\'])? + 2,
        None => rest.bytes().take_while(|byte| is_token(*byte)).count(),
    };
    let (value, rest) = rest.split_at_checked(length)?;
    let one_reading = !name.is_empty() && name.bytes().all(is_token) && !value.is_empty() && !value.ends_with('\\');
    one_reading.then(|| (name, value, rest.trim_start_matches([' ', '\t'])))
}

/// `"x"` and `'x'` without their quotes.
fn unquoted(value: &str) -> &str {
    let within = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
    within('"').or_else(|| within('\'')).unwrap_or(value)
}

/// A character of a token (RFC 9110 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(values: &[&[u8]]) -> HeaderMap {
        values.iter().map(|value| (CONTENT_TYPE, HeaderValue::from_bytes(value).unwrap())).collect()
    }

    #[test]
    fn json_in_utf_8_as_clients_declare_it() {
        for good in [
            "application/json",
            "application/json; charset=UTF-8",
            "application/json;charset=utf-8",
            "Application/JSON ; Charset=\"UTF-8\"",
            "application/json; charset='utf-8'",
            "application/json; charset='UTF8'",
            "application/json; charset=utf8;",
            "application/json;; charset = utf-8 ; ",
            "application/json; version=1",
            "application/json; profile=\"a;b\"; charset=utf-8; odata=verbose",
            " application/json\t",
        ] {
            assert!(declares_json(&headers(&[good.as_bytes()])), "{good}");
        }
    }

    #[test]
    fn the_usual_spellings_are_json_in_utf_8_when_they_are_read() {
        for usual in USUAL {
            assert_eq!(parameters(usual), Some("application/json"), "{usual}");
        }
    }

    #[test]
    fn the_word_charset_stands_once_as_the_name_of_a_parameter() {
        for bad in [
            "application/json; x=\"charset=x-IBM943\"",
            "application/json; x=\"; charset=x-IBM943\"; charset=utf-8",
            "application/json; charset=utf-8; x=\"charset=x-IBM943\"",
            "application/json; charset=utf-8; x=charset",
            "application/json; xcharset=x-IBM943",
            "application/json; charset=utf-8; mycharset=x-IBM943",
            "application/json; charset-x=x-IBM943",
            "application/json; charset*=utf-8''x",
            "application/json; charset*0=utf; charset*1=-8",
            "application/json; charset=utf-8; charset=utf-8",
            "application/json; charset=utf-8; CHARSET=GBK",
            "application/json; charset",
            "application/json; charset=",
            "application/json; charset=\"\"",
            "application/json; charset=\"utf-8'",
            "application/json; charset=\"'utf-8'\"",
            "application/json; charset=' utf-8'",
            "application/json; charset=utf-8\"",
            "application/json; charset=\"utf-8\"x",
            "application/json; charset=\"utf\\-8\"",
            "application/json; charset=utf-8, text/plain",
            "application/json; charset=utf-8 GBK",
            "application/json; charset=utf-16",
            "application/json; charset=GBK",
            "applicationcharset=x-IBM943/json",
        ] {
            assert!(!declares_json(&headers(&[bad.as_bytes()])), "{bad}");
        }
    }

    #[test]
    fn anything_else_that_is_read_in_two_ways_is_no_json() {
        for bad in [
            "",
            ";",
            "text/plain",
            "application/jsonx",
            "application/ json",
            "application/json, text/plain",
            "application/json text/plain",
            "application/json; x",
            "application/json; =1",
            "application/json; x=",
            "application/json; x=\"a",
            "application/json; x=\"a\\\"; y=\"b\"",
            "application/json; x=a\"b\"",
            "application/json; x=(comment)",
            "application/json; x='a;b'",
            "application/x-www-form-urlencoded",
        ] {
            assert!(!declares_json(&headers(&[bad.as_bytes()])), "{bad}");
        }
        assert!(!declares_json(&headers(&[])));
        assert!(!declares_json(&headers(&[b"application/json", b"application/json; charset=GBK"])));
        assert!(!declares_json(&headers(&[b"application/json", b"application/json"])));
        assert!(!declares_json(&headers(&["application/json; x=\u{e9}".as_bytes()])));
    }

    #[test]
    fn other_media_types_can_be_in_utf_8_too() {
        for (fields, expected) in [
            (&[][..], false),
            (&["text/plain"], false),
            (&["text/plain; charset=utf-8"], false),
            (&["text/plain; charset=gbk"], true),
            (&["text/plain; x=\"charset=gbk\""], true),
            (&["text/plain", "text/plain; charset=gbk"], true),
        ] {
            let fields: Vec<_> = fields.iter().map(|field| field.as_bytes()).collect();
            assert_eq!(may_declare_another_charset(&headers(&fields)), expected, "{fields:?}");
        }
    }

    proptest! {
        /// Tomcat's reading, and that of everybody who searches for the word, is UTF-8 or none.
        #[test]
        fn whoever_searches_for_the_charset_finds_utf_8(
            tail in "(;| |=|\"|'|\\\\|,|x|charset|Charset|charset=|utf-8|UTF8|GBK|x-IBM943){0,10}",
        ) {
            let value = format!("application/json{tail}");
            if declares_json(&headers(&[value.as_bytes()])) {
                let lower = value.to_ascii_lowercase();
                let found: Vec<_> = lower.split("charset").skip(1).collect();
                prop_assert!(found.len() <= 1);
                for behind in found {
                    let behind = behind.trim_start().strip_prefix('=').unwrap().trim_start();
                    let charset = behind.split(';').next().unwrap().trim().trim_matches(['"', '\'']);
                    prop_assert!(UTF_8.contains(&charset), "{}", charset);
                }
            }
        }
    }
}
