//! The keys under which numbers are hashed: one for each month, in its own file.
//!
//! `<year>-<month>.key` holds 32 random bytes in hexadecimal. Removing a file makes the numbers of that month unreadable;
//! the chain still verifies. Gateways that share previews need the same files: make them in advance on one machine
//! (`previewgate audit keygen --number-keys DIR --months 24`) and distribute the directory. A gateway makes the file of a
//! month only if it is missing.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::{hmac, rand};
use data_encoding::HEXLOWER;

use super::digest::{Hex, Mac};
use super::time;
use crate::preview::{NumberKeyId, Timestamp};

/// The next month's key is made this long before the month begins.
const AHEAD: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// What a keyed hash is of. The same text in two roles has two hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A telephone number.
    Number,
    /// The GUID of a session.
    Session,
    /// A member of `callData`.
    Evidence,
}

impl Subject {
    fn prefix(self) -> &'static [u8] {
        match self {
            Self::Number => b"number:",
            Self::Session => b"session:",
            Self::Evidence => b"evidence:",
        }
    }
}

/// The key of one month.
#[derive(Clone)]
pub struct NumberKey {
    id: NumberKeyId,
    key: hmac::Key,
}

impl NumberKey {
    pub(super) fn new(year: u16, month: u8, secret: &[u8]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let Hex(fingerprint) = Hex::<4>::from_slice(hmac::sign(&key, b"fingerprint").as_ref());
        Self { id: NumberKeyId { year, month, fingerprint: u32::from_be_bytes(fingerprint) }, key }
    }

    /// Its name in records.
    pub fn id(&self) -> NumberKeyId {
        self.id
    }

    /// The first 128 bits of the HMAC-SHA256 of `"number:"` (or the other subjects' prefix) and `bytes`.
    pub fn mac(&self, subject: Subject, bytes: &[u8]) -> Mac {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(subject.prefix());
        context.update(bytes);
        Mac::from_slice(context.sign().as_ref())
    }
}

impl std::fmt::Debug for NumberKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NumberKey({})", self.id)
    }
}

/// All keys of a directory.
#[derive(Debug)]
pub struct NumberKeys {
    directory: PathBuf,
    keys: ArcSwap<Vec<Arc<NumberKey>>>,
}

impl NumberKeys {
    /// Reads the keys; makes neither the directory nor a key.
    ///
    /// # Errors
    /// When the directory or a key cannot be read.
    pub fn read(directory: &Path) -> io::Result<Self> {
        let keys = ArcSwap::from_pointee(read_all(directory)?);
        Ok(Self { directory: directory.to_owned(), keys })
    }

    /// Reads the keys; makes the directory and the key of the current month if they are missing.
    ///
    /// # Errors
    /// When the directory or a key cannot be read or made.
    pub fn open(directory: &Path, now: Timestamp) -> io::Result<Self> {
        create_directory(directory)?;
        let keys = Self { directory: directory.to_owned(), keys: ArcSwap::default() };
        keys.prepare(now)?;
        Ok(keys)
    }

    /// Reads the directory again; makes the key of the current month, and shortly before its end that of the next.
    ///
    /// # Errors
    /// When a key cannot be read or made.
    pub fn prepare(&self, now: Timestamp) -> io::Result<()> {
        for (year, month) in [time::month(now), time::month(now.after(AHEAD))] {
            make_key(&self.directory, year, month)?;
        }
        self.keys.store(Arc::new(read_all(&self.directory)?));
        Ok(())
    }

    /// The key of the month of `at`, or the newest key if that one is missing, so that no record waits for a file. `None` if
    /// there is no key.
    pub fn at(&self, at: Timestamp) -> Option<Arc<NumberKey>> {
        let keys = self.keys.load();
        // Most calls find the last key.
        let (year, month) = time::month(at);
        let of_month = |key: &&Arc<NumberKey>| (key.id.year, key.id.month) == (year, month);
        keys.iter().rev().find(of_month).or_else(|| keys.last()).cloned()
    }

    /// The key with this name, if it is still there.
    pub fn find(&self, id: NumberKeyId) -> Option<Arc<NumberKey>> {
        self.keys.load().iter().rev().find(|key| key.id == id).cloned()
    }

    /// All keys, the oldest first.
    pub fn all(&self) -> Arc<Vec<Arc<NumberKey>>> {
        self.keys.load_full()
    }
}

