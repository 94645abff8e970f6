//! Keyed hashes that were computed a short time ago. The same number is hashed when it is shown and when it is called, and the
//! same GUID for each of its records.
//!
//! A text is known by its hash of 64 bits under a secret of this process, so that no number and no GUID is kept. A text is
//! compared with one other text only, so it is taken for another one once in 10^19 times. Whether a called number was shown is
//! not decided here: the same digits give the same keyed hash, with this memory or without it.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use super::digest::Mac;
use super::number_keys::{NumberKey, Subject};
use crate::preview::NumberKeyId;

/// The keyed hashes of a thousand agents with a preview each, in 200 KiB.
const PLACES: usize = 4096;

/// The keyed hashes. A new one takes the place of an earlier one.
pub(super) struct KnownMacs {
    places: Vec<Mutex<Option<Known>>>,
    secret: RandomState,
}

#[derive(Clone, Copy)]
struct Known {
    text: u64,
    key: NumberKeyId,
    mac: Mac,
}

impl Default for KnownMacs {
    fn default() -> Self {
        let places = std::iter::repeat_with(Mutex::default).take(PLACES).collect();
        Self { places, secret: RandomState::new() }
    }
}

impl KnownMacs {
    /// What [`NumberKey::mac`] returns.
    pub(super) fn mac(&self, key: &NumberKey, subject: Subject, bytes: &[u8]) -> Mac {
        let text = self.secret.hash_one((subject, bytes));
        let Some(place) = self.places.get(text as usize % PLACES) else { return key.mac(subject, bytes) };
        let mut known = place.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some(known) if known.text == text && known.key == key.id() => known.mac,
            _ => {
                let mac = key.mac(subject, bytes);
                *known = Some(Known { text, key: key.id(), mac });
                mac
            }
        }
    }
}

impl std::fmt::Debug for KnownMacs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KnownMacs(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_has_its_own_hash_under_each_key_and_for_each_subject_however_often_it_comes() {
        let (known, keys) = (KnownMacs::default(), [11, 12].map(|month| NumberKey::new(2026, month, &[month; 32])));
        // More texts than places.
        let texts: Vec<_> = (0..2 * PLACES).map(|number| number.to_string()).chain([String::new()]).collect();
        for (round, text) in (0..3).flat_map(|round| texts.iter().map(move |text| (round, text))) {
            for key in &keys {
                for subject in [Subject::Number, Subject::Session, Subject::Evidence] {
                    let mac = known.mac(key, subject, text.as_bytes());
                    assert_eq!(mac, key.mac(subject, text.as_bytes()), "{round} {text}");
                    assert_eq!(mac, known.mac(key, subject, text.as_bytes()));
                }
            }
        }
    }

    /// Two gateways can make different keys for one month.
    #[test]
    fn a_key_that_replaces_another_one_gives_its_own_hashes() {
        let (known, secrets) = (KnownMacs::default(), [[1; 32], [2; 32]]);
        for secret in [0, 1, 0] {
            let key = NumberKey::new(2026, 11, &secrets[secret]);
            assert_eq!(known.mac(&key, Subject::Number, b"100"), key.mac(Subject::Number, b"100"));
        }
    }
}
