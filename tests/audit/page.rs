//! `docs/audit.md` shows what the commands print.

use std::path::{Path, PathBuf};

use assert_cmd::Command;

use crate::gateway::{Site, three_days};

/// `UPDATE_DOCS=1 cargo test --test audit page` writes the outputs into the page again.
#[test]
fn the_page_shows_what_the_commands_print() {
    let site = site();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/audit.md");
    let page = std::fs::read_to_string(&file).unwrap();
    let mut shown = 0;
    let mut written = String::new();
    for (position, part) in page.split("```").enumerate() {
        let command = part.strip_prefix("text\n$ ").and_then(|rest| rest.lines().next());
        let Some(command) = command.filter(|_| position % 2 == 1) else {
            written += &format!("{}{part}", if position > 0 { "```" } else { "" });
            continue;
        };
        let printed = format!("text\n$ {command}\n{}", run(&site, command));
        if std::env::var_os("UPDATE_DOCS").is_none() {
            assert_eq!(without_names(part), without_names(&printed), "UPDATE_DOCS=1 cargo test --test audit page");
        }
        written += &format!("```{printed}");
        shown += 1;
    }
    assert!(shown >= 6, "only {shown} commands are shown");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, written).unwrap();
    }
}

/// The directory `audit`, a copy in which somebody changed a digit, a certificate, and the files that commands read.
fn site() -> Site {
    let mut site = Site::new();
    site.recipient = true;
    run(&site, "previewgate audit keygen --recipient auditor.key");
    three_days(&site, "audit");
    let changed = site.path("changed");
    std::fs::create_dir(&changed).unwrap();
    for entry in std::fs::read_dir(site.path("audit")).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let content = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap();
        let content = if name.to_str().unwrap().starts_with("2026-12-01") {
            content.replacen("\"agent\":101", "\"agent\":102", 1)
        } else {
            content
        };
        std::fs::write(changed.join(name), content).unwrap();
    }
    std::fs::write(
        site.path("calls.csv"),
        "CallID,Agent,Callee\ncall-0-1,101,88881002\nmonitored-0,102,88881001\ncall-9,104,5550100\n",
    )
    .unwrap();
    let strict = "[upstream]\nendpoints = [\"https://h\"]\n[previews]\nttl = \"4m\"\n";
    std::fs::write(site.path("strict.toml"), strict).unwrap();
    let certificate = run(&site, "previewgate audit certify audit --call call-1-0");
    std::fs::write(site.path("call.json"), certificate).unwrap();
    site
}

fn run(site: &Site, command: &str) -> String {
    let mut words = command.split(' ');
    assert_eq!(words.next(), Some("previewgate"));
    let mut process = Command::cargo_bin("previewgate").unwrap();
    let output = process.args(words).current_dir(site.directory.path()).output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

/// Chains, records and digests have other names each time.
fn without_names(text: &str) -> String {
    let mut kept = String::new();
    let mut run = String::new();
    for character in text.chars().chain(['\n']) {
        if matches!(character, '0'..='9' | 'a'..='f') {
            run.push(character);
            continue;
        }
        kept += if run.len() >= 8 { "name" } else { &run };
        run.clear();
        kept.push(character);
    }
    kept
}
