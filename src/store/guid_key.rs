//! Keyed hashes of GUIDs. A GUID is a credential (docs/protocol.md 2), so the gateway keeps its hash and never the GUID.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

use aws_lc_rs::{hmac, rand};

/// Bytes of a key.
const KEY_LENGTH: usize = 32;

/// A key of [`GuidHash`]es.
pub(super) struct GuidKey(hmac::Key);

/// 128 bits of the HMAC-SHA256 of a GUID.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct GuidHash(u128);

impl GuidKey {
    /// The key that `secret` is.
    fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// A key of this process alone.
    pub(super) fn random() -> Self {
        // Hashes under it never leave the process, so the hash maps' own randomness is enough where there is no other.
        let secret = random_secret().unwrap_or_else(|| {
            let half = || RandomState::new().build_hasher().finish().to_ne_bytes();
            let mut secret = [0; KEY_LENGTH];
            secret.iter_mut().zip([half(), half()].concat()).for_each(|(to, from)| *to = from);
            secret
        });
        Self::new(&secret)
    }

    /// The hash of `guid`. None for an empty one: it is no credential, and belongs to nobody.
    pub(super) fn hash(&self, guid: &[u8]) -> Option<GuidHash> {
        (!guid.is_empty()).then(|| GuidHash(u128::from_be_bytes(first_bytes(&self.0, guid))))
    }
}

/// Random bytes for a new key, if the system has some.
fn random_secret() -> Option<[u8; KEY_LENGTH]> {
    let mut secret = [0; KEY_LENGTH];
    rand::fill(&mut secret).ok().map(|()| secret)
}

/// The beginning of the tag.
fn first_bytes<const N: usize>(key: &hmac::Key, content: &[u8]) -> [u8; N] {
    let mut start = [0; N];
    start.iter_mut().zip(hmac::sign(key, content).as_ref()).for_each(|(to, from)| *to = *from);
    start
}

impl fmt::Debug for GuidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GuidKey(…)")
    }
}

/// Shows nothing: whoever debugs has no use for it.
impl fmt::Debug for GuidHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GuidHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_guids_have_equal_hashes_under_one_key_only() {
        let (one, same, other) = (GuidKey::new(b"secret"), GuidKey::new(b"secret"), GuidKey::random());
        assert_eq!(one.hash(b"guid.node"), same.hash(b"guid.node"));
        assert_ne!(one.hash(b"guid.node"), one.hash(b"Guid.node"));
        assert_ne!(one.hash(b"guid.node"), other.hash(b"guid.node"));
        assert_eq!(one.hash(b""), None);
        assert_eq!(format!("{one:?} {:?}", one.hash(b"guid.node")), "GuidKey(…) Some(GuidHash(…))");
    }
}
