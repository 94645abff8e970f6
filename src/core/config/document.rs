//! Reads values from a parsed TOML document, records which keys are known, and collects problems instead of stopping.
//!
//! serde's `deny_unknown_fields` stops at the first mistake, but an operator wants to see all of them. So each key is
//! read separately from a document with positions. A bad value is replaced by its default only to continue: a document
//! with a problem never becomes a configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Problem;

/// Whether to check the files that a configuration names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// They must exist and have the right content. The gateway always starts with this check.
    Check,
    /// The machine that checks the configuration is not the one that runs it (`check --skip-files`).
    Skip,
}

/// One document, with the known keys and the problems found so far.
pub(super) struct Document<'v> {
    text: &'v str,
    base: PathBuf,
    /// Whether to check files.
    pub(super) files: Files,
    known: BTreeSet<String>,
    unknown: Vec<(String, usize)>,
    offsets: BTreeMap<String, usize>,
    problems: Vec<Problem>,
    manual: &'static str,
}

impl<'v> Document<'v> {
    /// Relative paths start at `base`.
    pub(super) fn new(text: &'v str, base: &Path, files: Files) -> Self {
        // Paths are printed as absolute ones, so that the printed configuration is valid in any directory.
        let base = if base.as_os_str().is_empty() { Path::new(".") } else { base };
        let base = std::path::absolute(base).unwrap_or_else(|_| base.to_owned());
        Self {
            text,
            base,
            files,
            known: BTreeSet::new(),
            unknown: Vec::new(),
            offsets: BTreeMap::new(),
            problems: Vec::new(),
            manual: "config/previewgate.toml",
        }
    }

    /// Names another place than the configuration's where every key is described.
    pub(super) fn described_in(self, manual: &'static str) -> Self {
        Self { manual, ..self }
    }

    /// Parses the document, or returns its first syntax error. Later errors would be guesses.
    pub(super) fn parse(&self) -> Result<Spanned<DeTable<'v>>, Vec<Problem>> {
        DeTable::parse(self.text).map_err(|error| {
            let cure = "correct the TOML here; text, durations (\"10s\") and sizes (\"32KiB\") need double quotes";
            // Uses only the message: the error's own Display quotes the line, which may contain a secret.
            vec![self.problem(error.span().map(|span| span.start), "", None, error.message(), cure)]
        })
    }

    /// `path` relative to the directory of the configuration file.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.base.join(path)
    }

    /// The directory at which relative paths start.
    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    /// Whether the document contains `key`, a value or a table.
    pub(super) fn mentions(&self, key: &str) -> bool {
        self.offsets.contains_key(key)
    }

    /// Whether no problem with `key` was found so far. Only sound keys are checked for conflicts: a bad value was
    /// replaced by its default.
    pub(super) fn is_sound(&self, key: &str) -> bool {
        let part_of =
            |found: &str| found.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('['));
        !self.problems.iter().any(|problem| part_of(&problem.key))
    }

    /// Records that `key` contradicts another one.
    pub(super) fn conflict(&mut self, key: &str, message: &str, cure: &str) {
        let offset = self.offsets.get(key).copied();
        self.problems.push(self.problem(offset, key, None, message, cure));
    }

    /// Every known key and table, whether the document contains it or not.
    #[cfg(test)]
    pub(super) fn known(&self) -> &BTreeSet<String> {
        &self.known
    }

    /// All problems, unknown keys among them.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        for (key, offset) in std::mem::take(&mut self.unknown) {
            let cure = match self.nearest(&key) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => format!("remove it; {} lists every key", self.manual),
            };
            // Does not show the value: it may be a secret under a misspelt key.
            self.problems.push(self.problem(Some(offset), &key, None, "unknown key", &cure));
        }
        self.problems
    }

    /// The known key that was probably meant: a similar one in the same table, or the same word in another table, first
    /// in the tables below this one.
    fn nearest(&self, key: &str) -> Option<&str> {
        let (table, word) = split(key);
        let neighbours = self.known.iter().filter(|known| split(known).0 == table);
        let alike = neighbours.map(|known| (likeness(word, split(known).1), known));
        let best = alike.max_by(|(one, _), (other, _)| one.total_cmp(other)).filter(|(score, _)| *score >= 0.85);
        let same_word = || self.known.iter().filter(|known| split(known).1 == word);
        let below = || same_word().find(|known| known.strip_prefix(table).is_some_and(|rest| rest.starts_with('.')));
        best.map(|(_, known)| known).or_else(below).or_else(|| same_word().next()).map(String::as_str)
    }

    fn problem(&self, offset: Option<usize>, key: &str, value: Option<String>, message: &str, cure: &str) -> Problem {
        let position = offset.map(|offset| position(self.text, offset));
        Problem {
            line: position.map(|(line, _)| line),
            column: position.map(|(_, column)| column),
            key: key.to_owned(),
            value,
            message: message.to_owned(),
            cure: cure.to_owned(),
        }
    }
}

