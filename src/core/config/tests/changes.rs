//! Descriptions of keys, and the comparison of two configurations.

use super::*;

/// The keys that a reload must not change. A key that joins or leaves this list changes what operators may rely on.
const FIXED: [&str; 38] = [
    "listener.address",
    "listener.tls",
    "previews.ttl",
    "previews.calls_per_number",
    "previews.per_agent",
    "previews.max_agents",
    "previews.snapshot",
    "previews.snapshot_interval",
    "previews.session_key",
    "previews.store.kind",
    "previews.store.url",
    "previews.store.username",
    "previews.store.password_file",
    "previews.store.ca",
    "previews.store.prefix",
    "previews.store.timeout",
    "previews.store.start_timeout",
    "previews.store.on_store_failure",
    "previews.store.local_grace",
    "previews.store.end_timeout",
    "previews.store.on_end_timeout",
    "admin.address",
    "admin.socket",
    "admin.socket_mode",
    "log.format",
    "log.mask_numbers",
    "log.hash_key",
    "audit",
    "audit.directory",
    "audit.durability",
    "audit.signing_key",
    "audit.number_keys",
    "audit.recipient",
    "audit.checkpoint_interval",
    "audit.segment",
    "audit.segment_size",
    "audit.retention",
    "runtime.workers",
];

/// Other values for keys whose description does not tell one.
const OTHER_VALUES: &[(&str, &str)] = &[
    ("listener.address", "\"127.0.0.1:1\""),
    ("tenants", "[{ name = \"other\", agents = [\"101\"] }]"),
    ("listener.trusted_proxies", "[\"192.0.2.0/24\"]"),
    ("upstream.endpoints", "[\"https://elsewhere\"]"),
    ("upstream.path_prefixes", "[\"/other/\"]"),
    ("upstream.probe.path", "\"/other\""),
    ("upstream.tls.server_name", "\"other.example\""),
    ("push.public_url", "\"https://other.example\""),
    ("push.allowed_targets", "[\"https://other.example\"]"),
    ("push.sources", "[\"192.0.2.0/24\"]"),
    ("previews.store.url", "\"rediss://other.example\""),
    ("previews.store.username", "\"other\""),
    ("previews.store.prefix", "\"other:\""),
    ("admin.address", "\"127.0.0.1:2\""),
    ("admin.socket_mode", "\"0600\""),
    ("admin.hosts", "[\"other.example\"]"),
    ("audit.evidence", "[\"callData:/other\"]"),
];

/// The production example with every optional key and table set.
fn everything() -> toml::Table {
    uncommented(&example("previewgate.toml")).parse().unwrap()
}

