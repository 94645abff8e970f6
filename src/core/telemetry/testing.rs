//! The log of a unit test: a sink that can be read.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

/// Everything that was logged; clones share it.
#[derive(Clone, Default)]
pub(crate) struct CapturedLog(Arc<Mutex<String>>);

impl CapturedLog {
    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

impl Write for CapturedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
