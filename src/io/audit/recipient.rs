//! Numbers for an auditor: encrypted to a public key, so that the gateway itself cannot read them again.
//!
//! HPKE (RFC 9180) in its base mode, with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and AES-256-GCM, as aws-lc-rs and rustls
//! have it: no further cryptography comes in. One encryption holds the numbers of one record, and names the record as
//! associated data, so that it fits no other one.

use std::fmt;
use std::path::Path;

use data_encoding::BASE64;
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256 as SUITE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke as _, HpkePrivateKey, HpkePublicKey};

use super::note::KeyError;
use crate::preview::RecordId;

const PUBLIC: &str = "previewgate-auditor+";
const PRIVATE: &str = "previewgate-auditor-private+";
/// Tells these encryptions from all others that a key may be used for.
const INFO: &[u8] = b"previewgate-audit/numbers/1";
const KEY_BYTES: usize = 32;

/// The public half: numbers are encrypted to it.
#[derive(Clone)]
pub struct Recipient(HpkePublicKey);

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC}{}", BASE64.encode(&self.0.0))
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Recipient {
    /// Reads the file that `audit keygen --recipient` made.
    ///
    /// # Errors
    /// [`KeyError`]
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = std::fs::read_to_string(path)?;
        Self::parse(text.trim_end()).ok_or(KeyError::NotAKey("public key of an auditor (`audit keygen --recipient`)"))
    }

    /// Reads its text.
    pub fn parse(text: &str) -> Option<Self> {
        key(text, PUBLIC).map(|bytes| Self(HpkePublicKey(bytes)))
    }

    /// Encrypts the numbers of a record.
    pub fn seal(&self, record: RecordId, numbers: &[&str]) -> Option<String> {
        let plaintext = serde_json::to_vec(numbers).ok()?;
        let (secret, ciphertext) = SUITE.seal(INFO, record.to_string().as_bytes(), &plaintext, &self.0).ok()?;
        Some(BASE64.encode(&[secret.0, ciphertext].concat()))
    }
}

/// The private half: the auditor's.
pub struct RecipientKey(HpkePrivateKey);

impl fmt::Debug for RecipientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecipientKey")
    }
}

impl RecipientKey {
    /// Makes a pair; returns both halves as text.
    pub fn generate() -> Option<(Recipient, String)> {
        let (public, private) = SUITE.generate_key_pair().ok()?;
        Some((Recipient(public), format!("{PRIVATE}{}\n", BASE64.encode(private.secret_bytes()))))
    }

    /// Reads the file that `audit keygen --recipient` made.
    ///
    /// # Errors
    /// [`KeyError`]
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = std::fs::read_to_string(path)?;
        let bytes = key(text.trim_end(), PRIVATE).ok_or(KeyError::NotAKey("private key of an auditor"))?;
        Ok(Self(HpkePrivateKey::from(bytes)))
    }

    /// The numbers of a record; `None` if they were encrypted to another key, or changed.
    pub fn open(&self, record: RecordId, sealed: &str) -> Option<Vec<String>> {
        let bytes = BASE64.decode(sealed.as_bytes()).ok()?;
        let (secret, ciphertext) = bytes.split_at_checked(KEY_BYTES)?;
        let secret = EncapsulatedSecret(secret.to_vec());
        let plaintext = SUITE.open(&secret, INFO, record.to_string().as_bytes(), ciphertext, &self.0).ok()?;
        serde_json::from_slice(&plaintext).ok()
    }
}

fn key(text: &str, prefix: &str) -> Option<Vec<u8>> {
    let bytes = BASE64.decode(text.strip_prefix(prefix)?.as_bytes()).ok()?;
    (bytes.len() == KEY_BYTES).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_auditor_reads_the_numbers_and_only_in_their_own_record() {
        let (recipient, private) = RecipientKey::generate().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), private).unwrap();
        let key = RecipientKey::read(file.path()).unwrap();
        let record = RecordId { run: 1, number: 2 };
        let sealed = recipient.seal(record, &["88881001", "88881002"]).unwrap();
        assert_ne!(recipient.seal(record, &["88881001", "88881002"]).unwrap(), sealed, "each time another one");
        assert_eq!(key.open(record, &sealed).unwrap(), ["88881001", "88881002"]);
        assert_eq!(key.open(RecordId { run: 1, number: 3 }, &sealed), None);
        assert_eq!(key.open(record, &sealed.replacen('A', "B", 1)).filter(|_| sealed.contains('A')), None);
        let (_, other) = RecipientKey::generate().unwrap();
        std::fs::write(file.path(), other).unwrap();
        assert_eq!(RecipientKey::read(file.path()).unwrap().open(record, &sealed), None);
    }

    #[test]
    fn a_public_key_reads_as_it_was_written() {
        let (recipient, private) = RecipientKey::generate().unwrap();
        assert_eq!(Recipient::parse(&recipient.to_string()).unwrap().to_string(), recipient.to_string());
        for bad in ["", PUBLIC, "previewgate-auditor+AAAA", private.trim_end()] {
            assert!(Recipient::parse(bad).is_none(), "{bad}");
        }
    }
}
