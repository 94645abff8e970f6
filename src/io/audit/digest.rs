//! Digests and keyed hashes as records contain them: fixed length, lower-case hexadecimal.

use std::fmt;

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::bounded_text::hex_digits;

/// A SHA-256 digest.
pub type Digest = Hex<32>;

/// The first half of an HMAC-SHA-256, as RFC 2104 section 5 permits.
pub type Mac = Hex<16>;

/// Bytes that are written as hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hex<const N: usize>(pub [u8; N]);

impl Digest {
    /// The `prev` of the first line of a chain.
    pub const ZERO: Self = Hex([0; 32]);

    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_slice(digest::digest(&digest::SHA256, bytes).as_ref())
    }
}

/// The digest of bytes that come piece by piece.
#[derive(Clone)]
pub struct DigestOfPieces(digest::Context);

impl Default for DigestOfPieces {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl DigestOfPieces {
    /// Adds the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes.
    pub fn finish(self) -> Digest {
        Digest::from_slice(self.0.finish().as_ref())
    }
}

impl<const N: usize> Hex<N> {
    /// Takes the first bytes of `bytes`; missing ones are zero.
    pub(super) fn from_slice(bytes: &[u8]) -> Self {
        // As a whole if they are enough.
        if let Some(taken) = bytes.first_chunk() {
            return Self(*taken);
        }
        let mut taken = [0; N];
        taken.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Self(taken)
    }

    /// Appends the digits.
    pub(super) fn append_to(self, text: &mut Vec<u8>) {
        let mut digits = [0; 64];
        text.extend_from_slice(self.digits(&mut digits));
    }

    /// The digits, in `room`. Eight are made at once: each record has several digests.
    fn digits(self, room: &mut [u8; 64]) -> &[u8] {
        const { assert!(N <= 32 && N.is_multiple_of(4), "whole pieces, and room for all") };
        let (pieces, _) = self.0.as_chunks();
        let (places, _) = room.as_chunks_mut();
        places.iter_mut().zip(pieces).for_each(|(place, piece)| *place = hex_digits(u32::from_be_bytes(*piece)));
        room.get(..2 * N).unwrap_or_default()
    }

    /// Reads exactly `2 * N` lower-case digits.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 64];
        f.write_str(std::str::from_utf8(self.digits(&mut digits)).unwrap_or_default())
    }
}

impl<const N: usize> fmt::Debug for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut digits = [0; 64];
        serializer.serialize_str(std::str::from_utf8(self.digits(&mut digits)).unwrap_or_default())
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        Self::parse(text).ok_or_else(|| de::Error::custom("not lower-case hexadecimal digits of the right length"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_sha_256_in_lower_case() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of(b"abc").to_string(), expected);
        assert_eq!(Digest::parse(expected), Some(Digest::of(b"abc")));
        assert_eq!(Digest::parse(&expected.to_uppercase()), None);
        assert_eq!(Mac::parse(expected), None);
    }
}
