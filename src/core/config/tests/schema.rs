//! The JSON Schema accepts what the loader accepts, and refuses what a schema can refuse.

use std::path::Path;

use serde_json::{Value, json};

use crate::config::{Files, config_schema, describe_keys, parse};

fn json_of(toml: &str) -> Value {
    serde_json::to_value(toml.parse::<toml::Table>().unwrap()).unwrap()
}

fn mistakes(toml: &str) -> Vec<String> {
    let validator = jsonschema::draft7::new(&config_schema()).unwrap();
    validator.iter_errors(&json_of(toml)).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn every_file_in_config_and_every_effective_configuration_is_valid() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
    let mut checked = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        assert_eq!(mistakes(&text), Vec::<String>::new());
        let effective = parse(&text, Path::new("/"), Files::Skip).unwrap().to_toml();
        assert_eq!(mistakes(&effective), Vec::<String>::new(), "{effective}");
        checked += 1;
    }
    assert!(checked >= 2);
    // Every key of the example, also those behind a comment sign.
    let example = include_str!("../../../../config/previewgate.toml");
    let keys: Vec<_> = describe_keys().into_iter().map(|description| description.key).collect();
    let uncommented: Vec<_> = example
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(text) if text.starts_with('[') => text,
            Some(text)
                if text.split_once(" = ").is_some_and(|(name, _)| keys.iter().any(|key| key.ends_with(name))) =>
            {
                text
            }
            _ => line,
        })
        .collect();
    assert_eq!(mistakes(&uncommented.join("\n")), Vec::<String>::new());
}

#[test]
fn mistakes_are_found_in_the_editor() {
    let with = |text: &str| format!("[upstream]\nendpoints = [\"https://h\"]\n{text}");
    assert_eq!(mistakes(&with("")), Vec::<String>::new());
    for (text, place) in [
        ("", "/"),
        ("[upstream]\n", "/upstream"),
        ("[upstream]\nendpoints = []\n", "/upstream/endpoints"),
        (&with("conect_timeout = \"2s\"\n"), "/upstream"),
        (&with("connect_timeout = 2\n"), "/upstream/connect_timeout"),
        (&with("connect_timeout = \"soon\"\n"), "/upstream/connect_timeout"),
        (&with("[validation]\nmode = \"enforced\"\n"), "/validation/mode"),
        (&with("[previews]\nper_agent = 0\n"), "/previews/per_agent"),
        (&with("[limits]\nhead_size = \"32 kilo\"\n"), "/limits/head_size"),
        (&with("[listener.tls]\ncertificate = \"a\"\n"), "/listener/tls"),
        (&with("[previews.store]\nkind = \"redis\"\n"), "/previews/store"),
        (&with("[[tenants]]\nagents = [\"1\"]\n"), "/tenants/0"),
        ("[upstream]\nendpoints = [{ url = \"http://h\", nodes = \"n\" }]\n", "/upstream/endpoints/0"),
    ] {
        let found = mistakes(text);
        let at = |mistake: &String| mistake.split_once(": ").is_some_and(|(at, _)| at == place.trim_end_matches('/'));
        assert!(found.iter().any(at), "{text}: {found:?}");
    }
}

#[test]
fn keys_have_their_meaning_and_their_default() {
    let schema = config_schema();
    let mode = schema.pointer("/properties/validation/properties/mode").unwrap();
    assert_eq!((&mode["default"], &mode["enum"]), (&json!("enforce"), &json!(["enforce", "monitor"])));
    let described = |key: &crate::config::KeyDescription| {
        let pointer = format!("/properties/{}", key.key.replace('.', "/properties/"));
        schema.pointer(&pointer).and_then(|key| key["description"].as_str()).map(str::len)
    };
    let keys = describe_keys();
    assert!(keys.iter().all(|key| key.key.contains("reasons") || described(key).is_some()), "a key is not described");
    // More than its kind: the comment of the example.
    assert!(keys.iter().filter(|key| described(key).is_some_and(|length| length > 80)).count() > 60);
}
