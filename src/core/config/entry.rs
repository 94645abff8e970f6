//! One line of the key table ([`super::keys`]): how it is read from a document, written to one, and described.

use super::document::{TableReader, ValueRef};
use super::reference::{Describer, Presence, Reload, ValueKind};
use super::writer::{Writer, WrittenValue};

/// A table of the configuration.
pub(super) trait Table: Sized {
    /// Reads every key. A missing or bad value is recorded as a problem and replaced by its default.
    fn read(reader: &mut TableReader<'_, '_>) -> Self;

    /// Writes keys first and tables after them: in TOML, a key below a table header belongs to that table.
    fn write(&self, writer: &mut Writer);

    /// Describes every key.
    fn describe(describer: &mut Describer);
}

/// A key or a table within a table.
pub(super) trait Entry: Sized {
    /// The type of its field in the checked configuration.
    type Value;

    /// Reads the entry `name`, or takes its default.
    fn read(&self, reader: &mut TableReader<'_, '_>, name: &'static str) -> Self::Value;

    /// Writes the entry so that it reads as the same value.
    fn write(&self, value: &Self::Value, name: &'static str, writer: &mut Writer);

    /// Describes the key, or every key of the table.
    fn describe(&self, name: &'static str, describer: &mut Describer);

    /// The value is fixed when the process starts: a reload that changes it is refused.
    fn fixed(self) -> WithReload<Self> {
        WithReload(self, Reload::Fixed)
    }

    /// A changed value has no effect before the next start.
    fn at_next_start(self) -> WithReload<Self> {
        WithReload(self, Reload::NextStart)
    }
}

/// A kind of value.
pub(super) trait Kind: Sized {
    /// The type of the value in the checked configuration.
    type Value;

    /// The value, or `None` with at least one problem recorded.
    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<Self::Value>;

    /// The value as TOML that reads as the same value.
    fn write(&self, value: &Self::Value) -> String;

    /// What a value must be.
    fn describe(&self) -> ValueKind;

    /// A default as TOML, for descriptions.
    fn describe_default(&self, default: &Self::Value) -> String {
        self.write(default)
    }

    /// Whether the value may be a secret that must not reach a log.
    fn is_secret(&self) -> bool {
        false
    }

    /// Whether the value names a file that the gateway reads.
    fn is_file(&self) -> bool {
        false
    }

    /// A key of this kind with a default.
    fn or(self, default: Self::Value) -> WithDefault<Self> {
        WithDefault(self, default)
    }

    /// A key of this kind without default; `cure` tells the operator what to add.
    fn required(self, cure: &'static str) -> Required<Self> {
        Required(self, cure)
    }

    /// A key of this kind that may be absent.
    fn optional(self) -> Optional<Self> {
        Optional(self)
    }
}

fn written<K: Kind>(kind: &K, value: &K::Value) -> Option<WrittenValue> {
    Some(WrittenValue { toml: kind.write(value), secret: kind.is_secret(), file: kind.is_file() })
}

/// A key with a default.
pub(super) struct WithDefault<K: Kind>(K, K::Value);

impl<K: Kind<Value: Clone>> Entry for WithDefault<K> {
    type Value = K::Value;

    fn read(&self, reader: &mut TableReader<'_, '_>, name: &'static str) -> K::Value {
        reader.find(name).and_then(|mut value| self.0.read(&mut value)).unwrap_or_else(|| self.1.clone())
    }

    fn write(&self, value: &K::Value, name: &'static str, writer: &mut Writer) {
        writer.key(name, written(&self.0, value));
    }

    fn describe(&self, name: &'static str, describer: &mut Describer) {
        describer.key(name, self.0.describe(), Presence::Default(self.0.describe_default(&self.1)));
    }
}

/// A key that must be present; the text says what to add.
pub(super) struct Required<K>(K, &'static str);

impl<K: Kind<Value: Default>> Entry for Required<K> {
    type Value = K::Value;

    fn read(&self, reader: &mut TableReader<'_, '_>, name: &'static str) -> K::Value {
        if let Some(mut value) = reader.find(name) {
            return self.0.read(&mut value).unwrap_or_default();
        }
        reader.missing(name, self.1);
        K::Value::default()
    }

    fn write(&self, value: &K::Value, name: &'static str, writer: &mut Writer) {
        writer.key(name, written(&self.0, value));
    }

    fn describe(&self, name: &'static str, describer: &mut Describer) {
        describer.key(name, self.0.describe(), Presence::Required);
    }
}

/// A key that may be absent.
pub(super) struct Optional<K>(K);

impl<K: Kind> Entry for Optional<K> {
    type Value = Option<K::Value>;

    fn read(&self, reader: &mut TableReader<'_, '_>, name: &'static str) -> Option<K::Value> {
        self.0.read(&mut reader.find(name)?)
    }

    fn write(&self, value: &Option<K::Value>, name: &'static str, writer: &mut Writer) {
        writer.key(name, value.as_ref().and_then(|value| written(&self.0, value)));
    }

    fn describe(&self, name: &'static str, describer: &mut Describer) {
        describer.key(name, self.0.describe(), Presence::Optional);
    }
}

/// A table whose keys all have defaults. An absent table reads as an empty one.
pub(super) struct Nested<T>(std::marker::PhantomData<T>);

/// See [`Nested`].
pub(super) fn table<T: Table>() -> Nested<T> {
    Nested(std::marker::PhantomData)
}

impl<T: Table> Entry for Nested<T> {
    type Value = T;

    fn read(&self, reader: &mut TableReader<'_, '_>, name: &'static str) -> T {
        reader.table(name, T::read)
    }

    fn write(&self, value: &T, name: &'static str, writer: &mut Writer) {
        writer.table(name, false, |writer| value.write(writer));
    }

    fn describe(&self, name: &'static str, describer: &mut Describer) {
        describer.table(name, T::describe);
    }
}

/// A table that switches a feature on by its presence.
pub(super) struct OptionalTable<T> {
    table: std::marker::PhantomData<T>,
    presence: Reload,
}

/// See [`OptionalTable`].
pub(super) fn optional_table<T: Table>() -> OptionalTable<T> {
    OptionalTable { table: std::marker::PhantomData, presence: Reload::Reloadable }
}

impl<T> OptionalTable<T> {
    /// A reload can change the keys of the table, but neither add nor remove the table.
    pub(super) fn fixed_presence(self) -> Self {
        Self { presence: Reload::Fixed, ..self }
    }
}

impl<T: Table> Entry for OptionalTable<T> {
    type Value = Option<T>;

    fn read(&self, reader: &mut TableReader<'_, '_>, name: &'static str) -> Option<T> {
        reader.optional_table(name, T::read)
    }

    fn write(&self, value: &Option<T>, name: &'static str, writer: &mut Writer) {
        if let Some(table) = value {
            writer.table(name, true, |writer| table.write(writer));
        }
    }

    fn describe(&self, name: &'static str, describer: &mut Describer) {
        describer.with_reload(self.presence, |describer| describer.key(name, ValueKind::Table, Presence::Optional));
        describer.table(name, T::describe);
    }
}

/// An entry that is not reloadable.
pub(super) struct WithReload<E>(E, Reload);

impl<E: Entry> Entry for WithReload<E> {
    type Value = E::Value;

    fn read(&self, reader: &mut TableReader<'_, '_>, name: &'static str) -> E::Value {
        self.0.read(reader, name)
    }

    fn write(&self, value: &E::Value, name: &'static str, writer: &mut Writer) {
        self.0.write(value, name, writer);
    }

    fn describe(&self, name: &'static str, describer: &mut Describer) {
        describer.with_reload(self.1, |describer| self.0.describe(name, describer));
    }
}
