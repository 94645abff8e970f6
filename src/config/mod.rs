//! The checked configuration: what the rest of the program may rely on.
//!
//! A file becomes a [`Config`] or *all* its problems at once:
//!
//! | module | what it knows |
//! |---|---|
//! | [`keys`] | **every key, its kind, range and default: the table to look at first** |
//! | [`kinds`], [`addresses`], [`targets`], [`files`] | how a duration, an endpoint, a push target … is read and written |
//! | [`conflicts`] | what is wrong only between two keys |
//! | [`warnings`](mod@warnings) | what is allowed, but should not go unnoticed |
//! | [`entry`], [`document`] | the machinery: the table is walked to read a document and to write one |
//! | [`problem`] | how a mistake is told |
//!
//! A new key is a field here, a line in [`keys`], and its lines in `config/previewgate.toml`, where limits and defaults
//! are documented for operators; tests hold the three together. Nothing outside this module sees an unchecked value,
//! and nothing here touches a socket.

mod addresses;
mod conflicts;
mod document;
mod entry;
mod files;
mod keys;
mod kinds;
mod model;
mod problem;
mod redis;
mod targets;
#[cfg(test)]
mod tests;
mod warnings;

use std::io::Read;
use std::path::Path;

pub use addresses::UpstreamEndpoint;
use document::Document;
pub use document::Files;
pub(crate) use files::password;
pub use model::{
    AccessLog, Admin, Balance, Config, Limits, Listener, ListenerTls, Log, LogFormat, Mode, OnUnknownPreview, Previews,
    Probe, ProbeKind, Push, PushTls, Runtime, Shutdown, StoreKind, Upstream, UpstreamTls, Validation,
};
pub use problem::{Problem, Problems};
pub use redis::{OnStoreFailure, RedisStore, RedisUrl};
pub use targets::{AllowedHost, AllowedTarget};

pub use crate::endpoint_url::{EndpointUrl, InvalidEndpointUrl, Scheme};

/// Reads, checks and completes the configuration in the file at `path`.
///
/// # Errors
/// Every problem of the file, or the one that it cannot be read.
pub fn load(path: &Path, files: Files) -> Result<Config, Problems> {
    let name = path.display().to_string();
    let text = read_text(path).map_err(|problems| Problems::new(&name, problems))?;
    checked(&text, path.parent().unwrap_or(Path::new("")), files).map_err(|problems| Problems::new(&name, problems))
}

/// The same from text; relative paths are taken from `base`.
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

/// Far more than any configuration; what is longer is some other file.
const LONGEST_FILE: u64 = 256 * 1024;

fn read_text(path: &Path) -> Result<String, Vec<Problem>> {
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(LONGEST_FILE + 1).read_to_string(&mut text));
    match read {
        Ok(length) if length as u64 <= LONGEST_FILE => Ok(text),
        Ok(_) => Err(Problems::single("longer than 256 KiB".to_owned(), "name a previewgate configuration file")),
        Err(error) => Err(Problems::single(
            format!("cannot be read: {error}"),
            "name a configuration file in UTF-8 that this user may read",
        )),
    }
}

impl Config {
    /// The effective configuration as TOML, every default filled in, secrets redacted. It reads as the same `Config`.
    pub fn to_toml(&self) -> String {
        keys::write(self)
    }
}
