//! The files in `config/`, against the code.

use std::collections::BTreeMap;

use super::*;

#[test]
fn every_file_loads_on_a_fresh_machine() {
    let files: Vec<_> = fs::read_dir(example_directory()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 2);
    for file in files {
        load(&file, Files::Check).unwrap_or_else(|problems| panic!("{problems}"));
    }
}

#[test]
fn production_states_the_defaults() {
    let example = skip(&example("previewgate.toml")).unwrap();
    let mut defaults = minimal();
    defaults.upstream.endpoints.clone_from(&example.upstream.endpoints);
    assert_eq!(example, defaults);
}

#[test]
fn production_names_every_key_and_writes_every_default() {
    let text = example("previewgate.toml");
    let everything: toml::Table = uncommented(&text).parse().unwrap();
    let written: toml::Table = text.parse().unwrap();
    let default: toml::Table = minimal().to_toml().parse().unwrap();
    for key in known() {
        assert!(lookup(&everything, &key).is_some(), "{key} is not in the example");
        let has_default = lookup(&default, &key).is_some();
        assert_eq!(lookup(&written, &key).is_some(), has_default, "{key}: commented out if it has no default");
    }
}

/// The comment above each key of the file, by the name of the key.
fn comments(text: &str) -> BTreeMap<String, String> {
    let (mut found, mut table, mut comment) = (BTreeMap::new(), String::new(), String::new());
    for line in text.lines() {
        let plain = line.strip_prefix("# ").unwrap_or(line);
        if let Some(name) = plain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut table);
        } else if is_setting(plain) {
            let path = if table.is_empty() { String::new() } else { format!("{table}.") };
            found.insert(format!("{path}{}", plain.split(' ').next().unwrap()), comment.clone());
        } else if line.starts_with('#') {
            comment.push_str(plain);
            continue;
        }
        comment.clear();
    }
    found
}

#[test]
fn production_marks_the_keys_that_a_reload_cannot_change() {
    let comments = comments(&example("previewgate.toml"));
    for KeyDescription { key, kind, reload, .. } in describe_keys() {
        // The comments above these tables speak of all their keys.
        if kind != ValueKind::Table && !key.starts_with("previews.store.") {
            assert_eq!(comments[&key].contains("(fixed)"), reload == Reload::Fixed, "{key}: {}", comments[&key]);
        }
    }
}

fn lookup<'t>(table: &'t toml::Table, key: &str) -> Option<&'t toml::Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((first, rest)) => lookup(table.get(first)?.as_table()?, rest),
    }
}
