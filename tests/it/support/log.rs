//! The gateway's log, for tests to read.

use std::io::{self, Write};

use serde_json::Value;
use tokio::sync::watch;

use super::within;

/// What was logged so far; clones share it.
#[derive(Clone)]
pub(crate) struct CapturedLog(watch::Sender<String>);

impl CapturedLog {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(String::new()))
    }

    /// Everything, as it was written.
    pub(crate) fn text(&self) -> String {
        self.0.borrow().clone()
    }

    /// The lines (JSON is the harness's default format).
    pub(crate) fn lines(&self) -> Vec<Value> {
        parsed(&self.0.borrow())
    }

    /// Waits for the first line that `is_it`: a line may be written a moment after the client has its answer.
    #[track_caller]
    pub(crate) fn line<'l>(&'l self, is_it: impl Fn(&Value) -> bool + 'l) -> impl Future<Output = Value> {
        let found = move |text: &str| parsed(text).into_iter().find(&is_it);
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

    /// Waits for the access line of the request with this ID (set `log.access` for it).
    #[track_caller]
    pub(crate) fn access<'l>(&'l self, request_id: &'l str) -> impl Future<Output = Value> {
        self.line(move |line| line["operation"].is_string() && line["request_id"] == request_id)
    }
}

fn parsed(text: &str) -> Vec<Value> {
    // The last line may not be complete yet.
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    complete.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}"))).collect()
}

impl Write for CapturedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8(bytes.to_vec()).expect("a log in UTF-8");
        self.0.send_modify(|log| log.push_str(&text));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
