//! The configuration as a JSON Schema, for editors: completion, types, ranges, and the meaning of each key.
//!
//! Generated from the key table, and from the comments of `config/previewgate.toml`. It is as strict as the loader where JSON
//! Schema can say what the loader checks; `previewgate check` has the last word.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::reference::{KeyDescription, Presence, ValueKind};

const EXAMPLE: &str = include_str!("../../../config/previewgate.toml");

/// Keys that are required only if another key of their table has this value.
const CONDITIONAL: [(&str, &str, &str); 1] = [("previews.store.url", "kind", "redis")];

/// The schema.
pub fn config_schema() -> Value {
    let keys = super::describe_keys();
    let meanings = meanings(&keys);
    let mut root = Table::default();
    for key in &keys {
        let (path, name) = key.key.rsplit_once('.').unwrap_or(("", &key.key));
        let table = root.descend(path);
        if key.kind == ValueKind::Table {
            table.tables.entry(name.to_owned()).or_default().describe(key, &meanings);
            continue;
        }
        table.properties.insert(name.to_owned(), property(key, &meanings));
        match (&key.presence, CONDITIONAL.iter().find(|(conditional, ..)| *conditional == key.key)) {
            (Presence::Required, Some((_, other, value))) => table.conditions.push((name.to_owned(), other, value)),
            (Presence::Required, None) => table.required.push(name.to_owned()),
            (Presence::Default(_) | Presence::Optional, _) => {}
        }
    }
    // The table of a required key is required too, if it is always there.
    root.require_tables(&keys, "");
    let mut schema = root.into_schema();
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
        schema.insert("title".to_owned(), json!("Configuration of previewgate"));
    }
    schema
}

/// One table, while the keys are collected.
#[derive(Default)]
struct Table {
    description: Option<String>,
    properties: Map<String, Value>,
    tables: BTreeMap<String, Self>,
    required: Vec<String>,
    /// A key, and the other key with the value for which it is required.
    conditions: Vec<(String, &'static str, &'static str)>,
}

impl Table {
    fn descend(&mut self, path: &str) -> &mut Self {
        let names = path.split('.').filter(|name| !name.is_empty());
        names.fold(self, |table, name| table.tables.entry(name.to_owned()).or_default())
    }

    fn describe(&mut self, key: &KeyDescription, meanings: &BTreeMap<String, String>) {
        self.description = meanings.get(&key.key).cloned();
    }

    fn require_tables(&mut self, keys: &[KeyDescription], path: &str) {
        for (name, table) in &mut self.tables {
            let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            table.require_tables(keys, &key);
            let is_optional = keys.iter().any(|other| other.key == key && other.kind == ValueKind::Table);
            if !table.required.is_empty() && !is_optional {
                self.required.push(name.clone());
            }
        }
    }

    fn into_schema(self) -> Value {
        let mut properties = self.properties;
        properties.extend(self.tables.into_iter().map(|(name, table)| (name, table.into_schema())));
        let mut schema = json!({"type": "object", "additionalProperties": false, "properties": properties});
        let Some(object) = schema.as_object_mut() else { return schema };
        if let Some(description) = self.description {
            object.insert("description".to_owned(), description.into());
        }
        if !self.required.is_empty() {
            object.insert("required".to_owned(), json!(self.required));
        }
        for (key, other, value) in self.conditions {
            object.insert("if".to_owned(), json!({"properties": {other: {"const": value}}, "required": [other]}));
            object.insert("then".to_owned(), json!({"required": [key]}));
        }
        schema
    }
}

fn property(key: &KeyDescription, meanings: &BTreeMap<String, String>) -> Value {
    let mut schema = of_kind(&key.kind);
    let Some(object) = schema.as_object_mut() else { return schema };
    let form = format!("{}.", key.kind);
    let meaning = meanings.get(&key.key).map_or_else(|| form.clone(), |meaning| format!("{meaning}\n\n{form}"));
    object.insert("description".to_owned(), meaning.into());
    if let Presence::Default(default) = &key.presence
        && let Some(default) = json_of(default)
    {
        object.insert("default".to_owned(), default);
    }
    schema
}

fn of_kind(kind: &ValueKind) -> Value {
    match kind {
        ValueKind::Boolean => json!({"type": "boolean"}),
        ValueKind::Integer { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
        ValueKind::Word(words) => json!({"type": "string", "enum": words}),
        // As humantime reads it: numbers with units, in any order.
        ValueKind::Duration { .. } => json!({"type": "string", "pattern": r"^\s*([0-9]+\s*[a-zA-Zµ]+\s*)+$|^0$"}),
        ValueKind::Size { min, max } => json!({"anyOf": [
            {"type": "integer", "minimum": min, "maximum": max},
            {"type": "string", "pattern": "^[0-9]+ ?([KMG]i?)?B$"},
        ]}),
        ValueKind::Text(_) | ValueKind::Path(_) => json!({"type": "string", "minLength": 1}),
        ValueKind::Fields { or_text, fields, .. } => of_fields(*or_text, fields),
        ValueKind::List(element) => {
            json!({"type": "array", "minItems": 1, "uniqueItems": true, "items": of_kind(element)})
        }
        ValueKind::Table => json!({"type": "object"}),
    }
}

/// A table within a list; `or_text`: or text in its place. The first of its fields is required.
fn of_fields(or_text: bool, fields: &[(&'static str, ValueKind)]) -> Value {
    let properties: Map<_, _> = fields.iter().map(|(name, kind)| ((*name).to_owned(), of_kind(kind))).collect();
    let required: Vec<_> = fields.first().map(|(name, _)| *name).into_iter().collect();
    let table =
        json!({"type": "object", "additionalProperties": false, "properties": properties, "required": required});
    if or_text { json!({"anyOf": [{"type": "string", "minLength": 1}, table]}) } else { table }
}

/// A default, which is written as TOML.
fn json_of(toml: &str) -> Option<Value> {
    let document: toml::Table = format!("value = {toml}").parse().ok()?;
    serde_json::to_value(document.get("value")?).ok()
}

/// The comment above each key and table of the commented example.
fn meanings(keys: &[KeyDescription]) -> BTreeMap<String, String> {
    let (mut meanings, mut table, mut comment) = (BTreeMap::new(), String::new(), Vec::new());
    for line in EXAMPLE.lines() {
        let text = line.strip_prefix("# ").unwrap_or(line);
        let header = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let key = text
            .split_once(" = ")
            .map(|(name, _)| if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") });
        if let Some(header) = header {
            header.clone_into(&mut table);
            keep(&mut meanings, header.to_owned(), &mut comment);
        } else if let Some(key) = key.filter(|key| keys.iter().any(|known| known.key == *key)) {
            keep(&mut meanings, key, &mut comment);
        } else if line.starts_with('#') {
            comment.push(text.trim_start_matches('#').trim());
        } else {
            comment.clear();
        }
    }
    meanings
}

fn keep(meanings: &mut BTreeMap<String, String>, key: String, comment: &mut Vec<&str>) {
    if !comment.is_empty() {
        meanings.entry(key).or_insert_with(|| comment.join(" "));
    }
    comment.clear();
}
