//! Signed checkpoints: C2SP signed notes (`c2sp.org/signed-note`) that hold a C2SP checkpoint (`c2sp.org/tlog-checkpoint`).
//!
//! ```text
//! previewgate-audit/1a2b3c4d/2026-11-25.1a2b3c4d.001
//! 4711
//! <root of the segment's Merkle tree over its first 4711 lines, base64>
//! head <SHA-256 of line 4711, hexadecimal>
//! seq <the sequence number of line 4711>
//! time 2026-11-25T04:00:00.000Z
//!
//! — previewgate-audit <base64 of the key hash and the Ed25519 signature of the text above>
//! ```

use std::fmt;
use std::path::Path;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use data_encoding::BASE64;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use super::digest::{Digest, Mac};
use crate::preview::Timestamp;

/// The name of every signing key in notes.
const KEY_NAME: &str = "previewgate-audit";
/// Signature type of Ed25519 in signed notes.
const ED25519_TYPE: u8 = 1;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// It holds no Ed25519 key.
    #[error("holds no {0}")]
    NotAKey(&'static str),
}

/// The private half: signs checkpoints.
pub struct Signer {
    key: Ed25519KeyPair,
    verifier: Verifier,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.verifier)
    }
}

impl Signer {
    /// Reads a PEM file with an Ed25519 key in PKCS#8.
    ///
    /// # Errors
    /// [`KeyError`]
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        Self::from_pem(&std::fs::read(path)?)
    }

    /// Reads a key from the content of such a file.
    ///
    /// # Errors
    /// [`KeyError::NotAKey`]
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        const WANTED: KeyError =
            KeyError::NotAKey("Ed25519 private key (PKCS#8, PEM); `previewgate audit keygen --signing-key` makes one");
        let Ok(PrivateKeyDer::Pkcs8(der)) = PrivateKeyDer::from_pem_slice(pem) else { return Err(WANTED) };
        let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).map_err(|_| WANTED)?;
        let verifier = Verifier { public_key: Digest::from_slice(key.public_key().as_ref()).0 };
        Ok(Self { key, verifier })
    }

    /// A new key, and the PEM text to keep it in.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn generate() -> Result<(Self, String), aws_lc_rs::error::Unspecified> {
        let key = Ed25519KeyPair::generate()?;
        let der = key.to_pkcs8v1()?;
        let text = BASE64.encode(der.as_ref());
        let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
        let verifier = Verifier { public_key: Digest::from_slice(key.public_key().as_ref()).0 };
        Ok((Self { key, verifier }, pem))
    }

    /// The public half.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// A keyed hash of a secret. It changes when the secret changes, and does not help to guess the secret. The key is that
    /// of the signatures: an Ed25519 signature depends only on the key and the text.
    pub(super) fn fingerprint_of_secret(&self, secret: &[u8]) -> Mac {
        let text = [b"secret\n", &Digest::of(secret).0[..]].concat();
        Mac::from_slice(&Digest::of(self.key.sign(&text).as_ref()).0)
    }

    /// The signed note of `checkpoint`.
    pub fn sign(&self, checkpoint: &Checkpoint) -> String {
        let text = checkpoint.to_string();
        let signature = self.key.sign(text.as_bytes());
        let signed = [&self.verifier.hash()[..], signature.as_ref()].concat();
        format!("{text}\n\u{2014} {KEY_NAME} {}\n", BASE64.encode(&signed))
    }
}

/// The public half: verifies that the private one signed a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    public_key: [u8; 32],
}

/// As a C2SP verifier key: name, key hash, and the key.
impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.hash();
        let key = [&[ED25519_TYPE][..], &self.public_key].concat();
        write!(f, "{KEY_NAME}+{:08x}+{}", u32::from_be_bytes([a, b, c, d]), BASE64.encode(&key))
    }
}

impl Verifier {
    /// Reads verifier keys, one on each line. Blank lines and lines that start with `#` are skipped.
    ///
    /// # Errors
    /// [`KeyError`]
    pub fn read_all(path: &Path) -> Result<Vec<Self>, KeyError> {
        let text = std::fs::read_to_string(path)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys: Option<Vec<_>> = lines.map(Self::parse).collect();
        keys.filter(|keys| !keys.is_empty()).ok_or(KeyError::NotAKey("public key that `audit keygen` printed"))
    }

    /// Reads a verifier key.
    pub fn parse(text: &str) -> Option<Self> {
        let key = text.splitn(3, '+').nth(2)?;
        let bytes = BASE64.decode(key.as_bytes()).ok()?;
        let (ED25519_TYPE, key) = bytes.split_first().map(|(kind, key)| (*kind, key))? else { return None };
        let verifier = Self { public_key: key.try_into().ok()? };
        (verifier.to_string() == text).then_some(verifier)
    }

    /// The first bytes of `SHA-256(name || LF || type || key)`.
    fn hash(&self) -> [u8; 4] {
        let bytes = [KEY_NAME.as_bytes(), b"\n", &[ED25519_TYPE], &self.public_key].concat();
        let [a, b, c, d, ..] = Digest::of(&bytes).0;
        [a, b, c, d]
    }

    fn has_signed(&self, text: &str, signature_line: &str) -> bool {
        let read = || {
            let signed = signature_line.strip_prefix("\u{2014} ")?.strip_prefix(KEY_NAME)?.strip_prefix(' ')?;
            let signed = BASE64.decode(signed.as_bytes()).ok()?;
            Some(signed.strip_prefix(&self.hash())?.to_vec())
        };
        let key = UnparsedPublicKey::new(&ED25519, self.public_key);
        read().is_some_and(|signature| key.verify(text.as_bytes(), &signature).is_ok())
    }
}

