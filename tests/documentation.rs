//! The documentation is true: links lead somewhere, examples show what the program prints, reasons and citations have
//! their section.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use previewgate::preview::Reason;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Files below `directory` whose names end in `ending`.
fn files(directory: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(directory)];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_str().unwrap().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found
}

fn pages() -> Vec<PathBuf> {
    let top = ["README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|file| root().join(file));
    [top.to_vec(), files("docs", ".md"), files("deploy", ".md")].concat()
}

/// The targets of `[text](target)`.
fn links(page: &str) -> Vec<&str> {
    let after = page.split("](").skip(1);
    after.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect()
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| -> String {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_relative_link_leads_to_a_file_and_a_heading() {
    let mut checked = 0;
    for page in pages() {
        for link in links(&text(&page)).into_iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
            let found = anchor.is_empty() || anchors(&text(&target)).contains(anchor);
            assert!(found, "{}: {link} leads to no heading", page.display());
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} links were found");
}

#[test]
fn every_reason_has_a_section_in_the_operators_manual() {
    let manual = text(&root().join("docs/operating.md"));
    for reason in Reason::ALL {
        assert!(manual.contains(&format!("\n### {reason}\n")), "docs/operating.md has no section for {reason}");
    }
}

#[test]
fn every_citation_of_the_protocol_has_its_section() {
    let protocol = text(&root().join("docs/protocol.md"));
    let mut cited = BTreeSet::new();
    for file in files("src", ".rs") {
        for citation in text(&file).split("protocol.md ").skip(1) {
            let number: String = citation.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
            let number = number.trim_end_matches('.').to_owned();
            let found =
                protocol.contains(&format!("\n## {number}. ")) || protocol.contains(&format!("\n### {number} "));
            assert!(found || number.is_empty(), "{} cites section {number}", file.display());
            cited.insert(number);
        }
    }
    assert!(cited.len() > 8, "only {cited:?} are cited");
}

/// Each call ID of the simulator is another one.
fn without_call_ids(table: &str) -> String {
    let mut words = table.split("call ");
    let mut kept = words.next().unwrap().to_owned();
    for rest in words {
        kept += "call ";
        kept += rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
    }
    kept
}

#[test]
fn the_readme_shows_what_the_demo_prints() {
    let readme = text(&root().join("README.md"));
    let table = readme.split("```").find(|block| block.contains(" #  what was sent")).unwrap();
    let run = Command::cargo_bin("previewgate").unwrap().args(["demo", "--once"]).assert().success();
    let printed = without_call_ids(&String::from_utf8_lossy(&run.get_output().stdout));
    let lines: BTreeSet<&str> = printed.lines().map(str::trim_end).collect();
    for line in without_call_ids(table).lines().filter(|line| !line.is_empty()) {
        assert!(lines.contains(line), "the demo does not print:\n{line}\nbut:\n{printed}");
    }
}

#[test]
fn the_readme_shows_what_explain_prints() {
    let readme = text(&root().join("README.md"));
    let command = readme.lines().find(|line| line.contains("explain --events")).unwrap();
    let arguments = command.split_once("-- ").unwrap().1.split(' ');
    let run = Command::cargo_bin("previewgate").unwrap().current_dir(root()).args(arguments).assert().success();
    let printed = String::from_utf8(run.get_output().stdout.clone()).unwrap();
    let shown = readme.split("```").find(|block| block.starts_with("\nprevi") && block.contains("verdict:")).unwrap();
    assert!(printed.contains(shown.trim()), "explain does not print:\n{shown}\nbut:\n{printed}");
}
