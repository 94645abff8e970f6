//! The checked configuration: what the rest of the program relies on.
//!
//! [`load`] turns a file into a [`Config`], or reports *all* its problems at once:
//!
//! | module | content |
//! |---|---|
//! | [`keys`] | **every key: kind, range, default, reloadable or not. Look here first** |
//! | [`model`] | the checked configuration: one struct for each table of the file |
//! | [`kinds`], [`addresses`], [`targets`], [`files`], [`redis`], [`audit`] | how a duration, an endpoint, a push target … is read and written |
//! | [`conflicts`] | contradictions between two keys |
//! | [`warnings`](mod@warnings) | settings that are allowed but risky |
//! | [`surroundings`](mod@surroundings) | the files and directories that a configuration names |
//! | [`changes`], [`reference`](mod@reference) | what differs between two configurations; a description of every key |
//! | [`entry`], [`document`], [`writer`], [`toml_text`] | the machinery that walks the key table to read, write and describe |
//! | [`schema`] | a JSON Schema of all keys, for editors |
//! | [`problem`] | how a mistake is reported |
//! | [`campaign`] | the campaign of a simulated CC-Gateway, a file of its own |
//!
//! A new key is a field in [`model`], a line in [`keys`], and its lines in `config/previewgate.toml`, where limits and
//! defaults are documented for operators. Tests compare the three. No code outside this module sees an unchecked value,
//! and no code in it uses the network.

mod addresses;
mod audit;
mod campaign;
mod changes;
mod conflicts;
mod document;
mod entry;
mod files;
mod keys;
mod kinds;
mod model;
mod network;
mod problem;
mod redis;
mod reference;
mod schema;
mod socket_file;
mod surroundings;
mod targets;
mod tenants;
#[cfg(test)]
mod tests;
mod toml_text;
mod warnings;
mod writer;

use std::io::Read;
use std::path::Path;

pub use addresses::UpstreamEndpoint;
pub use audit::EvidenceMember;
pub use campaign::{CallOutcome, CallPlan, Campaign, Contact, PreviewEvent, load_campaign};
pub use changes::{Change, Setting};
use document::Document;
pub use document::Files;
pub use files::password;
pub use model::{
    AccessLog, Admin, Audit, Balance, Config, Durability, Limits, Listener, ListenerTls, Log, LogFormat, Mode,
    OnAuditFailure, OnUnknownPreview, Previews, Probe, ProbeKind, ProxyProtocol, Push, PushTls, ReasonModes, Runtime,
    SessionPolicy, Shutdown, SocketMode, StoreKind, Upstream, UpstreamTls, Validation,
};
pub use network::Network;
pub use problem::{Problem, Problems};
pub use redis::{Discovery, OnEndTimeout, OnStoreFailure, RedisStore, RedisUrl, Sentinels};
pub use reference::{KeyDescription, Presence, Reload, ValueKind};
pub use schema::config_schema;
pub use surroundings::{NamedPath, PathAccess};
pub use targets::{AllowedHost, AllowedTarget};
pub use tenants::Tenant;

pub use crate::endpoint_url::{EndpointUrl, InvalidEndpointUrl, Scheme};

/// Reads, checks and completes the configuration in the file at `path`.
///
/// # Errors
/// Every problem of the file, or a single one if the file cannot be read.
pub fn load(path: &Path, files: Files) -> Result<Config, Problems> {
    let name = path.display().to_string();
    let text = read_text(path).map_err(|problems| Problems::new(&name, problems))?;
    checked(&text, path.parent().unwrap_or(Path::new("")), files).map_err(|problems| Problems::new(&name, problems))
}

/// Like [`load`], but from text. Relative paths start at `base`.
///
/// # Errors
/// Every problem of the text.
pub fn parse(text: &str, base: &Path, files: Files) -> Result<Config, Problems> {
    checked(text, base, files).map_err(|problems| Problems::new("configuration", problems))
}

fn checked(text: &str, base: &Path, files: Files) -> Result<Config, Vec<Problem>> {
    let mut document = Document::new(text, base, files);
    let root = document.parse()?;
    let config = keys::read(&mut document, Some(root.get_ref()));
    conflicts::find(&config, &mut document);
    let problems = document.finish();
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

/// No configuration is this long: a longer file is another one, named by mistake.
const MAX_FILE: u64 = 256 * 1024;

fn read_text(path: &Path) -> Result<String, Vec<Problem>> {
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text));
    match read {
        Ok(length) if length as u64 <= MAX_FILE => Ok(text),
        Ok(_) => Err(Problems::single("is longer than 256 KiB".to_owned(), "name a previewgate configuration file")),
        Err(error) => Err(Problems::single(
            format!("cannot be read: {error}"),
            "name a configuration file in UTF-8 that this user may read",
        )),
    }
}

/// Every key with its kind, default and range, and whether a reload can change it, in the order of the key table.
pub fn describe_keys() -> Vec<KeyDescription> {
    keys::describe()
}

impl Config {
    /// The effective configuration as TOML, with every default. It names files with secrets but contains no secret. Reading
    /// it gives an equal `Config`.
    pub fn to_toml(&self) -> String {
        keys::write(self)
    }
}
