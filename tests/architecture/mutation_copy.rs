//! `tests/mutants/run` copies a part of the sources into a crate of its own. What that part uses must be in the copy, or
//! the mutation tests do not compile, and nobody notices before the next run.

use std::collections::{BTreeMap, BTreeSet};

/// The two copies that the script makes: which modules each one declares.
fn copies(script: &str) -> [BTreeSet<String>; 2] {
    let mut declared = script.lines().map(str::trim).filter_map(|line| line.strip_prefix("modules=\""));
    let small = declared_modules(declared.next().unwrap());
    let rest = declared_modules(declared.next().unwrap());
    let large = small.union(&rest).cloned().collect();
    [small, large]
}

fn declared_modules(line: &str) -> BTreeSet<String> {
    let words: Vec<&str> = line.split([' ', ';', '"']).collect();
    words.windows(2).filter(|pair| pair[0] == "mod").map(|pair| pair[1].to_owned()).collect()
}

/// Whether the copy holds this file of `src`.
fn is_copied(file: &str, modules: &BTreeSet<String>) -> bool {
    let top = file.split(['/', '.']).next().unwrap();
    modules.contains(top) && (top != "gateway" || matches!(file, "gateway/policy.rs" | "gateway/headers.rs"))
}

/// The names behind `crate::` in `text`.
fn used_modules(text: &str) -> BTreeSet<String> {
    let name = |rest: &str| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap().to_owned();
    text.split("crate::").skip(1).map(name).filter(|name| !name.is_empty()).collect()
}

/// The dependencies of a manifest, as the sources spell them.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut is_list = false;
    let mut names = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            is_list = line.ends_with("dependencies]");
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| is_list) {
            names.insert(name.replace('-', "_"));
        }
    }
    names
}

fn uses_crate(text: &str, name: &str) -> bool {
    // Names within other names, and in text.
    let is_other = |c: char| c.is_alphanumeric() || "_:\"`".contains(c);
    text.match_indices(&format!("{name}::"))
        .any(|(at, _)| text.get(..at).is_some_and(|before| !before.ends_with(is_other)))
}

/// What is missing in the copies.
pub(crate) fn missing(files: &BTreeMap<String, String>, script: &str, own: &str, all: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let foreign: Vec<String> = dependencies(all).difference(&dependencies(own)).cloned().collect();
    for modules in copies(script) {
        for (file, text) in files.iter().filter(|(file, _)| is_copied(file, &modules)) {
            let unknown = used_modules(text).into_iter().filter(|used| {
                !modules.contains(used)
                    && (files.contains_key(&format!("{used}.rs")) || files.contains_key(&format!("{used}/mod.rs")))
            });
            findings.extend(unknown.map(|used| format!("{file} uses {used}, which tests/mutants/run does not copy")));
            let unlisted = foreign.iter().filter(|name| uses_crate(text, name));
            findings.extend(unlisted.map(|name| format!("{file} uses {name}: add it to tests/mutants/Cargo.toml")));
        }
    }
    findings
}

#[test]
fn a_missing_module_and_a_missing_crate_are_found() {
    let files = [
        ("preview/mod.rs", "use crate::sockets::Socket;\nuse serde::Serialize;\nfn f() { crate::preview::g() }"),
        ("gateway/record.rs", "use crate::sockets;"),
        ("sockets.rs", ""),
    ];
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    let script = "modules=\"pub mod preview;\"\n    modules=\"$modules pub mod gateway;\"\n";
    let all = "[dependencies]\nserde = \"1\"\nhttp-body = \"1\"\n[dev-dependencies]\ntempfile = \"3\"\n";
    let found = missing(&files, script, "[dependencies]\nhttp-body = \"1\"\n", all);
    let expected = [
        "preview/mod.rs uses sockets, which tests/mutants/run does not copy",
        "preview/mod.rs uses serde: add it to tests/mutants/Cargo.toml",
    ];
    assert_eq!(found, [expected, expected].concat());
    assert!(missing(&files, &script.replace("mod preview", "mod preview; mod sockets"), all, all).is_empty());
}
