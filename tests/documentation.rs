//! The documentation is true: links lead somewhere, examples show what the program prints, reasons and citations have
//! their section.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use previewgate::config::{self, Files, KeyDescription, Presence, Reload, describe_keys};
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
fn the_index_lists_every_page() {
    let index = text(&root().join("docs/README.md"));
    for page in files("docs", ".md") {
        let name = page.file_name().unwrap().to_str().unwrap();
        assert!(name == "README.md" || links(&index).contains(&name), "docs/README.md does not list {name}");
    }
}

#[test]
fn the_configuration_for_kubernetes_loads() {
    let manifest = text(&root().join("deploy/kubernetes/previewgate.yaml"));
    let (_, rest) = manifest.split_once("\n  previewgate.toml: |\n").unwrap();
    let lines = rest.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
    let configuration: String = lines.map(|line| line.strip_prefix("    ").unwrap_or(line).to_owned() + "\n").collect();
    let config = config::parse(&configuration, Path::new("/etc/previewgate/config"), Files::Skip).unwrap();
    assert_eq!(config.upstream.endpoints.len(), 2, "{configuration}");
}

/// What stands between backticks.
fn quoted(page: &str) -> Vec<&str> {
    let outside_blocks = page.split("```").step_by(2);
    outside_blocks.flat_map(|text| text.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn every_file_that_a_page_names_exists() {
    let mut checked = 0;
    for page in pages() {
        for name in quoted(&text(&page)) {
            let is_path = ["src/", "tests/", "benches/", "config/"].iter().any(|start| name.starts_with(start));
            if is_path && !name.contains(' ') {
                assert!(root().join(name).exists(), "{}: {name} does not exist", page.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 20, "only {checked} files were found");
}

#[test]
fn every_key_that_a_page_names_exists() {
    let keys: BTreeSet<String> = describe_keys().into_iter().map(|description| description.key).collect();
    let top = |name: &str| name.split('.').next().unwrap().to_owned();
    let tables: BTreeSet<String> = keys.iter().map(|key| top(key)).collect();
    let mut checked = 0;
    for page in pages() {
        for name in quoted(&text(&page)) {
            let name = name.split(" = ").next().unwrap();
            let is_key = name.contains('.') && name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == '.');
            if is_key && tables.contains(&top(name)) && !name.ends_with(".rs") {
                assert!(keys.contains(name), "{}: there is no key {name}", page.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 40, "only {checked} keys were found");
}

#[test]
fn every_name_of_the_code_in_the_map_is_in_the_code() {
    let code: String = files("src", ".rs").iter().map(|file| text(file)).collect();
    let words: BTreeSet<&str> = code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let mut checked = 0;
    for page in ["docs/architecture.md", "SECURITY.md"] {
        let page = text(&root().join(page));
        for name in quoted(&page).into_iter().filter(|name| name.contains("::")) {
            for part in name.trim_end_matches("()").split("::") {
                assert!(words.contains(part), "{name}: the code has no {part}");
            }
            checked += 1;
        }
    }
    assert!(checked > 60, "only {checked} names were found");
}

/// The reference of all keys, as `docs/configuration.md` shows it.
fn reference() -> String {
    let mut table = "| key | value | default | changes |\n|---|---|---|---|\n".to_owned();
    let keys = describe_keys();
    let optional = |table: &str| keys.iter().any(|other| other.key == table && other.presence == Presence::Optional);
    for KeyDescription { key, kind, presence, reload } in &keys {
        let default = match presence {
            Presence::Required if key.rsplit_once('.').is_some_and(|(table, _)| optional(table)) => {
                "required in its table".to_owned()
            }
            Presence::Required => "**required**".to_owned(),
            Presence::Default(value) => format!("`{value}`"),
            Presence::Optional => "not set".to_owned(),
        };
        let reload = match reload {
            Reload::Reloadable => "at a reload",
            Reload::NextStart => "at the next start",
            Reload::Fixed => "by a restart; a reload is refused",
        };
        table += &format!("| `{key}` | {kind} | {default} | {reload} |\n");
    }
    table
}

/// `UPDATE_DOCS=1 cargo test --test documentation reference` writes the table again.
#[test]
fn the_reference_of_all_keys_is_the_one_of_the_code() {
    const MARK: &str = "<!-- generated from the keys -->\n";
    let file = root().join("docs/configuration.md");
    let page = text(&file);
    let parts: Vec<&str> = page.split(MARK).collect();
    let [before, table, after] = parts.as_slice() else { panic!("docs/configuration.md needs two marks") };
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, [before, MARK, &reference(), MARK, after].concat()).unwrap();
    } else {
        assert!(*table == reference(), "docs/configuration.md is old: UPDATE_DOCS=1 cargo test --test documentation");
    }
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

/// The unit for several gateways differs from the other one in names only, so both have the same protection. An instance
/// has no socket unit: it binds its own address.
#[test]
fn the_template_unit_is_the_unit_with_other_names() {
    let settings = |file: &str| -> Vec<String> {
        let unit = text(&root().join("deploy").join(file));
        let settings = unit.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        settings.filter(|line| !line.ends_with("=previewgate.socket")).map(str::to_owned).collect()
    };
    let renamed: Vec<String> = settings("previewgate@.service")
        .into_iter()
        .map(|line| line.replace("/%i.toml", "/previewgate.toml").replace("/%i", "").replace(" %i", ""))
        .collect();
    assert_eq!(renamed, settings("previewgate.service"));
    let instance = text(&root().join("deploy/previewgate@.service"));
    assert!(instance.matches("%i").count() >= 5, "{instance}");
}
