//! Names the revision in `previewgate --version`. No part of the program needs git.
//!
//! The first of these that is there: `PREVIEWGATE_REVISION` in the environment (container builds), the commit in a
//! `git archive`, the commit in a `cargo package`, the commit of the checkout. Otherwise the version stands alone.

use std::path::Path;
use std::process::Command;

/// `git archive` puts the commit here (see `.gitattributes`).
const ARCHIVED: &str = "$Format:%H$";
/// Digits of a commit that the version shows.
const DIGITS: usize = 12;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PREVIEWGATE_REVISION");
    let revision = std::env::var("PREVIEWGATE_REVISION").ok().filter(|text| !text.is_empty());
    let revision = revision.or_else(archived).or_else(packaged).or_else(checked_out).unwrap_or_default();
    let revision: String = revision.chars().take(DIGITS).filter(char::is_ascii_alphanumeric).collect();
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let version = if revision.is_empty() { version } else { format!("{version} ({revision})") };
    println!("cargo::rustc-env=PREVIEWGATE_VERSION={version}");
}

fn archived() -> Option<String> {
    (!ARCHIVED.starts_with('$')).then(|| ARCHIVED.to_owned())
}

/// `{"git": {"sha1": "…"}}`
fn packaged() -> Option<String> {
    let text = std::fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let (_, rest) = text.split_once("\"sha1\"")?;
    rest.split('"').nth(1).map(str::to_owned)
}

fn checked_out() -> Option<String> {
    // A tarball that was unpacked within the checkout of something else is not that checkout.
    let here = std::env::current_dir().ok()?.canonicalize().ok()?;
    let top = Path::new(&git(&["rev-parse", "--show-toplevel"])?).canonicalize().ok()?;
    if here != top {
        return None;
    }
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        // A file that is not there would have this script run at every build.
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
