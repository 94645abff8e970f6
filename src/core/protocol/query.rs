//! What the query of a request might do to its operation, and a field that names another method.
//!
//! Frameworks merge query parameters with the fields of the message body, and some let one name another method. A
//! callout is judged by its body, so a query that could change it is refused; any other goes through untouched.

use super::callout::FIELDS;
use super::folded::Folded;
use super::loose_names::may_mean_one_of;
use super::path_readings::each_decoding;

/// Method override parameters and fields, folded; besides the plain `_method`.
const OVERRIDES: [&[u8]; 6] = [
    b"httpmethod",
    b"xhttpmethod",
    b"methodoverride",
    b"xmethodoverride",
    b"httpmethodoverride",
    b"xhttpmethodoverride",
];

/// Whether some reading of `query` has a parameter that could be taken for `called` or `callcontrolid`.
pub fn may_name_a_field(query: &str) -> bool {
    any_key(query, |key| may_mean_one_of(key, &FIELDS))
}

/// Whether some reading of `query` has a parameter by which a framework might replace the method.
pub fn may_override_method(query: &str) -> bool {
    any_key(query, overrides_method)
}

/// Whether a framework might take the value of a parameter or header field of this name for the method.
pub(super) fn overrides_method(name: &str) -> bool {
    let mut folded = Folded::default();
    for character in name.chars() {
        folded.push(character);
    }
    folded.word().is_some_and(|word| (word == b"method" && name.contains('_')) || OVERRIDES.contains(&word))
}

/// Whether a key fits, wherever anything might cut the query; `called[0]` counts as `called`.
fn any_key(query: &str, fits: impl Fn(&str) -> bool) -> bool {
    let key = |pair: &str| pair.split(['=', '[']).next().is_some_and(&fits);
    let mut found = false;
    each_decoding(query.as_bytes(), |decoded| found |= decoded.split(['&', ';', '?', '#']).any(key));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_could_replace_what_was_judged() {
        for query in [
            "called=1",
            "a=b&Called=1",
            "a=b;callControlId=1",
            "c%2561lled",
            "called%5B0%5D=1",
            "+called=1",
            "a=b%26called=1",
            "%EF%BD%83alled=1",
            "call%ffed=1",
            "called%c1%b0=1",
            "call%u4f60controlid=1",
        ] {
            assert!(may_name_a_field(query), "{query}");
        }
        for query in ["", "_=1", "t=called", "calldata=%7B%22called%22%3A1%7D", "calledNumber=1", "recalled=1"] {
            assert!(!may_name_a_field(query), "{query}");
        }
    }

    #[test]
    fn parameters_that_could_replace_the_method() {
        for query in [
            "_method=PUT",
            "a&_METHOD=put",
            "%5fmethod=PUT",
            "X-HTTP-Method-Override=PUT",
            "_HttpMethod=GET",
            "_meth%ffod=PUT",
        ] {
            assert!(may_override_method(query), "{query}");
        }
        for query in ["", "method=1", "paymentmethod=_method", "x=_method", "calldata=%7B%22_method%22%3A1%7D"] {
            assert!(!may_override_method(query), "{query}");
        }
    }
}
