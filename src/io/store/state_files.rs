//! The files that state is kept in: their names, and the checks before the first of them is read.
//!
//! A user who can write a snapshot can make the gateway allow callouts. So a gateway starts only with files that it owns
//! and that no other user can write, and only if no other gateway uses them.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::guid_key::{KEY_LENGTH, random_secret};

/// Why a gateway must not start with the files that it finds.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    /// Another process has the lock.
    #[error("another gateway uses this snapshot; each gateway needs a file of its own")]
    InUse,
    /// Another user could have written the file.
    #[error("{} belongs to user {owner}, not to the user of this process ({user}); change its owner, because who can write it decides which callouts pass", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// The number of its owner.
        owner: u32,
        /// The number of the user of this process.
        user: u32,
    },
    /// Other users can write the file.
    #[error("{} can be written by other users (mode {mode:03o}); run chmod 600 on it", path.display())]
    Writable {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

/// Locks the files of the snapshot at `snapshot` for this process, as long as the returned file is open. None if the
/// lock file cannot be made: a snapshot cannot be written there either, and saving one reports that.
///
/// # Errors
/// [`StateFileError::InUse`].
pub(super) fn lock(snapshot: &Path) -> Result<Option<File>, StateFileError> {
    let path = with_suffix(snapshot, ".lock");
    let Ok(file) = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path) else {
        return Ok(None);
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(StateFileError::InUse),
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// Checks that only the user of this process can write `path`. A file that does not exist is fine.
///
/// # Errors
/// [`StateFileError::Owner`] or [`StateFileError::Writable`].
pub(super) fn check(path: &Path) -> Result<(), StateFileError> {
    let Ok(found) = fs::metadata(path) else { return Ok(()) };
    let mode = found.mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(StateFileError::Writable { path: path.to_owned(), mode });
    }
    // The owner of a process's directory is its effective user.
    match fs::metadata("/proc/self").map(|own| own.uid()) {
        Ok(user) if user != found.uid() => {
            Err(StateFileError::Owner { path: path.to_owned(), owner: found.uid(), user })
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The secret in the file at `path`, which only its owner can read; a random one is made if there is none yet.
///
/// # Errors
/// The system's.
pub(super) fn secret(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        // A file that was cut off when it was written is replaced.
        Ok(secret) if secret.len() >= KEY_LENGTH => return Ok(secret),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(_) | Err(_) => {}
    }
    let secret = random_secret().ok_or_else(|| io::Error::other("the system has no random numbers"))?;
    let unfinished = with_suffix(path, ".unfinished");
    let _ = fs::remove_file(&unfinished);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(&secret)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    Ok(secret.to_vec())
}

/// `path` with `suffix` at the end of its name.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The directory of `path`.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The files in the directory of `path` whose names begin with its name and `infix`: each with the rest of its name.
///
/// # Errors
/// When the directory cannot be read. A directory that does not exist holds none.
pub(super) fn siblings(path: &Path, infix: &str) -> io::Result<Vec<(String, PathBuf)>> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(Vec::new()) };
    let prefix = format!("{name}{infix}");
    let entries = match fs::read_dir(parent(path)) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let rest = entry.file_name().to_str().and_then(|name| name.strip_prefix(&prefix)).map(str::to_owned);
        found.extend(rest.map(|rest| (rest, entry.path())));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_second_gateway_on_one_snapshot_is_refused_until_the_first_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let snapshot = directory.path().join("previews");
        let first = lock(&snapshot).unwrap();
        assert!(first.is_some());
        assert!(matches!(lock(&snapshot), Err(StateFileError::InUse)));
        drop(first);
        assert!(lock(&snapshot).unwrap().is_some());
        assert!(lock(&directory.path().join("missing/previews")).unwrap().is_none());
    }

    #[test]
    fn a_file_that_others_can_write_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("previews");
        check(&path).unwrap();
        fs::write(&path, "").unwrap();
        for (mode, good) in
            [(0o600, true), (0o644, true), (0o400, true), (0o620, false), (0o602, false), (0o666, false)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(check(&path).is_ok(), good, "{mode:o}");
        }
    }

    /// Only root can give a file away.
    #[test]
    fn a_file_of_another_user_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("previews");
        fs::write(&path, "").unwrap();
        if std::os::unix::fs::chown(&path, Some(12_345), None).is_ok() {
            assert!(matches!(check(&path), Err(StateFileError::Owner { owner: 12_345, .. })));
        }
    }

    #[test]
    fn a_secret_is_made_once_and_only_its_owner_can_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("previews.key");
        let made = secret(&path).unwrap();
        assert_eq!((made.len(), secret(&path).unwrap()), (KEY_LENGTH, made.clone()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, &made[..5]).unwrap();
        assert_ne!(secret(&path).unwrap(), made);
        secret(&directory.path().join("missing/previews.key")).unwrap_err();
    }
}
