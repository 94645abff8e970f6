//! The facts about each key apart from its value: kind, range, default, and whether a reload can change it.
//!
//! [`super::describe_keys`] yields one [`KeyDescription`] for each key, generated from [`super::keys`]. The list of
//! changes that a reload must refuse comes from here, and so can a printed reference or a schema.

use std::fmt;
use std::time::Duration;

use super::toml_text::{duration_text, quoted, size_text};
use crate::label_enum;

/// One key of the configuration, or one optional table.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyDescription {
    /// The full name, such as `upstream.tls.ca`.
    pub key: String,
    /// The kind and range of the value.
    pub kind: ValueKind,
    /// The effect of leaving the key out.
    pub presence: Presence,
    /// Whether a reload can change the value.
    pub reload: Reload,
}

label_enum! {
    /// When a changed value takes effect.
    pub enum Reload {
        /// At the next reload.
        Reloadable = "reloadable",
        /// At the next start. A reload accepts the new value.
        NextStart = "next_start",
        /// At the next start. A reload with another value is refused.
        Fixed = "fixed",
    }
}

/// The effect of leaving a key out.
#[derive(Clone, Debug, PartialEq)]
pub enum Presence {
    /// The configuration is refused. In an optional table: only if the table is present.
    Required,
    /// This value is used; written as TOML.
    Default(String),
    /// The feature is off, or a source outside the configuration is used.
    Optional,
}

/// The kind and range of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueKind {
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer {
        /// The smallest that is allowed.
        min: u64,
        /// The largest that is allowed.
        max: u64,
    },
    /// One of these words.
    Word(Vec<&'static str>),
    /// A duration such as `"10s"`.
    Duration {
        /// The shortest that is allowed.
        min: Duration,
        /// The longest that is allowed.
        max: Duration,
    },
    /// A size such as `"32KiB"`.
    Size {
        /// The smallest that is allowed, in bytes.
        min: usize,
        /// The largest that is allowed, in bytes.
        max: usize,
    },
    /// Text of the form that is described here.
    Text(&'static str),
    /// The path of a file; says what the file is for.
    Path(&'static str),
    /// A table within a list. The first field is required.
    Fields {
        /// Its form in words.
        form: &'static str,
        /// Whether plain text may stand in its place.
        or_text: bool,
        /// Its keys.
        fields: Vec<(&'static str, Self)>,
    },
    /// A list of at least one value, without repetitions.
    List(Box<Self>),
    /// A table that may be absent; its keys are described separately.
    Table,
}

/// Kind and range in words, for a reference.
impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("true or false"),
            Self::Integer { min, max } => write!(f, "whole number from {min} to {max}"),
            Self::Word(words) => {
                let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
                f.write_str(&words.join(" or "))
            }
            Self::Duration { min, max } => {
                write!(f, "duration from {} to {}", duration_text(*min), duration_text(*max))
            }
            Self::Size { min, max } => write!(f, "size from {} to {}", size_text(*min), size_text(*max)),
            Self::Text(form) | Self::Path(form) | Self::Fields { form, .. } => f.write_str(form),
            Self::List(element) => write!(f, "list of: {element}"),
            Self::Table => f.write_str("table"),
        }
    }
}

/// Collects the descriptions while the key table is walked.
pub(super) struct Describer {
    path: Vec<&'static str>,
    reload: Reload,
    keys: Vec<KeyDescription>,
}

impl Describer {
    pub(super) fn new() -> Self {
        Self { path: Vec::new(), reload: Reload::Reloadable, keys: Vec::new() }
    }

    pub(super) fn into_keys(self) -> Vec<KeyDescription> {
        self.keys
    }

    /// Adds one key of the current table.
    pub(super) fn key(&mut self, name: &'static str, kind: ValueKind, presence: Presence) {
        let key = self.path.iter().copied().chain([name]).collect::<Vec<_>>().join(".");
        self.keys.push(KeyDescription { key, kind, presence, reload: self.reload });
    }

    /// Describes the keys of the table `name`.
    pub(super) fn table(&mut self, name: &'static str, describe: impl FnOnce(&mut Self)) {
        self.path.push(name);
        describe(self);
        self.path.pop();
    }

    /// Everything that `describe` adds has this `reload`.
    pub(super) fn with_reload(&mut self, reload: Reload, describe: impl FnOnce(&mut Self)) {
        let outer = std::mem::replace(&mut self.reload, reload);
        describe(self);
        self.reload = outer;
    }
}
