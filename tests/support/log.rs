//! The gateway's log, for tests to read and to wait for.

use std::io::{self, Write};
use std::sync::LazyLock;

use serde_json::Value;
use tokio::sync::watch;

use super::within;

/// Checks a line against the published schema.
pub(super) fn assert_line_follows_schema(line: &str) {
    static SCHEMA: LazyLock<Value> =
        LazyLock::new(|| serde_json::from_str(previewgate::telemetry::LOG_SCHEMA).unwrap());
    assert_eq!(super::violation(&SCHEMA, &serde_json::from_str(line).unwrap()), None, "{line}");
}

/// Everything that was logged so far; clones share it.
#[derive(Clone, Default)]
pub(crate) struct CapturedLog(watch::Sender<String>);

impl CapturedLog {
    /// The whole text, as it was written.
    pub(crate) fn text(&self) -> String {
        self.0.borrow().clone()
    }

    /// The lines (JSON is the format of the harness).
    pub(crate) fn lines(&self) -> Vec<Value> {
        parsed(&self.0.borrow())
    }

    /// Checks every line against the published schema.
    pub(super) fn assert_follows_schema(&self) {
        let text = self.0.borrow();
        let lines = text.split_inclusive('\n').filter(|line| line.starts_with('{') && line.ends_with('\n'));
        lines.for_each(assert_line_follows_schema);
    }

    /// Waits for the first line for which `matches` is true: a line may be written a moment after the client has its
    /// answer.
    #[track_caller]
    pub(crate) fn line<'l>(&'l self, matches: impl Fn(&Value) -> bool + 'l) -> impl Future<Output = Value> {
        let found = move |text: &str| parsed(text).into_iter().find(&matches);
        within("a line in the log", async move {
            let mut text = self.0.subscribe();
            let text = text.wait_for(|text| found(text).is_some()).await.unwrap();
            found(&text).unwrap()
        })
    }

    /// Waits for the decision of the request with this ID.
    #[track_caller]
    pub(crate) fn decision<'l>(&'l self, request_id: &'l str) -> impl Future<Output = Value> {
        self.line(move |line| line["method"] == "previewCallout" && line["request_id"] == request_id)
    }

    /// Waits for the access line of the request with this ID (the harness sets `log.access = "all"`).
    #[track_caller]
    pub(crate) fn access<'l>(&'l self, request_id: &'l str) -> impl Future<Output = Value> {
        self.line(move |line| line["operation"].is_string() && line["request_id"] == request_id)
    }

    /// Waits for the first line whose message contains these words.
    #[track_caller]
    pub(crate) fn message<'l>(&'l self, words: &'l str) -> impl Future<Output = Value> {
        self.line(move |line| line["message"].as_str().is_some_and(|text| text.contains(words)))
    }
}

fn parsed(text: &str) -> Vec<Value> {
    // The last line may not be complete yet.
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    complete.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}"))).collect()
}

impl Write for CapturedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = str::from_utf8(bytes).expect("a log in UTF-8");
        self.0.send_modify(|log| log.push_str(text));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
