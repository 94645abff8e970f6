//! JSON without blanks, for records: the text that `serde_json` makes, in less time.
//!
//! A callout has two records with some forty members, and its agent waits for the first. `serde_json` looks at each byte of
//! each name for characters that must be escaped. Here a name is copied, because it is that of a Rust field, and a text is
//! examined as a whole. Whatever no record has today is left to `serde_json`.

use std::fmt::{self, Display, Write as _};

use serde::Serialize;
use serde::ser::{self, Error as _, Impossible, Serializer};

/// A value of a kind that is left to `serde_json`.
#[derive(Debug)]
struct Unsupported;

/// Appends a value as JSON.
pub(super) fn append_json<T: Serialize>(out: &mut Vec<u8>, value: &T) {
    let start = out.len();
    if value.serialize(Json(out)).is_err() {
        out.truncate(start);
        // Writing into a vector cannot fail, and every key of a record is a string.
        let _ = serde_json::to_writer(out, value);
    }
}

/// Appends the decimal digits of a number.
pub(super) fn append_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        start -= 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(start..).unwrap_or_default());
}

struct Json<'a>(&'a mut Vec<u8>);

impl Json<'_> {
    fn text(self, text: &str) {
        if needs_escapes(text.as_bytes()) {
            let _ = serde_json::to_writer(self.0, text);
            return;
        }
        self.0.reserve(text.len() + 2);
        self.0.push(b'"');
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(b'"');
    }
}

/// Whether JSON writes one of these bytes differently. The compiler has an instruction for all bytes of a piece of fixed
/// length. The last piece overlaps the one before it.
fn needs_escapes(text: &[u8]) -> bool {
    if let Some(last) = text.last_chunk::<16>() {
        let (pieces, _) = text.as_chunks::<16>();
        return pieces.iter().fold(is_escaped(last), |found, piece| found | is_escaped(piece));
    }
    match (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        (Some(first), Some(last)) => is_escaped(first) | is_escaped(last),
        _ => text.iter().any(|byte| is_escaped(&[*byte])),
    }
}

/// Looks at every byte, also after one that is found.
#[inline(always)]
fn is_escaped<const N: usize>(bytes: &[u8; N]) -> bool {
    bytes.iter().fold(false, |found, byte| found | (*byte < b' ') | (*byte == b'"') | (*byte == b'\\'))
}

/// Names of members are rarely longer.
const MAX_NAME: usize = 28;

/// The members of an object, or the elements of an array.
struct Items<'a> {
    out: &'a mut Vec<u8>,
    /// Before the first one: the opening bracket.
    before_next: u8,
    end: u8,
}

impl<'a> Items<'a> {
    fn object(out: &'a mut Vec<u8>) -> Self {
        Self { out, before_next: b'{', end: b'}' }
    }

    fn next(&mut self) {
        self.out.push(self.before_next);
        self.before_next = b',';
    }

    /// The name of a member, as one piece.
    #[inline(always)]
    fn name(&mut self, name: &'static str) {
        let before = std::mem::replace(&mut self.before_next, b',');
        let mut piece = [0; MAX_NAME + 4];
        let Some(piece) = piece.get_mut(..name.len() + 4) else {
            self.out.push(before);
            Json(self.out).text(name);
            self.out.push(b':');
            return;
        };
        if let [first, opening, letters @ .., closing, colon] = piece {
            (*first, *opening, *closing, *colon) = (before, b'"', b'"', b':');
            letters.copy_from_slice(name.as_bytes());
        }
        self.out.extend_from_slice(piece);
    }

    fn finish(self) {
        // There was none.
        if self.before_next != b',' {
            self.out.push(self.before_next);
        }
        self.out.push(self.end);
    }
}

impl ser::SerializeStruct for Items<'_> {
    type Ok = ();
    type Error = Unsupported;

    /// Inlined, so that the length of the name is known when this is compiled.
    #[inline(always)]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Unsupported> {
        self.name(key);
        value.serialize(Json(self.out))
    }

    fn end(self) -> Result<(), Unsupported> {
        self.finish();
        Ok(())
    }
}

impl ser::SerializeMap for Items<'_> {
    type Ok = ();
    type Error = Unsupported;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unsupported> {
        self.next();
        let start = self.out.len();
        key.serialize(Json(self.out))?;
        // Only texts are keys in JSON.
        if self.out.get(start) == Some(&b'"') { Ok(()) } else { Err(Unsupported) }
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unsupported> {
        self.out.push(b':');
        value.serialize(Json(self.out))
    }

    fn end(self) -> Result<(), Unsupported> {
        self.finish();
        Ok(())
    }
}

impl ser::SerializeSeq for Items<'_> {
    type Ok = ();
    type Error = Unsupported;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unsupported> {
        self.next();
        value.serialize(Json(self.out))
    }

    fn end(self) -> Result<(), Unsupported> {
        self.finish();
        Ok(())
    }
}

macro_rules! numbers {
    ($($unsigned:ident $Unsigned:ty, $signed:ident $Signed:ty;)+) => {$(
        fn $unsigned(self, number: $Unsigned) -> Result<(), Unsupported> {
            append_decimal(self.0, u64::from(number));
            Ok(())
        }

        fn $signed(self, number: $Signed) -> Result<(), Unsupported> {
            if number < 0 {
                self.0.push(b'-');
            }
            append_decimal(self.0, i64::from(number).unsigned_abs());
            Ok(())
        }
    )+};
}

macro_rules! unsupported {
    ($($method:ident($($argument:ty),*) -> $Ok:ty;)+) => {$(
        fn $method(self, $(_: $argument),*) -> Result<$Ok, Unsupported> {
            Err(Unsupported)
        }
    )+};
}

