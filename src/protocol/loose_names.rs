//! Names of members that a mapper might take for a field that counts.
//!
//! Mappers differ: some ignore letter case, some `_`, `-` and blanks, some compare after normalising Unicode, and
//! fastjson finds a field by the 64-bit hash of its name alone. A name that one of them takes for a field, but is not
//! its exact spelling, has two readings.

use super::path_readings;

/// Longest name of a member in bytes. Nothing documented is longer than 30.
pub(super) const MAX_NAME: usize = 256;

/// Whether a mapper that ignores case, compatibility forms, blanks and punctuation, or compares hashes, would take `key`
/// for one of `fields`, which are in lower case.
pub(super) fn may_mean_one_of(key: &str, fields: &[&str]) -> bool {
    fields.iter().any(|field| folds_onto(key, field)) || has_hash_of(key, fields)
}

/// Whether nothing but the letters and digits of `field` is left of `key`. Stops at the first that differs.
fn folds_onto(key: &str, field: &str) -> bool {
    let mut expected = field.bytes();
    let mut folded = String::new();
    for character in key.chars() {
        folded.clear();
        path_readings::fold_into(&mut folded, character);
        let differs = folded.is_empty() && character.is_alphanumeric();
        if differs || folded.bytes().any(|byte| expected.next() != Some(byte)) {
            return false;
        }
    }
    expected.next().is_none()
}

/// The three forms in which fastjson hashes a name: as it is, in lower case, and without `_`, `-` and blanks besides.
fn has_hash_of(key: &str, fields: &[&str]) -> bool {
    let lower = || key.encode_utf16().map(|unit| if matches!(unit, 0x41..=0x5a) { unit + 0x20 } else { unit });
    let hashes =
        [fnv(key.encode_utf16()), fnv(lower()), fnv(lower().filter(|unit| ![0x5f, 0x2d, 0x20].contains(unit)))];
    fields.iter().any(|field| {
        let [big_endian, little_endian] = packed(field);
        let known = [Some(fnv(field.encode_utf16())), big_endian, little_endian];
        hashes.iter().any(|hash| known.contains(&Some(*hash)))
    })
}

/// FNV-1a with 64 bits over UTF-16 code units.
fn fnv(units: impl Iterator<Item = u16>) -> u64 {
    units.fold(0xcbf2_9ce4_8422_2325, |hash, unit| (hash ^ u64::from(unit)).wrapping_mul(0x0100_0000_01b3))
}

/// fastjson 2 takes the bytes of a name of up to eight bytes for its hash.
fn packed(name: &str) -> [Option<u64>; 2] {
    let short = name.len() <= 8;
    let pack = |value: u64, byte: u8| value << 8 | u64::from(byte);
    [short.then(|| name.bytes().fold(0, pack)), short.then(|| name.bytes().rev().fold(0, pack))]
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: [&str; 2] = ["called", "callcontrolid"];

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
        assert!(may_mean_one_of(one, &[other]));
        assert!(may_mean_one_of(other, &[one]));
        assert_eq!(fnv("a".encode_utf16()), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(packed("called"), [Some(0x6361_6c6c_6564), Some(0x6465_6c6c_6163)]);
        assert_eq!(packed("callcontrolid"), [None, None]);
    }
}