fn config(document: &toml::Table) -> Config {
    skip(&document.to_string()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn parent<'t>(document: &'t mut toml::Table, key: &str) -> (&'t mut toml::Table, String) {
    let mut names: Vec<_> = key.split('.').collect();
    let last = names.pop().unwrap().to_owned();
    (names.into_iter().fold(document, |table, name| table[name].as_table_mut().unwrap()), last)
}

fn other_value(description: &KeyDescription, present: &toml::Value) -> toml::Value {
    let quoted = |text: String| toml::Value::from(text);
    let candidates: Vec<toml::Value> = match &description.kind {
        ValueKind::Boolean => vec![true.into(), false.into()],
        ValueKind::Integer { min, max } => vec![(*min as i64).into(), (*max as i64).into()],
        ValueKind::Word(words) => words.iter().map(|word| (*word).into()).collect(),
        ValueKind::Duration { min, max } => {
            [min, max].map(|time| quoted(humantime::format_duration(*time).to_string())).to_vec()
        }
        ValueKind::Size { min, max } => [min, max].map(|size| quoted(format!("{size}B"))).to_vec(),
        ValueKind::Path(_) => vec![quoted("other.file".to_owned())],
        ValueKind::Text(_) | ValueKind::List(_) | ValueKind::Fields { .. } => {
            let other = OTHER_VALUES.iter().find(|(key, _)| *key == description.key).expect(&description.key);
            let table: toml::Table = format!("other = {}", other.1).parse().unwrap();
            vec![table["other"].clone()]
        }
        ValueKind::Table => panic!("{}: a table has no value", description.key),
    };
    candidates.into_iter().find(|value| value != present).unwrap()
}

/// `document` with another value for the key, or without the table; and the same for the keys that depend on it.
fn changed(mut document: toml::Table, description: &KeyDescription) -> toml::Table {
    let (table, name) = parent(&mut document, &description.key);
    match description.key.as_str() {
        // Only an http probe has a path.
        "upstream.probe.kind" => {
            table.remove("path");
            table.insert(name, "tcp".into());
        }
        // The other keys of the table belong to Redis.
        "previews.store.kind" => {
            table.clear();
            table.insert(name, "memory".into());
        }
        _ if description.kind == ValueKind::Table => {
            table.remove(&name);
        }
        _ => {
            let other = other_value(description, &table[&name]);
            table.insert(name, other);
        }
    }
    document
}

#[test]
fn every_key_is_described_once() {
    let mut described: Vec<_> = describe_keys().into_iter().map(|description| description.key).collect();
    let tables_without_meaning: Vec<_> = known()
        .into_iter()
        .filter(|key| known().iter().any(|other| other.starts_with(&format!("{key}."))))
        .filter(|key| !["listener.tls", "push", "audit"].contains(&key.as_str()))
        .collect();
    let mut expected: Vec<_> = known().into_iter().filter(|key| !tables_without_meaning.contains(key)).collect();
    described.sort();
    expected.sort();
    assert_eq!(described, expected);
}

#[test]
fn every_key_is_classified_as_documented() {
    let described = describe_keys();
    let of = |reload| -> Vec<_> { described.iter().filter(|d| d.reload == reload).map(|d| d.key.as_str()).collect() };
    assert_eq!(of(Reload::Fixed), FIXED);
    assert_eq!(of(Reload::NextStart), ["validation.warm_up"]);
}

#[test]
fn descriptions_hold_kind_range_and_default() {
    for (key, kind, presence) in [
        ("upstream.endpoints", "list of: URL, or a table with `url` and `node`", Presence::Required),
        ("upstream.response_timeout", "duration from 11s to 1day", Presence::Default("\"30s\"".to_owned())),
        ("upstream.tls.ca", "PEM file with CA certificates", Presence::Optional),
        ("validation.mode", "\"enforce\" or \"monitor\"", Presence::Default("\"enforce\"".to_owned())),
        ("limits.head_size", "size from 4KiB to 256KiB", Presence::Default("\"32KiB\"".to_owned())),
        ("runtime.workers", "whole number from 0 to 1024", Presence::Default("0".to_owned())),
        ("log.mask_numbers", "true or false", Presence::Default("true".to_owned())),
        ("push", "table", Presence::Optional),
    ] {
        let description = describe_keys().into_iter().find(|description| description.key == key).unwrap();
        assert_eq!((description.kind.to_string().as_str(), description.presence), (kind, presence), "{key}");
    }
}

#[test]
fn a_change_of_any_key_is_found_and_names_that_key() {
    let before = config(&everything());
    assert_eq!(before.changes(&before), []);
    for description in describe_keys() {
        let after = config(&changed(everything(), &description));
        let changes = before.changes(&after);
        let own = changes.iter().find(|change| change.key == description.key).unwrap_or_else(|| panic!("{changes:?}"));
        assert_eq!(own.reload, description.reload, "{own}");
        assert!(own.old.is_some() && own.old != own.new || own.old.as_deref() == Some("(not shown)"), "{own}");
        let depends = description.kind == ValueKind::Table || description.key.ends_with(".kind");
        assert!(depends || changes.len() == 1, "{changes:?}");
    }
}

#[test]
fn changes_read_well_and_show_no_secret() {
    let before = config(&everything());
    let mut document = everything();
    let mut set = |key: &str, value: &str| {
        let (table, name) = parent(&mut document, key);
        table.insert(name, value.into());
    };
    set("previews.ttl", "1h");
    set("log.hash_key", "hunter2");
    let (table, name) = parent(&mut document, "upstream.tls.server_name");
    table.remove(&name);
    let changes: Vec<_> = before.changes(&config(&document)).iter().map(Change::to_string).collect();
    assert_eq!(
        changes,
        [
            "upstream.tls.server_name: \"ccgateway.example.com\" -> (not set)",
            "previews.ttl: \"30m\" -> \"1h\"",
            "log.hash_key: (not shown) -> (not shown)",
        ]
    );
}

#[test]
fn a_table_that_comes_or_goes_is_a_change() {
    let with = skip(&document("listener.tls", "certificate = \"c\"\nprivate_key = \"k\"")).unwrap();
    let changes = minimal().changes(&with);
    assert_eq!(
        (changes[0].to_string().as_str(), changes[0].reload),
        ("listener.tls: (not set) -> (set)", Reload::Fixed)
    );
}
