//! The configuration in force, as `config` records hold it: the value of each key, and which keys differ.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::digest::{Digest, Mac};
use super::record::{ChangedKey, ConfigInForce, Text};
use crate::config::{Config, Setting};

/// What puts a configuration in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigTrigger {
    /// The start of the gateway.
    Start,
    /// SIGHUP.
    Signal,
    /// `POST /reload` on the admin listener, from this address.
    Admin(SocketAddr),
    /// `POST /reload` on the Unix socket of the admin listener, by this user of the system if it is known.
    AdminSocket(Option<u32>),
    /// Another content of a certificate or key file.
    CertificateFiles,
    /// A further segment begins. The configuration stays as it is.
    Segment,
}

/// The value of each key that is set.
pub(super) type Values = BTreeMap<String, String>;

/// The values of `config`. The value of a file ends with the digest of its content. A secret appears only as its keyed hash.
pub(super) fn values(config: &Config, keyed: &dyn Fn(&[u8]) -> Mac) -> Values {
    config.settings().into_iter().map(|setting| (setting.key.clone(), shown(&setting, keyed))).collect()
}

fn shown(setting: &Setting, keyed: &dyn Fn(&[u8]) -> Mac) -> String {
    let content = setting.file.then(|| path_in(&setting.value)).flatten().and_then(|path| std::fs::read(path).ok());
    match (content, setting.secret) {
        (Some(content), true) => format!("hmac:{}", keyed(&content)),
        // The file cannot be read, or the value names none: then it may be the secret itself.
        (None, true) => format!("hmac:{}", keyed(setting.value.as_bytes())),
        (Some(content), false) => format!("{} sha256:{}", setting.value, Digest::of(&content)),
        (None, false) => setting.value.clone(),
    }
}

fn path_in(value: &str) -> Option<PathBuf> {
    let table: toml::Table = format!("path = {value}").parse().ok()?;
    table.get("path").and_then(toml::Value::as_str).map(PathBuf::from)
}

/// The keys whose values differ; all keys of `new` if `old` is empty.
pub(super) fn between(old: &Values, new: &Values) -> Vec<ChangedKey<'static>> {
    let text = |value: &String| Text::Owned(value.clone());
    let keys = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key)));
    let changed = keys.filter(|key| old.get(*key) != new.get(*key));
    changed.map(|key| ChangedKey { key: text(key), old: old.get(key).map(text), new: new.get(key).map(text) }).collect()
}

/// The content of the `config` record.
pub(super) fn in_force(
    trigger: ConfigTrigger,
    config: &Config,
    changes: Vec<ChangedKey<'static>>,
) -> ConfigInForce<'static> {
    let (word, peer) = match trigger {
        ConfigTrigger::Start => ("start", None),
        ConfigTrigger::Signal => ("sighup", None),
        ConfigTrigger::Admin(peer) => ("admin", Some(peer.to_string().into())),
        ConfigTrigger::AdminSocket(user) => ("admin", Some(user_of_socket(user).into())),
        ConfigTrigger::CertificateFiles => ("certificates", None),
        ConfigTrigger::Segment => ("segment", None),
    };
    ConfigInForce {
        trigger: word.into(),
        peer,
        mode: config.validation.mode.as_str().into(),
        configuration: Digest::of(config.to_toml().as_bytes()),
        changes,
    }
}

/// The `peer` of a request on the Unix socket, which has no addresses: the user of the client.
fn user_of_socket(user: Option<u32>) -> String {
    user.map_or_else(|| "socket".to_owned(), |user| format!("socket, uid {user}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::digest::Hex;
    use crate::config::{Files, parse};

    fn values_of(text: &str, base: &std::path::Path) -> Values {
        let text = format!("[upstream]\nendpoints = [\"https://h\"]\n{text}");
        values(&parse(&text, base, Files::Skip).unwrap(), &|secret| Hex::from_slice(&Digest::of(secret).0))
    }

    #[test]
    fn changed_added_and_removed_keys_are_found() {
        let base = std::path::Path::new("/");
        let old = values_of("[validation]\nmode = \"enforce\"\n[admin]\nhosts = [\"a\"]\n", base);
        let new = values_of("[validation]\nmode = \"monitor\"\n[upstream.tls]\nserver_name = \"b\"\n", base);
        let change = |key: &str, old: Option<&str>, new: Option<&str>| ChangedKey {
            key: key.to_owned().into(),
            old: old.map(|value| value.to_owned().into()),
            new: new.map(|value| value.to_owned().into()),
        };
        assert_eq!(
            between(&old, &new),
            [
                change("admin.hosts", Some("[\"a\"]"), None),
                change("validation.mode", Some("\"enforce\""), Some("\"monitor\"")),
                change("upstream.tls.server_name", None, Some("\"b\"")),
            ]
        );
        assert_eq!(between(&Values::new(), &new).len(), new.len());
        assert_eq!(between(&new, &new), []);
    }

    #[test]
    fn the_content_of_a_file_counts_and_a_secret_does_not_show() {
        let directory = tempfile::tempdir().unwrap();
        let (ca, key) = (directory.path().join("ca.pem"), directory.path().join("hash.key"));
        let write = |content: &str| {
            std::fs::write(&ca, content).unwrap();
            std::fs::write(&key, format!("secret of {content}")).unwrap();
            values_of("[upstream.tls]\nca = \"ca.pem\"\n[log]\nhash_key = \"hash.key\"\n", directory.path())
        };
        let (old, new) = (write("one"), write("two"));
        let changes = between(&old, &new);
        let keys: Vec<_> = changes.iter().map(|change| &*change.key).collect();
        assert_eq!(keys, ["log.hash_key", "upstream.tls.ca"]);
        assert!(new["upstream.tls.ca"].ends_with(&Digest::of(b"two").to_string()));
        assert!(new["log.hash_key"].starts_with("hmac:") && !new["log.hash_key"].contains("hash.key"));
    }
}
