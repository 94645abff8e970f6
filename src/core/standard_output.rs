//! The standard output of a command. A reader that closes it early is no error: `previewgate check | head -1`.

use std::io::{self, Write};

/// Writes to the standard output until its reader has closed it. What comes later is discarded.
#[derive(Debug, Default)]
pub struct StandardOutput {
    reader_left: bool,
}

impl StandardOutput {
    /// The standard output of this process.
    pub fn new() -> Self {
        Self::default()
    }

    fn unless_reader_left<T>(
        &mut self,
        discarded: T,
        write: impl FnOnce(&mut io::Stdout) -> io::Result<T>,
    ) -> io::Result<T> {
        if self.reader_left {
            return Ok(discarded);
        }
        match write(&mut io::stdout()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.reader_left = true;
                Ok(discarded)
            }
            outcome => outcome,
        }
    }
}

impl Write for StandardOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unless_reader_left(bytes.len(), |out| out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unless_reader_left((), Write::flush)
    }
}
