//! How one line of the key table ([`super::keys`]) is read from a document and written to one.

use super::document::{TableReader, ValueRef};

/// A table of the configuration: reads itself from a reader and writes itself again.
pub(super) trait Table: Sized {
    /// Always a value: what is missing or bad was recorded, and stands at its default.
    fn read(reader: &mut TableReader<'_, '_>) -> Self;
    /// Keys first, tables after them: TOML has no way back.
    fn write(&self, writer: &mut Writer);
}

/// A key or a table within a table.
pub(super) trait Entry {
    /// What the checked configuration holds.
    type Value;
    /// Reads the entry `name`, or takes its default.
    fn read(&self, reader: &mut TableReader<'_, '_>, name: &'static str) -> Self::Value;
    /// Writes it so that it reads the same again.
    fn write(&self, value: &Self::Value, name: &'static str, writer: &mut Writer);
}

/// A kind of value.
pub(super) trait Kind: Sized {
    /// What the checked configuration holds.
    type Value;

    /// The value, or `None` with at least one problem recorded.
    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<Self::Value>;

    /// The value as TOML that reads the same again.
    fn write(&self, value: &Self::Value) -> String;

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

/// A key with a default.
pub(super) struct WithDefault<K: Kind>(pub(super) K, pub(super) K::Value);

impl<K: Kind<Value: Clone>> Entry for WithDefault<K> {
    type Value = K::Value;

    fn read(&self, reader: &mut TableReader<'_, '_>, name: &'static str) -> K::Value {
        reader.find(name).and_then(|mut value| self.0.read(&mut value)).unwrap_or_else(|| self.1.clone())
    }

    fn write(&self, value: &K::Value, name: &'static str, writer: &mut Writer) {
        writer.key(name, &self.0.write(value));
    }
}

/// A key that must be there; the text says what to add.
pub(super) struct Required<K>(pub(super) K, pub(super) &'static str);

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
        writer.key(name, &self.0.write(value));
    }
}

/// A key that may be absent.
pub(super) struct Optional<K>(pub(super) K);

impl<K: Kind> Entry for Optional<K> {
    type Value = Option<K::Value>;

    fn read(&self, reader: &mut TableReader<'_, '_>, name: &'static str) -> Option<K::Value> {
        self.0.read(&mut reader.find(name)?)
    }

    fn write(&self, value: &Option<K::Value>, name: &'static str, writer: &mut Writer) {
        match value {
            Some(value) => writer.key(name, &self.0.write(value)),
            None => writer.absent(name),
        }
    }
}

/// A table whose keys all have defaults; absent means empty.
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
        writer.table(name, |writer| value.write(writer));
    }
}

/// A table whose absence means something.
pub(super) struct OptionalTable<T>(std::marker::PhantomData<T>);

/// See [`OptionalTable`].
pub(super) fn optional_table<T: Table>() -> OptionalTable<T> {
    OptionalTable(std::marker::PhantomData)
}

impl<T: Table> Entry for OptionalTable<T> {
    type Value = Option<T>;

    fn read(&self, reader: &mut TableReader<'_, '_>, name: &'static str) -> Option<T> {
        reader.optional_table(name, T::read)
    }

    fn write(&self, value: &Option<T>, name: &'static str, writer: &mut Writer) {
        if let Some(table) = value {
            writer.table(name, |writer| table.write(writer));
        }
    }
}

/// Collects the lines of a TOML document.
pub(super) struct Writer {
    toml: String,
    path: Vec<&'static str>,
    left_out: Option<&'static str>,
}

impl Writer {
    /// The table `left_out` is not written, because it would contradict the rest.
    pub(super) fn new(left_out: Option<&'static str>) -> Self {
        Self { toml: String::new(), path: Vec::new(), left_out }
    }

    /// The document.
    pub(super) fn into_toml(self) -> String {
        self.toml
    }

    /// One key; `value` is TOML.
    pub(super) fn key(&mut self, name: &str, value: &str) {
        self.line(&format!("{name} = {value}"));
    }

    /// A key that is not set, as a comment: the reader sees that it exists.
    fn absent(&mut self, name: &str) {
        self.line(&format!("# {name} is not set"));
    }

    fn table(&mut self, name: &'static str, write: impl FnOnce(&mut Self)) {
        self.path.push(name);
        let path = self.path.join(".");
        if self.left_out != Some(path.as_str()) {
            let blank = if self.toml.is_empty() { "" } else { "\n" };
            self.line(&format!("{blank}[{path}]"));
            write(self);
        }
        self.path.pop();
    }

    fn line(&mut self, line: &str) {
        self.toml.push_str(line);
        self.toml.push('\n');
    }
}