/// `upstream.tls.ca` is `ca` of `upstream.tls`.
fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or(("", key))
}

/// Similarity from 0 to 1. Jaro-Winkler rates two swapped letters in a short word (`tsl`) too low for one typing error.
fn likeness(typed: &str, known: &str) -> f64 {
    let one_typo = if strsim::osa_distance(typed, known) == 1 { 0.9 } else { 0.0 };
    strsim::jaro_winkler(typed, known).max(one_typo)
}

/// Line and column, both from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    (before.matches('\n').count() + 1, column)
}

/// Reads one table of the document. An absent table reads as an empty one.
pub(super) struct TableReader<'r, 'v> {
    /// The document.
    pub(super) document: &'r mut Document<'v>,
    path: String,
    table: Option<&'v DeTable<'v>>,
    asked: Vec<&'static str>,
}

impl<'r, 'v> TableReader<'r, 'v> {
    /// Reads the top level of the document; `None` reads as an empty document.
    pub(super) fn root(document: &'r mut Document<'v>, table: Option<&'v DeTable<'v>>) -> Self {
        Self { document, path: String::new(), table, asked: Vec::new() }
    }

    /// The value of `name`, if the document has one. Makes `name` a known key.
    pub(super) fn find(&mut self, name: &'static str) -> Option<ValueRef<'_, 'v>> {
        let key = self.key(name);
        self.asked.push(name);
        self.document.known.insert(key.clone());
        let value = self.table?.get(name)?;
        self.document.offsets.insert(key.clone(), value.span().start);
        Some(ValueRef { document: self.document, key, value, withheld: false })
    }

    /// Reads the table `name` with `read`, as an empty one if it is absent.
    pub(super) fn table<T>(&mut self, name: &'static str, read: impl FnOnce(&mut TableReader<'_, 'v>) -> T) -> T {
        match self.find(name).map(|mut value| value.table()) {
            Some(None) => self.silently(|reader| reader.inner(name, None, read)),
            found => self.inner(name, found.flatten(), read),
        }
    }

    /// Reads the table `name` if it is present. Makes its keys known in both cases.
    pub(super) fn optional_table<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&mut TableReader<'_, 'v>) -> T,
    ) -> Option<T> {
        if self.find(name).is_some() {
            return Some(self.table(name, read));
        }
        self.silently(|reader| reader.table(name, read));
        None
    }

    /// Reads without recording problems, such as missing keys of a table that is itself absent.
    pub(super) fn silently<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let problems = std::mem::take(&mut self.document.problems);
        let value = read(self);
        self.document.problems = problems;
        value
    }

    fn inner<T>(
        &mut self,
        name: &'static str,
        table: Option<&'v DeTable<'v>>,
        read: impl FnOnce(&mut TableReader<'_, 'v>) -> T,
    ) -> T {
        let mut inner = TableReader { path: self.key(name), document: self.document, table, asked: Vec::new() };
        let value = read(&mut inner);
        inner.finish();
        value
    }

    /// Records that a key without default is missing.
    pub(super) fn missing(&mut self, name: &'static str, cure: &str) {
        let offset = self.document.offsets.get(&self.path).copied();
        let problem = self.document.problem(offset, &self.key(name), None, "is missing and has no default", cure);
        self.document.problems.push(problem);
    }

    /// Records every key that was not read as unknown.
    pub(super) fn finish(self) {
        for key in self.table.iter().flat_map(|table| table.keys()) {
            if !self.asked.iter().any(|asked| *asked == key.get_ref().as_ref()) {
                let path = self.key(&shown_key(key.get_ref()));
                self.document.unknown.push((path, key.span().start));
            }
        }
    }

    fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

/// One value of the document with its key.
pub(super) struct ValueRef<'r, 'v> {
    /// The document.
    pub(super) document: &'r mut Document<'v>,
    key: String,
    value: &'v Spanned<DeValue<'v>>,
    withheld: bool,
}

