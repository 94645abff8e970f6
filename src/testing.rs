//! The log of a unit test: a sink that can be read and waited for.

use std::io::{self, Write};
use std::time::Duration;

use tokio::sync::watch;

/// A test that has to wait for longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that was logged; clones share it.
#[derive(Clone, Default)]
pub(crate) struct CapturedLog(watch::Sender<String>);

impl CapturedLog {
    pub(crate) fn text(&self) -> String {
        self.0.borrow().clone()
    }

    /// Waits until these words have been logged so many times.
    pub(crate) async fn says(&self, words: &str, times: usize) {
        let mut log = self.0.subscribe();
        let logged = log.wait_for(|text| text.matches(words).count() >= times);
        if tokio::time::timeout(PATIENCE, logged).await.is_err() {
            panic!("{words:?} was not logged {times} times: {}", self.text());
        }
    }
}

impl Write for CapturedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send_modify(|text| text.push_str(str::from_utf8(bytes).unwrap()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
