//! One case per bad value; several problems at once; files; the example against the code.

mod audit;
mod changes;
mod endpoints;
mod examples;
mod no_panic;
mod problems;
mod push;
mod redis;
mod referenced_files;
mod round_trip;
mod schema;
mod values;
mod warnings;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

const MINIMAL: &str = "[upstream]\nendpoints = [\"https://10.0.0.11:8043\"]\n";

fn skip(text: &str) -> Result<Config, Problems> {
    parse(text, Path::new("/etc/previewgate"), Files::Skip)
}

fn minimal() -> Config {
    skip(MINIMAL).unwrap()
}

fn problems(text: &str) -> Vec<Problem> {
    skip(text).expect_err(text).problems
}

/// `line` within a document that is otherwise fine, and stands on line 3 or 4 of it.
fn document(table: &str, line: &str) -> String {
    if table == "upstream" { format!("{MINIMAL}{line}\n") } else { format!("{MINIMAL}[{table}]\n{line}\n") }
}

/// Every known key, tables included.
fn known() -> Vec<String> {
    let mut document = Document::new("", Path::new(""), Files::Skip);
    keys::read(&mut document, None);
    document.known().iter().cloned().collect()
}

fn example_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config")
}

fn example(name: &str) -> String {
    fs::read_to_string(example_directory().join(name)).unwrap()
}

/// The example with every `# key = value` and `# [table]` line in effect, and a store for which every key has a meaning.
fn uncommented(text: &str) -> String {
    let text = text.replace("kind = \"memory\"", "kind = \"redis\"");
    let line = |line: &str| match line.strip_prefix("# ") {
        Some(setting) if setting.starts_with('[') || is_setting(setting) => format!("{setting}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

fn is_setting(line: &str) -> bool {
    let key = line.split_once(" = ").map_or("", |(key, _)| key);
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}