/// Makes the keys of `months` months, beginning with the month of `first`. Keys that exist stay.
///
/// # Errors
/// When the directory or a key cannot be made.
pub fn make_keys(directory: &Path, first: Timestamp, months: u32) -> io::Result<()> {
    create_directory(directory)?;
    let (mut year, mut month) = time::month(first);
    for _ in 0..months {
        make_key(directory, year, month)?;
        (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    }
    Ok(())
}

fn create_directory(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

fn make_key(directory: &Path, year: u16, month: u8) -> io::Result<()> {
    let path = directory.join(format!("{year:04}-{month:02}.key"));
    if path.exists() {
        return Ok(());
    }
    let mut secret = [0; 32];
    rand::fill(&mut secret).map_err(|_| io::Error::other("the system has no random numbers"))?;
    // The key is first written under another name: two gateways may make the same key at once, and the first one counts.
    let temporary = directory.join(format!(".{year:04}-{month:02}.{}", HEXLOWER.encode(&Mac::from_slice(&secret).0)));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
    let linked = file.and_then(|mut file| {
        // The temporary name must not disclose a part of the key.
        rand::fill(&mut secret).map_err(|_| io::Error::other("the system has no random numbers"))?;
        writeln!(file, "{}", HEXLOWER.encode(&secret))?;
        file.sync_all()?;
        match fs::hard_link(&temporary, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    });
    let _ = fs::remove_file(&temporary);
    linked
}

fn read_all(directory: &Path) -> io::Result<Vec<Arc<NumberKey>>> {
    let mut keys = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some((year, month)) = name.strip_suffix(".key").and_then(parse_month) else { continue };
        let text = fs::read_to_string(&path).map_err(|error| about(&path, &error))?;
        let secret = HEXLOWER.decode(text.trim_end().as_bytes()).ok().filter(|secret| secret.len() >= 16);
        let secret = secret.ok_or_else(|| about(&path, &"not a key of at least 16 bytes in hexadecimal"))?;
        keys.push(Arc::new(NumberKey::new(year, month, &secret)));
    }
    keys.sort_unstable_by_key(|key| key.id);
    Ok(keys)
}

fn about(path: &Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

fn parse_month(text: &str) -> Option<(u16, u8)> {
    let (year, month) = text.split_once('-')?;
    let (year, month) = (year.parse().ok()?, month.parse().ok()?);
    (text == format!("{year:04}-{month:02}")).then_some((year, month))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        time::parse(&format!("{text}T00:00:00.000Z")).unwrap()
    }

    #[test]
    fn each_month_has_a_key_and_the_next_one_is_made_ahead() {
        let directory = tempfile::tempdir().unwrap();
        let keys = NumberKeys::open(directory.path(), at("2026-11-25")).unwrap();
        assert_eq!(keys.all().len(), 1);
        keys.prepare(at("2026-11-29")).unwrap();
        let names: Vec<_> = keys.all().iter().map(|key| (key.id().year, key.id().month)).collect();
        assert_eq!(names, [(2026, 11), (2026, 12)]);
        assert_eq!(keys.at(at("2026-12-01")).unwrap().id().month, 12);
        // The same files give the same keys.
        let again = NumberKeys::read(directory.path()).unwrap();
        let mac = |keys: &NumberKeys| keys.at(at("2026-11-01")).unwrap().mac(Subject::Number, b"100");
        assert_eq!(mac(&keys), mac(&again));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "no temporary file stays");
    }

    #[test]
    fn a_removed_key_is_not_made_again_and_the_others_stay() {
        let directory = tempfile::tempdir().unwrap();
        make_keys(directory.path(), at("2026-11-25"), 3).unwrap();
        let keys = NumberKeys::read(directory.path()).unwrap();
        let lost = keys.at(at("2026-12-01")).unwrap().id();
        fs::remove_file(directory.path().join("2026-12.key")).unwrap();
        keys.prepare(at("2027-01-01")).unwrap();
        assert!(keys.find(lost).is_none());
        assert_eq!(keys.all().len(), 2);
    }

    #[test]
    fn the_hash_of_a_text_depends_on_its_subject_and_its_month() {
        let [november, december] = [11, 12].map(|month| NumberKey::new(2026, month, &[month; 32]));
        let mac = november.mac(Subject::Number, b"100");
        assert_eq!(mac, november.mac(Subject::Number, b"100"));
        assert_ne!(mac, november.mac(Subject::Session, b"100"));
        assert_ne!(mac, december.mac(Subject::Number, b"100"));
    }
}
