//! Names of members that a mapper might take for a field that counts.
//!
//! Mappers differ: some ignore letter case, some `_`, `-` and blanks, some compare after normalising Unicode, and
//! fastjson finds a field by the 64-bit hash of its name alone. A name that one of them takes for a field, but is not
//! its exact spelling, has two readings.

use super::folded::Folded;

/// Longest name of a member in bytes. Nothing documented is longer than 30.
pub(super) const MAX_NAME: usize = 256;

/// A field that counts, and what it looks like to fastjson.
pub(super) struct Field {
    /// Its spelling, in lower case.
    pub(super) name: &'static str,
    /// The numbers that may stand for the name.
    hashes: [u64; 3],
}

impl Field {
    /// A field with a name in lower-case ASCII.
    pub(super) const fn new(name: &'static str) -> Self {
        Self { name, hashes: hashes_of(name.as_bytes()) }
    }
}

/// Whether a mapper that ignores case, compatibility forms, blanks and punctuation, or compares hashes, would take `key`
/// for one of `fields`.
pub(super) fn may_mean_one_of(key: &str, fields: &[Field]) -> bool {
    meant_one(key, fields).is_some()
}

/// The position of the field that such a mapper would take `key` for.
pub(super) fn meant_one(key: &str, fields: &[Field]) -> Option<usize> {
    folded_one(key, fields).or_else(|| hashed_one(key, fields))
}

/// The field of which nothing but its letters and digits is in `key`. Stops when too much is left for any.
fn folded_one(key: &str, fields: &[Field]) -> Option<usize> {
    let mut folded = Folded::default();
    for character in key.chars() {
        let is_foreign = folded.push(character) == 0 && character.is_alphanumeric();
        if is_foreign || folded.word().is_none() {
            return None;
        }
    }
    let word = folded.word()?;
    fields.iter().position(|field| word == field.name.as_bytes())
}

/// The field whose hash `key` has, in one of the three forms in which fastjson hashes a name: as it is, in lower case, and
/// without `_`, `-` and blanks besides.
fn hashed_one(key: &str, fields: &[Field]) -> Option<usize> {
    let [mut exact, mut lower, mut stripped] = [OFFSET; 3];
    for unit in key.encode_utf16() {
        let lower_unit = if matches!(unit, 0x41..=0x5a) { unit + 0x20 } else { unit };
        exact = fnv(exact, unit);
        lower = fnv(lower, lower_unit);
        if ![0x5f, 0x2d, 0x20].contains(&unit) {
            stripped = fnv(stripped, lower_unit);
        }
    }
    let known = |field: &Field| [exact, lower, stripped].iter().any(|hash| field.hashes.contains(hash));
    fields.iter().position(known)
}

/// FNV-1a with 64 bits over UTF-16 code units.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

const fn fnv(hash: u64, unit: u16) -> u64 {
    (hash ^ unit as u64).wrapping_mul(0x0100_0000_01b3)
}

/// FNV-1a, and both orders of the bytes in one number: fastjson 2 takes these for the hash of a name of up to eight bytes.
const fn hashes_of(name: &[u8]) -> [u64; 3] {
    let (mut hash, mut big_endian, mut little_endian) = (OFFSET, 0, 0);
    let mut rest = name;
    while let [byte, more @ ..] = rest {
        hash = fnv(hash, *byte as u16);
        big_endian = big_endian << 8 | *byte as u64;
        little_endian = little_endian >> 8 | (*byte as u64) << 56;
        rest = more;
    }
    if name.is_empty() || name.len() > 8 {
        return [hash; 3];
    }
    [hash, big_endian, little_endian >> (64 - 8 * name.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: [Field; 2] = [Field::new("called"), Field::new("callcontrolid")];

    #[test]
    fn names_that_some_mapper_takes_for_a_field() {
        for key in [
            "called",
            "Called",
            "CALLED",
            "called ",
            "_c-a l_l-e.d",
            "\0called",
            "call_control_id",
            "callControlId",
            "ｃalled",
            "ⓒaⅼled",
            "call℅ntrolid",
            "𝔠alled",
            "㎈led",
            "ca\u{301}lled",
        ] {
            assert!(may_mean_one_of(key, &FIELDS), "{key}");
        }
        for key in ["", "calle", "calledd", "recalled", "called2", "called你", "caller", "被叫", "callcontrolids", "-"]
        {
            assert!(!may_mean_one_of(key, &FIELDS), "{key}");
        }
    }

    #[test]
    fn names_with_the_hash_of_a_field() {
        // A pair that is known to collide.
        let (one, other) = ("8yn0iYCKYHlIj4-BwPqk", "GReLUrM4wMqfg9yzV3KQ");
        assert!(may_mean_one_of(one, &[Field::new(other)]));
        assert!(may_mean_one_of(other, &[Field::new(one)]));
        // As it is, in lower case, and without what some versions skip.
        let known = [Field::new("Called"), Field::new("called"), Field::new("call_ed")];
        for (key, expected) in [
            ("Called", Some(0)),
            ("called", Some(1)),
            ("CALLED", Some(1)),
            ("cAl-L eD_", Some(1)),
            ("call_ed", Some(1)),
            ("[alled", None),
            ("@alled", None),
            ("call.ed", None),
        ] {
            assert_eq!(hashed_one(key, &known), expected, "{key}");
        }
        let hash = |name: &str| name.bytes().fold(OFFSET, |hash, byte| fnv(hash, byte.into()));
        assert_eq!(hashes_of(b"a"), [0xaf63_dc4c_8601_ec8c, 0x61, 0x61]);
        assert_eq!(hashes_of(b"called"), [hash("called"), 0x6361_6c6c_6564, 0x6465_6c6c_6163]);
        assert_eq!(hashes_of(b"calldata"), [hash("calldata"), 0x6361_6c6c_6461_7461, 0x6174_6164_6c6c_6163]);
        assert_eq!(hashes_of(b"calleddnr"), [hash("calleddnr"); 3]);
        assert_eq!(hashes_of(b"callcontrolid"), [hash("callcontrolid"); 3]);
    }
}
