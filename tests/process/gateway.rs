//! The gateway, inside this process or outside of it.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};

use previewgate::app::{App, Running};
use previewgate::config::{self, Files};
use previewgate::telemetry::Logging;
use serde_json::Value;

use super::{PATIENCE, Site, eventually, within};

/// What was logged.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A gateway in this process.
pub(crate) struct Inside {
    pub(crate) running: Option<Running>,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) log: Log,
    logging: Logging,
}

/// A gateway that is bound and does not serve yet: who connects has to wait.
pub(crate) struct Bound {
    app: App,
    log: Log,
    logging: Logging,
}

impl Bound {
    pub(crate) fn address(&self) -> SocketAddr {
        self.app.address()
    }

    pub(crate) fn start(self) -> Inside {
        let Self { app, log, logging } = self;
        let running = app.start().unwrap();
        Inside { address: running.address, admin: running.admin_address, running: Some(running), log, logging }
    }
}

impl Inside {
    pub(crate) fn bind(site: &Site) -> Bound {
        let config = config::load(&site.config(), Files::Check).unwrap_or_else(|problems| panic!("{problems}"));
        let log = Log::default();
        let logging = Logging::start(config.log.format, config.log.level, Box::new(log.clone())).unwrap();
        let app = App::bind(config, &logging).unwrap().reloading(site.config());
        Bound { app, log, logging }
    }

    pub(crate) fn start(site: &Site) -> Self {
        Self::bind(site).start()
    }

    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// What was logged up to now.
    pub(crate) fn logged(&self) -> String {
        assert!(self.logging.writer.flush(PATIENCE));
        self.log.text()
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // A test that has failed already has said enough.
        if let Some(running) = self.running.take().filter(|_| !std::thread::panicking()) {
            running.stop();
            within("the gateway to end", || running.wait()).unwrap();
        }
    }
}

/// A gateway that is a process of its own; killed when dropped.
pub(crate) struct Outside {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// What comes after the line that says that it is ready.
    said: Receiver<String>,
}

/// The command that runs the gateway; extended by tests.
pub(crate) const RUN: &str = "exec \"$PREVIEWGATE\" run --config \"$CONFIG\"";

/// A shell that will carry out `script`, with `$PREVIEWGATE` and `$CONFIG` set.
pub(crate) fn shell(script: &str, files: &Site) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("PREVIEWGATE", env!("CARGO_BIN_EXE_previewgate")).env("CONFIG", files.config());
    command
}

/// The lines of a stream that may never say anything more: whoever waits for the next can give up. Lines that nobody
/// waits for stay in the pipe, as they do if nobody reads a log.
fn lines(stream: ChildStdout) -> Receiver<String> {
    let (said, heard) = mpsc::sync_channel(0);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if said.send(line).is_err() {
                return;
            }
        }
    });
    heard
}

/// Runs a command that is meant to end by itself; how it ended, and what it complained of.
#[track_caller]
pub(crate) fn complaint(mut command: Command) -> (ExitStatus, String) {
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let id = child.id();
    let output = within(&format!("process {id} to end by itself"), || child.wait_with_output()).unwrap();
    (output.status, String::from_utf8(output.stderr).unwrap())
}

impl Outside {
    /// Starts it and waits until it is ready.
    #[track_caller]
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let said = lines(child.stdout.take().unwrap());
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        // From here on it is killed whatever happens.
        let mut gateway = Self { child, address: nowhere, admin: nowhere, said };
        let said: Value = serde_json::from_str(&gateway.says("\"message\":\"ready\"")).unwrap();
        let address = |name: &str| said[name].as_str().unwrap().parse().unwrap();
        (gateway.address, gateway.admin) = (address("address"), address("admin"));
        gateway
    }

    /// Waits for the next line of its log with these words in it.
    #[track_caller]
    pub(crate) fn says(&self, words: &str) -> String {
        loop {
            match self.said.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(words) => return line,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => panic!("waited in vain for {words} in the log"),
                Err(RecvTimeoutError::Disconnected) => panic!("ended without {words} in the log"),
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        // The shell's own: the program of this name is in a package that not every machine has.
        let sent =
            Command::new("sh").args(["-c", "kill -s $0 $1", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended()
    }

    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the process to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