/// What a signed note says: the state of a segment after a number of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The chain: the name of the gateway's instance.
    pub instance: String,
    /// The segment's file name without `.jsonl`.
    pub segment: String,
    /// The number of its lines that the checkpoint covers.
    pub lines: u64,
    /// The root of the Merkle tree over them.
    pub root: Digest,
    /// The digest of the last of them.
    pub head: Digest,
    /// The sequence number of the last of them.
    pub seq: u64,
    /// When it was signed.
    pub time: Timestamp,
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { instance, segment, lines, root, head, seq, time } = self;
        let (root, time) = (BASE64.encode(&root.0), super::time::Rfc3339(*time));
        write!(f, "{KEY_NAME}/{instance}/{segment}\n{lines}\n{root}\nhead {head}\nseq {seq}\ntime {time}\n")
    }
}

impl Checkpoint {
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let (name, rest) = lines.next()?.split_once('/')?;
        let (instance, segment) = rest.split_once('/')?;
        let size = lines.next()?.parse().ok()?;
        let root = BASE64.decode(lines.next()?.as_bytes()).ok()?;
        let head = Digest::parse(lines.next()?.strip_prefix("head ")?)?;
        let seq = lines.next()?.strip_prefix("seq ")?.parse().ok()?;
        let time = super::time::parse(lines.next()?.strip_prefix("time ")?)?;
        let checkpoint = Self {
            instance: instance.to_owned(),
            segment: segment.to_owned(),
            lines: size,
            root: Digest::from_slice(&root),
            head,
            seq,
            time,
        };
        // Other spellings of the same values are refused.
        (name == KEY_NAME && checkpoint.to_string() == text).then_some(checkpoint)
    }
}

/// The result of opening a signed note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// One of the keys signed it.
    Signed(Checkpoint),
    /// It is a checkpoint, but none of the keys signed it.
    Unsigned(Checkpoint),
    /// It is not a checkpoint.
    Unreadable,
}

/// Reads a note and looks for a signature of one of `keys`.
pub fn open(note: &str, keys: &[Verifier]) -> Opened {
    let read = || {
        let (text, signatures) = note.split_once("\n\n")?;
        let text = format!("{text}\n");
        let checkpoint = Checkpoint::parse(&text)?;
        Some((text, signatures, checkpoint))
    };
    let Some((text, signatures, checkpoint)) = read() else { return Opened::Unreadable };
    // There must be exactly one signature line, so that each change of a note is noticed.
    let Some(line) = signatures.strip_suffix('\n').filter(|line| !line.contains('\n')) else {
        return Opened::Unreadable;
    };
    if keys.iter().any(|key| key.has_signed(&text, line)) {
        Opened::Signed(checkpoint)
    } else {
        Opened::Unsigned(checkpoint)
    }
}

/// The notes in a text that may hold other lines between them: plain notes, or log lines in JSON with a member `note`.
pub fn find_notes(text: &str) -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct LogLine {
        note: String,
    }
    let mut found: Vec<String> =
        text.lines().filter_map(|line| serde_json::from_str::<LogLine>(line).ok()).map(|line| line.note).collect();
    let lines: Vec<&str> = text.lines().collect();
    for (position, line) in lines.iter().enumerate() {
        if line.starts_with(KEY_NAME)
            && line.contains('/')
            && let Some(note) = lines.get(position..position + 8)
        {
            found.push(format!("{}\n", note.join("\n")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            instance: "1a2b3c4d".to_owned(),
            segment: "2026-11-25.1a2b3c4d.001".to_owned(),
            lines: 4711,
            root: Digest::of(b"root"),
            head: Digest::of(b"head"),
            seq: 4711,
            time: Timestamp(1_795_579_200_000),
        }
    }

    #[test]
    fn only_an_unchanged_note_of_the_right_key_is_signed() {
        let (signer, pem) = Signer::generate().unwrap();
        let again = Signer::from_pem(pem.as_bytes()).unwrap();
        let note = again.sign(&checkpoint());
        let keys = [signer.verifier().clone()];
        assert_eq!(open(&note, &keys), Opened::Signed(checkpoint()));
        let (other, _) = Signer::generate().unwrap();
        assert_eq!(open(&note, &[other.verifier().clone()]), Opened::Unsigned(checkpoint()));
        for (position, _) in note.char_indices() {
            let mut changed = note.clone().into_bytes();
            changed[position] ^= 1;
            if let Ok(changed) = String::from_utf8(changed) {
                assert!(!matches!(open(&changed, &keys), Opened::Signed(_)), "{position}: {changed}");
            }
        }
        assert_eq!(open(&format!("{note}\u{2014} another AAAA\n"), &keys), Opened::Unreadable);
    }

    #[test]
    fn a_verifier_key_reads_as_it_was_written() {
        // Base64 has `+` too, in most of these keys.
        for byte in 0..=255 {
            let verifier = Verifier { public_key: [byte; 32] };
            let text = verifier.to_string();
            assert_eq!(Verifier::parse(&text).as_ref(), Some(&verifier));
            assert_eq!(Verifier::parse(&text.replace("audit+", "audit+0")), None);
        }
    }

    #[test]
    fn notes_are_found_among_log_lines() {
        let (signer, _) = Signer::generate().unwrap();
        let note = signer.sign(&checkpoint());
        let line = serde_json::json!({ "level": "INFO", "note": note }).to_string();
        assert_eq!(find_notes(&format!("first\n{line}\n")), std::slice::from_ref(&note));
        assert_eq!(find_notes(&format!("x\n{note}y\n{note}")), [note.clone(), note]);
    }
}
