//! The members of a JSON object, one by one, with their values unparsed. The callers need a few members by name, and each
//! decides for itself what a repeated name means.
//!
//! A derived struct would refuse repeated names, and a map would silently keep the last one. Values stay as they are in
//! the text, so an unreadable value does not hide the others, and the caller knows the position of each.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Calls `seen` for each member of the object in `text`, in their order, with the name in lower case and the value.
///
/// # Errors
/// If `text` is not exactly one JSON object. `seen` may have been called before the error is found.
pub(super) fn each_member<'a>(text: &'a str, seen: impl FnMut(&str, &'a RawValue)) -> serde_json::Result<()> {
    let mut json = serde_json::Deserializer::from_str(text);
    json.deserialize_map(Each(seen))?;
    json.end()
}

struct Each<F>(F);

impl<'de, F: FnMut(&str, &'de RawValue)> Visitor<'de> for Each<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(mut name) = map.next_key::<String>()? {
            name.make_ascii_lowercase();
            (self.0)(&name, map.next_value()?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(text: &str) -> Option<Vec<(String, &str)>> {
        let mut found = Vec::new();
        let read = each_member(text, |name, value| found.push((name.to_owned(), value.get())));
        read.is_ok().then_some(found)
    }

    #[test]
    fn members_come_in_their_order_repeated_ones_and_null_too() {
        let text = r#" {"b": [1, {"a":2}] ,"\u0041":null,"a" : "x\ny","a":{}} "#;
        let expected = [("b", r#"[1, {"a":2}]"#), ("a", "null"), ("a", r#""x\ny""#), ("a", "{}")];
        assert_eq!(members(text).unwrap(), expected.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(members("{}").unwrap(), []);
    }

    #[test]
    fn what_is_not_one_object_is_an_error() {
        for text in ["", "null", "[]", "\"a\"", r#"{"a":1"#, r#"{"a":1} {}"#, r#"{"a":}"#, r#"{"a":1,}"#, "{1:2}"] {
            assert_eq!(members(text), None, "{text}");
        }
    }
}
