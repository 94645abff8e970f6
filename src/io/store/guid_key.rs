//! Keyed hashes of GUIDs. A GUID is a credential (docs/protocol.md 2), so the gateway keeps its hash and never the GUID.
//!
//! Hashes are compared only with hashes under the same key. Each key has an identity, which is stored beside the hashes
//! that leave the process. A hash under another key is no information: it is not proof that a GUID is foreign.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::{hmac, rand};

/// Bytes of a key.
pub(super) const KEY_LENGTH: usize = 32;

/// A key of [`GuidHash`]es.
#[derive(Clone)]
pub(super) struct GuidKey {
    key: hmac::Key,
    id: KeyId,
    secret: Arc<[u8]>,
}

/// Says which key a hash was made with, and nothing about the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct KeyId(u32);

/// 128 bits of the HMAC-SHA256 of a GUID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct GuidHash(u128);

impl GuidKey {
    /// The key that `secret` is.
    pub(super) fn new(secret: &[u8]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let [a, b, c, d] = first_bytes(&key, b"id", b"");
        Self { key, id: KeyId(u32::from_be_bytes([a, b, c, d])), secret: secret.into() }
    }

    /// A key of this process alone.
    pub(super) fn random() -> Self {
        // Hashes under it leave the process only in a takeover, so the hash maps' own randomness is enough where there is no other.
        let secret = random_secret().unwrap_or_else(|| {
            let half = || RandomState::new().build_hasher().finish().to_ne_bytes();
            let mut secret = [0; KEY_LENGTH];
            secret.iter_mut().zip([half(), half()].concat()).for_each(|(to, from)| *to = from);
            secret
        });
        Self::new(&secret)
    }

    /// The secret, for the process that takes over from this one. Never for a log.
    pub(super) fn reveal(&self) -> &[u8] {
        &self.secret
    }

    /// Which key it is.
    pub(super) fn id(&self) -> KeyId {
        self.id
    }

    /// The hash of `guid`. None for an empty GUID, which is not a credential.
    pub(super) fn hash(&self, guid: &[u8]) -> Option<GuidHash> {
        (!guid.is_empty()).then(|| GuidHash(u128::from_be_bytes(first_bytes(&self.key, b"guid", guid))))
    }
}

/// Random bytes for a new key, if the system has some.
pub(super) fn random_secret() -> Option<[u8; KEY_LENGTH]> {
    let mut secret = [0; KEY_LENGTH];
    rand::fill(&mut secret).ok().map(|()| secret)
}

/// The beginning of the tag. `purpose` keeps the identity of a key and the hashes under it apart.
fn first_bytes<const N: usize>(key: &hmac::Key, purpose: &[u8], content: &[u8]) -> [u8; N] {
    let mut context = hmac::Context::with_key(key);
    context.update(purpose);
    context.update(&[0]);
    context.update(content);
    let mut start = [0; N];
    start.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
    start
}

impl fmt::Debug for GuidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GuidKey(…)")
    }
}

/// 8 hexadecimal digits.
impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl FromStr for KeyId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u32::from_str_radix(text, 16).map(Self)
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for GuidHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Shows no digits: a hash in a debug output would only connect log lines with a credential.
impl fmt::Debug for GuidHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GuidHash(…)")
    }
}

impl FromStr for GuidHash {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_guids_have_equal_hashes_under_one_key_only() {
        let (one, same, other) = (GuidKey::new(b"secret"), GuidKey::new(b"secret"), GuidKey::random());
        assert_eq!((one.id(), one.hash(b"guid.node")), (same.id(), same.hash(b"guid.node")));
        assert_ne!(one.hash(b"guid.node"), one.hash(b"Guid.node"));
        assert_ne!((one.id(), one.hash(b"guid.node")), (other.id(), other.hash(b"guid.node")));
        assert_ne!(GuidKey::random().id(), other.id());
        assert_eq!(one.hash(b""), None);
    }

    #[test]
    fn hashes_and_identities_survive_as_text_that_shows_no_guid() {
        let key = GuidKey::new(b"secret");
        let hash = key.hash(b"guid.node").unwrap();
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(key.id().to_string().parse(), Ok(key.id()));
        assert_eq!((hash.to_string().len(), key.id().to_string().len()), (32, 8));
        assert_eq!(format!("{key:?} {hash:?}"), "GuidKey(…) GuidHash(…)");
    }
}
