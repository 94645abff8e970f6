//! Which keys differ between two configurations, as `config` records hold it.

use std::collections::BTreeMap;

use super::digest::Digest;
use super::record::ChangedKey;

/// The keys whose values differ; all keys of `new` if `old` is empty.
pub(super) fn between(old: &str, new: &str) -> Vec<ChangedKey<'static>> {
    let (mut old, new) = (values(old), values(new));
    let mut changes: Vec<_> = new
        .into_iter()
        .map(|(key, value)| ChangedKey {
            old: old.remove(&key).map(Into::into),
            new: Some(value.into()),
            key: key.into(),
        })
        .filter(|change| change.old != change.new)
        .collect();
    let removed =
        old.into_iter().map(|(key, value)| ChangedKey { key: key.into(), old: Some(value.into()), new: None });
    changes.extend(removed);
    changes
}

/// A file whose content is in force: its digest stands for it.
pub(super) fn file(key: &str, digest: Digest) -> ChangedKey<'static> {
    ChangedKey { key: key.to_owned().into(), old: None, new: Some(format!("sha256:{digest}").into()) }
}

/// Each key by its full path, its value as TOML.
fn values(text: &str) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    if let Ok(table) = text.parse::<toml::Table>() {
        collect("", &table, &mut values);
    }
    values
}

fn collect(path: &str, table: &toml::Table, values: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match value {
            toml::Value::Table(table) => collect(&path, table, values),
            value => drop(values.insert(path, value.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_added_and_removed_keys_are_found() {
        let change = |key, old: Option<&'static str>, new: Option<&'static str>| ChangedKey {
            key: std::borrow::Cow::Borrowed(key),
            old: old.map(Into::into),
            new: new.map(Into::into),
        };
        let old = "[validation]\nmode = \"enforce\"\nwarm_up = \"0s\"\n[log]\nlevel = \"info\"\n";
        let new = "[validation]\nmode = \"monitor\"\nwarm_up = \"0s\"\n[push]\ntimeout = \"1s\"\n";
        assert_eq!(
            between(old, new),
            [
                change("push.timeout", None, Some("\"1s\"")),
                change("validation.mode", Some("\"enforce\""), Some("\"monitor\"")),
                change("log.level", Some("\"info\""), None),
            ]
        );
        assert_eq!(between("", new).len(), 3);
        assert_eq!(between(new, new), []);
    }
}
