//! The kinds of values in `[audit]`: its directories, and the members of `callData` that are kept.

use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::document::{Files, ValueRef};
use super::entry::Kind;
use super::reference::ValueKind;
use super::toml_text::quoted;

/// Users other than the owner and the group may write.
const OTHERS_WRITE: u32 = 0o002;
/// Users other than the owner and the group may do anything.
const OTHERS: u32 = 0o007;

/// A directory that the gateway writes to.
pub(super) struct Directory {
    /// It must exist. Otherwise the gateway makes it.
    must_exist: bool,
    /// The permissions that other users must not have, and how a problem names them.
    forbidden: (u32, &'static str),
    purpose: &'static str,
}

/// The directory of the records. It must exist: if its disk is not mounted, the gateway must not make a directory below the
/// mount point.
pub(super) fn audit_directory() -> Directory {
    Directory {
        must_exist: true,
        forbidden: (OTHERS_WRITE, "can be written by every user of this machine"),
        purpose: "directory that the gateway writes to",
    }
}

/// The directory of the number keys.
pub(super) fn key_directory() -> Directory {
    Directory {
        must_exist: false,
        forbidden: (OTHERS, "can be used by every user of this machine"),
        purpose: "directory of keys that the gateway makes",
    }
}

impl Kind for Directory {
    type Value = PathBuf;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<PathBuf> {
        let text = value.text("the path of a directory in quotes")?;
        if text.is_empty() || text.contains(['\0', '\n']) {
            return value.wrong(
                "is not the path of a directory",
                "write the path of a directory that is used for nothing else",
            );
        }
        // The path has one spelling, with or without a slash at the end.
        let path: PathBuf = value.document.resolve(text).components().collect();
        if value.document.files == Files::Check
            && let Some((message, cure)) = self.fault(&path)
        {
            return value.wrong(&message, &cure);
        }
        Some(path)
    }

    fn write(&self, value: &PathBuf) -> String {
        quoted(&value.to_string_lossy())
    }

    fn describe(&self) -> ValueKind {
        ValueKind::Path(self.purpose)
    }
}

impl Directory {
    /// What is wrong with the directory, and the cure.
    fn fault(&self, path: &Path) -> Option<(String, String)> {
        let make = || format!("make it for the gateway's user: `install -d -m 700 {}`", path.display());
        match path.metadata() {
            Ok(found) if !found.is_dir() => Some(("is not a directory".to_owned(), make())),
            Ok(found) => self.permission_fault(path, &found),
            Err(_) if !self.must_exist && path.parent().is_some_and(Path::is_dir) => None,
            Err(error) => Some((format!("cannot be used: {error}"), make())),
        }
    }

    fn permission_fault(&self, path: &Path, found: &Metadata) -> Option<(String, String)> {
        let (forbidden, words) = self.forbidden;
        if found.permissions().mode() & forbidden != 0 {
            return Some((words.to_owned(), format!("`chmod 700 {}`", path.display())));
        }
        let wanted = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        let cure = || format!("`chown` it to the user that the gateway runs as, and `chmod 700 {}`", path.display());
        let denied = |error: rustix::io::Errno| (format!("cannot be written: {error}"), cure());
        match rustix::fs::access(path, wanted) {
            // A disk that is read-only for now is no mistake in the configuration.
            Ok(()) | Err(rustix::io::Errno::ROFS) => None,
            Err(error) => Some(denied(error)),
        }
    }
}

/// A member of `callData` that is kept with a preview.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceMember {
    /// The path to it (RFC 6901), such as `/consentId`.
    pub pointer: String,
    /// Only a keyed hash of it is kept.
    pub hashed: bool,
}

/// `callData:/consentId`, or `hash:callData:/customer/email`.
pub(super) struct Evidence;

const HASH: &str = "hash:";
const CALL_DATA: &str = "callData:";
/// Maximum length of a pointer, in bytes.
const MAX_POINTER: usize = 128;

impl Kind for Evidence {
    type Value = EvidenceMember;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<EvidenceMember> {
        const CURE: &str =
            "write \"callData:/consentId\" to keep that member, \"hash:callData:/consentId\" to keep its hash";
        let text = value.text("a member of callData, such as \"callData:/consentId\"")?;
        let (hashed, member) = text.strip_prefix(HASH).map_or((false, text), |member| (true, member));
        let pointer = member.strip_prefix(CALL_DATA).filter(|pointer| is_pointer(pointer));
        match pointer {
            Some(pointer) => Some(EvidenceMember { pointer: pointer.to_owned(), hashed }),
            None => value.wrong("does not name a member of callData", CURE),
        }
    }

    fn write(&self, value: &EvidenceMember) -> String {
        quoted(&value.to_string())
    }

    fn describe(&self) -> ValueKind {
        ValueKind::Text("member of callData")
    }
}

impl std::fmt::Display for EvidenceMember {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { pointer, hashed } = self;
        write!(f, "{}{CALL_DATA}{pointer}", if *hashed { HASH } else { "" })
    }
}

/// A JSON pointer to a member. The empty one names the whole of `callData`, which is never kept.
fn is_pointer(text: &str) -> bool {
    text.len() > 1 && text.starts_with('/') && text.len() <= MAX_POINTER && !text.contains(char::is_control)
}