impl<'a> Serializer for Json<'a> {
    type Ok = ();
    type Error = Unsupported;
    type SerializeSeq = Items<'a>;
    type SerializeTuple = Impossible<(), Unsupported>;
    type SerializeTupleStruct = Impossible<(), Unsupported>;
    type SerializeTupleVariant = Impossible<(), Unsupported>;
    type SerializeMap = Items<'a>;
    type SerializeStruct = Items<'a>;
    type SerializeStructVariant = Impossible<(), Unsupported>;

    numbers! {
        serialize_u8 u8, serialize_i8 i8;
        serialize_u16 u16, serialize_i16 i16;
        serialize_u32 u32, serialize_i32 i32;
        serialize_u64 u64, serialize_i64 i64;
    }

    unsupported! {
        serialize_f32(f32) -> ();
        serialize_f64(f64) -> ();
        serialize_char(char) -> ();
        serialize_bytes(&[u8]) -> ();
        serialize_unit() -> ();
        serialize_unit_struct(&'static str) -> ();
        serialize_unit_variant(&'static str, u32, &'static str) -> ();
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }

    fn serialize_bool(self, value: bool) -> Result<(), Unsupported> {
        self.0.extend_from_slice(if value { b"true" } else { b"false" });
        Ok(())
    }

    fn serialize_str(self, text: &str) -> Result<(), Unsupported> {
        self.text(text);
        Ok(())
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), Unsupported> {
        let mut text = Quoted { out: self.0, is_plain: true };
        text.out.push(b'"');
        write!(text, "{value}").map_err(Unsupported::custom)?;
        text.out.push(b'"');
        if text.is_plain { Ok(()) } else { Err(Unsupported) }
    }

    fn serialize_none(self) -> Result<(), Unsupported> {
        self.0.extend_from_slice(b"null");
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unsupported> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Unsupported> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Unsupported> {
        Err(Unsupported)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items<'a>, Unsupported> {
        Ok(Items { out: self.0, before_next: b'[', end: b']' })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Items<'a>, Unsupported> {
        Ok(Items::object(self.0))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Items<'a>, Unsupported> {
        Ok(Items::object(self.0))
    }
}

/// Text that is written between quotes.
struct Quoted<'a> {
    out: &'a mut Vec<u8>,
    is_plain: bool,
}

impl fmt::Write for Quoted<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.is_plain &= !needs_escapes(text.as_bytes());
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

impl ser::Error for Unsupported {
    fn custom<T: Display>(_: T) -> Self {
        Self
    }
}

impl std::error::Error for Unsupported {}

impl Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a part of a record")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn text_of<T: Serialize>(value: &T) -> String {
        let mut out = b"before ".to_vec();
        append_json(&mut out, value);
        String::from_utf8(out).unwrap().strip_prefix("before ").unwrap().to_owned()
    }

    #[derive(Serialize)]
    #[serde(tag = "kind", rename_all = "snake_case")]
    enum Tagged<'a> {
        Some(Members<'a>),
        None(Nothing),
    }

    #[derive(Serialize)]
    struct Nothing {}

    #[derive(Serialize)]
    struct Members<'a> {
        text: &'a str,
        optional: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        absent: Option<u16>,
        signed: i32,
        flag: bool,
        list: Vec<Nothing>,
        map: BTreeMap<&'a str, u64>,
        shown: Shown<'a>,
        other: Value,
    }

    /// A value that is written by its `Display`.
    struct Shown<'a>(&'a str);

    impl Serialize for Shown<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self.0)
        }
    }

    proptest! {
        /// With all kinds of text, and with values that no record has.
        #[test]
        fn it_is_the_text_of_serde_json(text: String, name: String, optional: Option<i64>, signed: i32, number: u64, flag: bool, float: f64) {
            for other in [json!(null), json!(signed), json!(float), json!([float, {}, [], {&*text: [&*name]}])] {
                let map = [(&*name, number), ("x", u64::MAX)].into();
                let members = Members {
                    text: &text, optional, absent: None, signed, flag, list: vec![Nothing {}, Nothing {}], map, shown: Shown(&name), other,
                };
                let value = [Tagged::Some(members), Tagged::None(Nothing {})];
                prop_assert_eq!(text_of(&&value[..]), serde_json::to_string(&value[..]).unwrap());
            }
        }
    }

    #[test]
    fn texts_of_each_length_are_examined_whole() {
        for length in 0..40 {
            let plain = vec![b'x'; length];
            assert!(!needs_escapes(&plain));
            for (place, byte) in (0..length).flat_map(|place| (0..=255).map(move |byte| (place, byte))) {
                let mut text = plain.clone();
                text[place] = byte;
                let expected = byte < b' ' || byte == b'"' || byte == b'\\';
                assert_eq!(needs_escapes(&text), expected, "{byte} at {place} of {length}");
            }
        }
    }

    #[test]
    fn a_long_name_is_written_whole() {
        #[derive(Serialize)]
        struct Long {
            a_name_that_is_longer_than_those_of_records: u8,
            b: u8,
        }
        let value = Long { a_name_that_is_longer_than_those_of_records: 1, b: 2 };
        assert_eq!(text_of(&value), serde_json::to_string(&value).unwrap());
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 9, 10, 1_795_579_200_123, u64::MAX] {
            assert_eq!(text_of(&number), number.to_string());
        }
        for number in [0, -1, i64::MIN, i64::MAX] {
            assert_eq!(text_of(&number), number.to_string());
        }
        assert_eq!(text_of(&(1, 'x')), "[1,\"x\"]", "by serde_json");
    }
}
