//! The files and directories that a configuration names, for `check`. The loader does not require all of them.

use std::path::{Path, PathBuf};

use super::keys;
use super::model::Config;
use super::problem::Problem;

/// A file or directory that a key names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPath {
    /// The key.
    pub key: String,
    /// The path, absolute.
    pub path: PathBuf,
    /// Whether the gateway reads the file, or writes into the directory.
    pub access: PathAccess,
}

/// What the gateway does with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathAccess {
    /// Reads the file.
    Read,
    /// Makes files in the directory.
    Write,
}

impl Config {
    /// Every file that the gateway reads and every directory that it writes to, in the order of the keys' names.
    pub fn named_paths(&self) -> Vec<NamedPath> {
        let read = keys::values(self).into_iter().filter(|(_, value)| value.file).filter_map(|(key, value)| {
            Some(NamedPath { key, path: unquoted(&value.toml)?.into(), access: PathAccess::Read })
        });
        let snapshot = self.previews.snapshot.as_deref().and_then(Path::parent);
        let audit = self.audit.as_ref();
        let written = [
            ("audit.directory", audit.map(|audit| audit.directory.as_path())),
            ("audit.number_keys", audit.map(|audit| made_or_parent(&audit.number_keys))),
            ("previews.snapshot", snapshot),
        ];
        let written = written.into_iter().filter_map(|(key, directory)| {
            Some(NamedPath { key: key.to_owned(), path: directory?.to_owned(), access: PathAccess::Write })
        });
        read.chain(written).collect()
    }

    /// Directories that the gateway writes to and that do not exist. The gateway serves without them, but what it should
    /// write is lost.
    pub fn missing_directories(&self) -> Vec<Problem> {
        let written = self.named_paths().into_iter().filter(|named| named.access == PathAccess::Write);
        let missing = written.filter(|named| !named.path.is_dir());
        missing.map(|NamedPath { key, path, .. }| missing_directory(key, &path)).collect()
    }
}

/// A directory that the gateway makes if it is missing; its parent then.
fn made_or_parent(directory: &Path) -> &Path {
    match directory.parent() {
        Some(parent) if !directory.is_dir() => parent,
        _ => directory,
    }
}

fn missing_directory(key: String, path: &Path) -> Problem {
    let message = format!("is in a directory that does not exist: {}", path.display());
    let cure = "make the directory, and give it to the user of the gateway".to_owned();
    Problem { line: None, column: None, key, value: None, message, cure }
}

/// The text of a TOML string.
fn unquoted(toml: &str) -> Option<String> {
    let table: toml::Table = format!("path = {toml}").parse().ok()?;
    table.get("path")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Files};

    fn config(settings: &str) -> Config {
        let text = format!("upstream.endpoints = [\"https://a:8043\"]\n{settings}");
        config::parse(&text, Path::new("/etc/pg"), Files::Skip).unwrap()
    }

    #[test]
    fn every_path_is_named_absolute() {
        let tls = "[listener.tls]\ncertificate = \"s.crt\"\nprivate_key = \"/k/s \\\"1\\\".key\"";
        let config = config(&format!("previews.snapshot = \"state/previews\"\nlog.hash_key = \"h\"\n{tls}"));
        let named = config.named_paths();
        let found: Vec<_> =
            named.iter().map(|named| (&*named.key, named.path.to_str().unwrap(), named.access)).collect();
        let expected = [
            ("listener.tls.certificate", "/etc/pg/s.crt", PathAccess::Read),
            ("listener.tls.private_key", "/k/s \"1\".key", PathAccess::Read),
            ("log.hash_key", "/etc/pg/h", PathAccess::Read),
            ("previews.snapshot", "/etc/pg/state", PathAccess::Write),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_missing_directory_is_a_problem() {
        let problems = config("previews.snapshot = \"/nonexistent/previewgate/previews\"").missing_directories();
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        assert!(problem.to_string().contains("/nonexistent/previewgate\n"), "{problem}");
        assert_eq!(config("previews.snapshot = \"/tmp/previews\"").missing_directories(), []);
        assert_eq!(config("").missing_directories(), []);
    }
}
