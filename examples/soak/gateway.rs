//! The gateway as a process, on a socket that is held here.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use previewgate::audit::note::Signer;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixDatagram;
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::program::built_beside;

const PATIENCE: Duration = Duration::from_secs(60);
/// What systemd does: the socket is descriptor 3, and meant for this process.
const RUN: &str = "exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" run --config \"$1\"";

/// The process, restarted now and then.
pub(crate) struct Gateway {
    /// Where it listens, whether it runs or not.
    pub(crate) address: SocketAddr,
    listener: TcpListener,
    directory: TempDir,
    ear: UnixDatagram,
    upstream: SocketAddr,
    reloads: usize,
    child: Child,
    warnings: Warnings,
}

/// How often each warning and error was logged, by its message.
type Warnings = Arc<Mutex<BTreeMap<String, u64>>>;

impl Gateway {
    /// Starts the program that was built beside this one.
    pub(crate) async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let ear = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        let address = listener.local_addr().unwrap();
        prepare_audit(directory.path());
        configure(&directory, upstream, 0);
        let warnings = Warnings::default();
        let child = spawn(&listener, &directory, &warnings);
        let gateway = Self { address, listener, directory, ear, upstream, reloads: 0, child, warnings };
        gateway.ready().await;
        gateway
    }

    /// A configuration that differs where it does no harm, and SIGHUP.
    pub(crate) fn reload(&mut self) {
        self.reloads += 1;
        self.forget();
        configure(&self.directory, self.upstream, self.reloads);
        self.signal("HUP");
    }

    /// Ends it orderly and starts it again; meanwhile clients wait in the backlog.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.child = spawn(&self.listener, &self.directory, &self.warnings);
        self.ready().await;
    }

    /// Ends it orderly.
    pub(crate) async fn stop(&mut self) {
        self.signal("TERM");
        let status = timeout(PATIENCE, self.child.wait()).await.expect("the gateway ends").unwrap();
        assert!(status.success(), "the gateway ended with {status}");
        self.forget();
    }

    /// What it said so far; the next one says for itself that it is ready.
    fn forget(&self) {
        while self.ear.try_recv(&mut [0; 4096]).is_ok() {}
    }

    /// Where its audit log is, and the key that signs it.
    pub(crate) fn audit(&self) -> (PathBuf, PathBuf) {
        (self.directory.path().join("audit"), self.directory.path().join("audit.key"))
    }

    /// Prints the warnings and errors of all processes: an answer may be lost because a drain took too long.
    pub(crate) fn print_warnings(&self) {
        for (message, count) in &*self.warnings.lock().unwrap() {
            println!("log: {count:>6} {message}");
        }
    }

    /// Resident memory in KiB.
    pub(crate) fn resident(&self) -> u64 {
        let status = self.child.id().and_then(|id| std::fs::read_to_string(format!("/proc/{id}/status")).ok());
        let line = status.as_deref().unwrap_or_default().lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
    }

    async fn ready(&self) {
        let mut said = [0; 4096];
        loop {
            let length = timeout(PATIENCE, self.ear.recv(&mut said)).await.expect("the gateway starts").unwrap();
            if said[..length].starts_with(b"READY=1") {
                return;
            }
        }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().expect("the gateway has ended by itself");
        std::process::Command::new("sh").args(["-c", "kill -s $0 $1", name, &id.to_string()]).status().unwrap();
    }
}

/// Reads a log to its end.
async fn count_warnings(log: ChildStdout, warnings: Warnings) {
    let mut lines = BufReader::new(log).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if !(line.contains("\"WARN\"") || line.contains("\"ERROR\"")) {
            continue;
        }
        let line: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        // Messages that differ in a count at the beginning are of one kind.
        let message = line["message"].as_str().unwrap_or("a line that is no JSON");
        let kind = message.trim_start_matches(|character: char| character.is_ascii_digit() || character == ' ');
        *warnings.lock().unwrap().entry(kind.to_owned()).or_default() += 1;
    }
}

fn spawn(listener: &TcpListener, directory: &TempDir, warnings: &Warnings) -> Child {
    let program = built_beside();
    let mut child = Command::new("sh")
        .args(["-c", RUN])
        .arg(program)
        .arg(directory.path().join("previewgate.toml"))
        .env("NOTIFY_SOCKET", directory.path().join("notify"))
        .stdin(OwnedFd::from(listener.try_clone().unwrap()))
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    tokio::spawn(count_warnings(child.stdout.take().unwrap(), Arc::clone(warnings)));
    child
}

/// The directory and the key of the audit log.
fn prepare_audit(directory: &Path) {
    std::fs::DirBuilder::new().mode(0o700).create(directory.join("audit")).unwrap();
    let (_, key) = Signer::generate().unwrap();
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(directory.join("audit.key"))
        .unwrap()
        .write_all(key.as_bytes())
        .unwrap();
}

fn configure(directory: &TempDir, upstream: SocketAddr, variant: usize) {
    let (level, callout_body) = if variant.is_multiple_of(2) { ("info", "64KiB") } else { ("warn", "32KiB") };
    let text = format!(
        "listener.address = \"127.0.0.1:0\"\nadmin.address = \"127.0.0.1:0\"\nlog.access = \"all\"\n\
         upstream.endpoints = [\"http://{upstream}\"]\nshutdown.drain = \"10s\"\nruntime.workers = 2\n\
         log.level = \"{level}\"\nlimits.callout_body = \"{callout_body}\"\naudit.directory = \"audit\"\n\
         audit.signing_key = \"audit.key\"\naudit.number_keys = \"numbers\"\naudit.segment_size = \"1MiB\"\n"
    );
    // Written whole before it has its name, as careful operators do.
    let path = directory.path().join("previewgate.toml");
    std::fs::write(path.with_extension("next"), text).unwrap();
    std::fs::rename(path.with_extension("next"), path).unwrap();
}
