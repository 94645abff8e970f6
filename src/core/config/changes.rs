//! The differences between two configurations, and whether a reload may apply them.

use std::fmt;

use aws_lc_rs::digest;

use super::keys;
use super::model::Config;
use super::reference::Reload;

/// One key with two values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The full name, such as `previews.ttl`.
    pub key: String,
    /// The value in force, as TOML; `None` if the key is not set. Never a secret.
    pub old: Option<String>,
    /// The new value, likewise.
    pub new: Option<String>,
    /// Whether a reload can change the key.
    pub reload: Reload,
}

/// `key: old -> new`
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "(not set)".to_owned());
        write!(f, "{}: {} -> {}", self.key, shown(&self.old), shown(&self.new))
    }
}

/// A key that is set, with its value as TOML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The full name.
    pub key: String,
    /// The value. It may be a secret.
    pub value: String,
    /// Whether the value, or the file that it names, is a secret.
    pub secret: bool,
    /// Whether the value names a file that the gateway reads.
    pub file: bool,
}

impl Config {
    /// Every key that is set.
    pub fn settings(&self) -> Vec<Setting> {
        let setting = |(key, value): (String, super::writer::WrittenValue)| {
            let super::writer::WrittenValue { toml: value, secret, file } = value;
            Setting { key, value, secret, file }
        };
        keys::values(self).into_iter().map(setting).collect()
    }

    /// Identifies the effective configuration: the first 16 hexadecimal digits of the SHA-256 of [`Config::to_toml`].
    /// Two gateways with the same values have the same hash. The content of the files that it names does not count.
    pub fn hash(&self) -> String {
        let digest = digest::digest(&digest::SHA256, self.to_toml().as_bytes());
        digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Every key whose value in `new` is another one, in the order of the key table. Files are compared by name, not by
    /// content.
    pub fn changes(&self, new: &Self) -> Vec<Change> {
        let (old, new) = (keys::values(self), keys::values(new));
        let shown = |value: &super::writer::WrittenValue| {
            if value.secret { "(not shown)".to_owned() } else { value.toml.clone() }
        };
        let change = |description: super::reference::KeyDescription| {
            let (old, new) = (old.get(&description.key), new.get(&description.key));
            (old != new).then(|| Change {
                key: description.key,
                old: old.map(shown),
                new: new.map(shown),
                reload: description.reload,
            })
        };
        keys::describe().into_iter().filter_map(change).collect()
    }
}
