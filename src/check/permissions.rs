//! `check` as root: whether the user of the service can use the files that root can read.
//!
//! It judges by owner, group and permissions of each file and of the directories above it. Access control lists are not
//! considered.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::{Config, NamedPath, PathAccess};

/// The user that the packaged unit runs the gateway as.
const PACKAGED_USER: &str = "previewgate";

const READ: u32 = 0o4;
const WRITE: u32 = 0o2;
const SEARCH: u32 = 0o1;

/// A user and the groups that it is in.
#[derive(Debug, PartialEq, Eq)]
struct User {
    name: String,
    id: u32,
    groups: BTreeSet<u32>,
}

/// A warning for each path that the service's user cannot use. None without root's rights: then the loader itself has
/// reported the files that it cannot read.
pub(super) fn warnings(config: &Config, file: &Path, user: Option<&str>) -> Vec<String> {
    if fs::metadata("/proc/self").is_ok_and(|own| own.uid() != 0) {
        return Vec::new();
    }
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    match User::find(user.unwrap_or(PACKAGED_USER), &read("/etc/passwd"), &read("/etc/group")) {
        Some(found) => found.warnings(config, file),
        None => user.map(|name| format!("--user {name}: there is no such user on this machine")).into_iter().collect(),
    }
}

impl User {
    /// The user of this name in the text of `/etc/passwd` and `/etc/group`.
    fn find(name: &str, passwd: &str, group: &str) -> Option<Self> {
        let mut entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let entry = entry.find(|fields| fields.first() == Some(&name))?;
        let id = entry.get(2)?.parse().ok()?;
        let own = entry.get(3)?.parse().ok();
        let others = group.lines().filter_map(|line| {
            let fields: Vec<_> = line.split(':').collect();
            let is_member = fields.get(3)?.split(',').any(|member| member == name);
            if is_member { fields.get(2)?.parse().ok() } else { None }
        });
        Some(Self { name: name.to_owned(), id, groups: own.into_iter().chain(others).collect() })
    }

    fn warnings(&self, config: &Config, file: &Path) -> Vec<String> {
        let own = NamedPath { key: "the configuration".to_owned(), path: file.to_owned(), access: PathAccess::Read };
        let named = std::iter::once(own).chain(config.named_paths());
        named.filter_map(|named| self.objection(&named).or_else(|| self.foreign_file(&named))).collect()
    }

    /// A file of the audit log that another user has made, such as root when it started the gateway by hand: the gateway
    /// then begins another chain, or has no key.
    fn foreign_file(&self, NamedPath { key, path, access }: &NamedPath) -> Option<String> {
        if *access != PathAccess::Write || !key.starts_with("audit.") {
            return None;
        }
        let wanted = |file: &Path| match file.extension()?.to_str()? {
            "jsonl" | "lock" => Some(READ | WRITE),
            "checkpoint" | "key" => Some(READ),
            _ => None,
        };
        let is_unusable = |file: &&PathBuf| {
            wanted(file).is_some_and(|wanted| fs::metadata(file).is_ok_and(|found| !self.may(&found, wanted)))
        };
        let mut files: Vec<_> = fs::read_dir(path).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.sort();
        let file = files.iter().find(is_unusable)?;
        Some(format!("{key} {}: the user {} cannot use this file", file.display(), self.name))
    }

    fn objection(&self, NamedPath { key, path, access }: &NamedPath) -> Option<String> {
        let (name, path) = (&self.name, fs::canonicalize(path).ok()?);
        if let Some(closed) = self.closed_directory(&path) {
            let directory = closed.display();
            return Some(format!("{key} {}: the user {name} cannot enter the directory {directory}", path.display()));
        }
        let (wanted, what) = match access {
            PathAccess::Read => (READ, "cannot read this file"),
            PathAccess::Write => (WRITE | SEARCH, "cannot write in this directory"),
        };
        let found = fs::metadata(&path).ok()?;
        (!self.may(&found, wanted)).then(|| format!("{key} {}: the user {name} {what}", path.display()))
    }

    /// The first directory above `path` that this user cannot enter.
    fn closed_directory(&self, path: &Path) -> Option<PathBuf> {
        let mut above: Vec<_> = path.ancestors().skip(1).collect();
        above.reverse();
        let is_closed = |directory: &&&Path| fs::metadata(directory).is_ok_and(|found| !self.may(&found, SEARCH));
        above.iter().find(is_closed).map(|directory| directory.to_path_buf())
    }

    fn may(&self, found: &Metadata, wanted: u32) -> bool {
        allows(found.mode(), found.uid() == self.id, self.groups.contains(&found.gid()), wanted) || self.id == 0
    }
}

/// Whether `mode` allows what is `wanted`. Only the first class that fits counts: an owner has the owner's permissions, even
/// if others have more.
fn allows(mode: u32, is_owner: bool, is_in_group: bool, wanted: u32) -> bool {
    let granted = if is_owner {
        mode >> 6
    } else if is_in_group {
        mode >> 3
    } else {
        mode
    };
    granted & wanted == wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_its_own_group_and_those_that_list_it() {
        let passwd = "root:x:0:0::/root:/bin/sh\npreviewgate:x:990:980::/:/bin/false\n";
        let group = "root:x:0:\ntls:x:70:nginx,previewgate\nother:x:71:previewgates\npreviewgate:x:980:\n";
        let user = User::find("previewgate", passwd, group).unwrap();
        assert_eq!(user, User { name: "previewgate".to_owned(), id: 990, groups: [70, 980].into() });
        assert_eq!(User::find("preview", passwd, group), None);
    }

    #[test]
    fn permissions_are_those_of_the_first_class_that_fits() {
        for (mode, is_owner, is_in_group, wanted, expected) in [
            (0o600, true, true, READ, true),
            (0o600, false, true, READ, false),
            (0o640, false, true, READ, true),
            (0o640, false, false, READ, false),
            (0o604, false, true, READ, false),
            (0o604, false, false, READ, true),
            (0o044, true, true, READ, false),
            (0o750, false, true, WRITE | SEARCH, false),
            (0o770, false, true, WRITE | SEARCH, true),
            (0o701, false, false, SEARCH, true),
        ] {
            assert_eq!(allows(mode, is_owner, is_in_group, wanted), expected, "{mode:o} {is_owner} {is_in_group}");
        }
    }
}
