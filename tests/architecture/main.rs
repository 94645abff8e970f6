//! The structure of `src/`, checked on the sources themselves: no circles between files, imports in one direction only,
//! an opening comment in each file, and bounds on the length of files and functions.
//!
//! - [`modules`] reads the files into a tree of modules with the names that each one binds;
//! - [`imports`] resolves every path to the file that defines the item;
//! - [`rules`] looks for what the project forbids;
//! - [`rust_version`] checks the oldest Rust that `Cargo.toml` promises.
//!
//! Code under `#[cfg(test)]` is left out: a unit test may look at whatever it tests.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod imports;
mod modules;
mod rules;
mod rust_version;
mod self_tests;

use std::collections::BTreeMap;
use std::path::Path;

/// The directories of the crates below the one in `src/`.
const CRATES: [&str; 2] = ["core/", "io/"];

/// The modules of all crates as one tree: each crate shows the modules of those below as its own.
fn product() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = BTreeMap::new();
    read_directory(&root, "", &mut files);
    let module =
        |name: &str| CRATES.iter().find_map(|directory| name.strip_prefix(directory)).unwrap_or(name).to_owned();
    let roots: String = CRATES.iter().map(|directory| files.remove(&format!("{directory}lib.rs")).unwrap()).collect();
    let mut files: BTreeMap<_, _> = files.into_iter().map(|(name, text)| (module(&name), text)).collect();
    // In place of what the root hands on, it declares the modules of the crates below.
    let root = files.get_mut("lib.rs").unwrap();
    *root = root.split_inclusive(';').filter(|item| !item.contains("use previewgate_")).collect();
    root.extend(roots.lines().filter(|line| is_module(line)).flat_map(|line| [line, "\n"]));
    files
}

fn is_module(line: &str) -> bool {
    line.starts_with("pub mod ") || line.starts_with("mod ")
}

fn read_directory(directory: &Path, prefix: &str, files: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            read_directory(&entry.path(), &format!("{name}/"), files);
        } else if name.ends_with(".rs") {
            files.insert(name, std::fs::read_to_string(entry.path()).unwrap());
        }
    }
}

#[track_caller]
fn assert_none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn no_two_files_import_each_other() {
    let files = product();
    let imports = imports::find(&modules::read(&files));
    assert_none(&rules::circles(&imports));
}

#[test]
fn imports_follow_the_layers_that_lib_rs_lists() {
    let files = product();
    let layers = rules::layers(&files["lib.rs"]);
    let modules = modules::read(&files);
    assert_none(&rules::unlisted(&layers, &modules));
    assert_none(&rules::upward_imports(&layers, &imports::find(&modules)));
}

#[test]
fn every_file_opens_with_a_comment_that_says_what_it_is() {
    assert_none(&rules::files_without_opening(&product()));
}

#[test]
fn files_and_functions_are_short() {
    let files = product();
    assert_none(&rules::long_files(&files));
    assert_none(&rules::long_functions(&modules::read(&files)));
}
