//! The values of a configuration in the order of the key table, as TOML or as a list.

use std::collections::BTreeMap;

/// Collects keys and tables while the key table is walked.
#[derive(Default)]
pub(super) struct Writer {
    path: Vec<&'static str>,
    items: Vec<Item>,
}

enum Item {
    Table { path: String, optional: bool },
    Key { table: String, name: &'static str, value: Option<WrittenValue> },
}

/// The value of a key.
#[derive(Debug, PartialEq)]
pub(super) struct WrittenValue {
    pub(super) toml: String,
    /// The value must not reach a log.
    pub(super) secret: bool,
    /// The value names a file that the gateway reads.
    pub(super) file: bool,
}

impl Writer {
    /// Adds one key of the current table; `value` is `None` if the key is not set.
    pub(super) fn key(&mut self, name: &'static str, value: Option<WrittenValue>) {
        self.items.push(Item::Key { table: self.path.join("."), name, value });
    }

    /// Adds the table `name` with the keys that `write` adds.
    pub(super) fn table(&mut self, name: &'static str, optional: bool, write: impl FnOnce(&mut Self)) {
        self.path.push(name);
        self.items.push(Item::Table { path: self.path.join("."), optional });
        write(self);
        self.path.pop();
    }

    /// A TOML document without the table `left_out`, which would contradict the rest of the document.
    pub(super) fn into_toml(self, left_out: Option<&str>) -> String {
        let mut toml = String::new();
        for item in &self.items {
            match item {
                Item::Table { path: table, .. } | Item::Key { table, .. } if left_out == Some(table) => {}
                Item::Table { path, .. } => {
                    let blank = if toml.is_empty() { "" } else { "\n" };
                    toml.push_str(&format!("{blank}[{path}]\n"));
                }
                Item::Key { name, value: Some(value), .. } => toml.push_str(&format!("{name} = {}\n", value.toml)),
                // Shows the reader that the key exists.
                Item::Key { name, value: None, .. } => toml.push_str(&format!("# {name} is not set\n")),
            }
        }
        toml
    }

    /// The value of every key that is set, by its full name. An optional table that is present has the value `(set)`.
    pub(super) fn into_values(self) -> BTreeMap<String, WrittenValue> {
        let value = |item| match item {
            Item::Key { table, name, value } => {
                let key = if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") };
                Some((key, value?))
            }
            Item::Table { path, optional: true } => {
                Some((path, WrittenValue { toml: "(set)".to_owned(), secret: false, file: false }))
            }
            Item::Table { optional: false, .. } => None,
        };
        self.items.into_iter().filter_map(value).collect()
    }
}