impl<'v> ValueRef<'_, 'v> {
    /// The value.
    pub(super) fn toml(&self) -> &'v DeValue<'v> {
        self.value.get_ref()
    }

    /// Sets whether problems hide the value.
    pub(super) fn withhold(&mut self, withheld: bool) {
        self.withheld = withheld;
    }

    /// Records what is wrong with the value and how to correct it. Returns `None`, for use as the result of a reader.
    pub(super) fn wrong<T>(&mut self, message: &str, cure: &str) -> Option<T> {
        self.report(message, cure);
        None
    }

    /// Records what is wrong with the value and how to correct it.
    pub(super) fn report(&mut self, message: &str, cure: &str) {
        let value = if self.withheld { "(not shown)".to_owned() } else { shown(self.toml()) };
        let offset = Some(self.value.span().start);
        let problem = self.document.problem(offset, &self.key, Some(value), message, cure);
        self.document.problems.push(problem);
    }

    /// Records that the value has another TOML type than `wanted`.
    pub(super) fn wrong_type<T>(&mut self, wanted: &str) -> Option<T> {
        let message = format!("is {}", type_name(self.toml()));
        self.wrong(&message, &format!("write {wanted}"))
    }

    /// The text of a string, or a problem that names `wanted`.
    pub(super) fn text(&mut self, wanted: &str) -> Option<&'v str> {
        match self.toml() {
            DeValue::String(text) => Some(text),
            _ => self.wrong_type(wanted),
        }
    }

    /// The length of a list, or a problem that names `wanted`.
    pub(super) fn list(&mut self, wanted: &str) -> Option<usize> {
        match self.toml() {
            DeValue::Array(elements) => Some(elements.len()),
            _ => self.wrong_type(wanted),
        }
    }

    /// Element `index` of a list with its own key.
    pub(super) fn element(&mut self, index: usize) -> Option<ValueRef<'_, 'v>> {
        let value = self.toml().get(index)?;
        let key = format!("{}[{index}]", self.key);
        self.document.offsets.insert(key.clone(), value.span().start);
        Some(ValueRef { document: self.document, key, value, withheld: self.withheld })
    }

    /// Reads the keys of a table inside a list.
    pub(super) fn fields<T>(&mut self, table: &'v DeTable<'v>, read: impl FnOnce(&mut TableReader<'_, 'v>) -> T) -> T {
        let path = self.key.clone();
        let mut reader = TableReader { path, document: self.document, table: Some(table), asked: Vec::new() };
        let value = read(&mut reader);
        reader.finish();
        value
    }

    fn table(&mut self) -> Option<&'v DeTable<'v>> {
        match self.toml() {
            DeValue::Table(table) => Some(table),
            _ => self.wrong_type(&format!("a table: a line `[{}]` with its keys below", self.key)),
        }
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A value as problems show it. Lists and tables are abbreviated.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => shown_text(text),
        DeValue::Integer(number) => shown_key(&number.to_string()),
        DeValue::Float(number) => shown_key(&number.to_string()),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "[…]".to_owned(),
        DeValue::Table(_) => "{…}".to_owned(),
    }
}

/// Text in quotes, without what may be secret wherever it turns up: pasted PEM, URL user names and queries.
fn shown_text(text: &str) -> String {
    if text.contains('\n') || text.contains("-----BEGIN") {
        return format!("(text of {} characters, not shown)", text.chars().count());
    }
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
    let rest = rest.rsplit_once('@').map_or_else(|| rest.to_owned(), |(_, host)| format!("***@{host}"));
    let separator = if scheme.is_empty() { "" } else { "://" };
    let without_query = match rest.split_once('?') {
        Some((before, _)) if !scheme.is_empty() => format!("{before}?…"),
        _ => rest,
    };
    format!("{:?}", shortened(&format!("{scheme}{separator}{without_query}")))
}

/// A key or number as written, quoted only if necessary.
fn shown_key(key: &str) -> String {
    let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-+.".contains(c));
    if bare { shortened(key) } else { format!("{:?}", shortened(key)) }
}

fn shortened(text: &str) -> String {
    const MAX_CHARS: usize = 80;
    if text.chars().count() <= MAX_CHARS {
        return text.to_owned();
    }
    text.chars().take(MAX_CHARS).chain(['…']).collect()
}
