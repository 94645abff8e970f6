//! The real program as a child process.

use std::ops::Deref;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use rustls::ClientConfig;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::log::assert_line_follows_schema;
use super::{Access, Site, within};

/// The shell command that runs the gateway; tests put their own commands before it.
pub(crate) const RUN: &str = "exec \"$PREVIEWGATE\" run --config \"$CONFIG\"";

/// A gateway that is a process of its own; killed when dropped.
pub(crate) struct Process {
    access: Access,
    child: Child,
    /// Its log. Lines for which no test waits stay in the pipe, as they do when nothing reads a log.
    log: Lines<BufReader<ChildStdout>>,
}

impl Site {
    /// A shell that will carry out `script`, with `$PREVIEWGATE` and `$CONFIG` set.
    pub(crate) fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).kill_on_drop(true);
        command.env("PREVIEWGATE", env!("CARGO_BIN_EXE_previewgate")).env("CONFIG", self.config_file());
        command
    }

    /// Starts the gateway of this site as a process of its own.
    pub(crate) async fn run(&self) -> Process {
        self.run_with(self.shell(RUN)).await
    }

    /// Starts `command` and waits until the gateway is ready.
    #[track_caller]
    pub(crate) fn run_with(&self, mut command: Command) -> impl Future<Output = Process> {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stdout.take().unwrap()).lines();
        let (simulator, tls): (_, Option<Arc<ClientConfig>>) = (self.handle.clone(), self.client_tls());
        within("the gateway to be ready", async move {
            let ready: Value = serde_json::from_str(&next_line(&mut log, "\"message\":\"ready\"").await).unwrap();
            let address = |name: &str| ready[name].as_str().unwrap().parse().unwrap();
            let access =
                Access { address: address("address"), admin_address: address("admin"), simulator, tls, pipes: None };
            Process { access, child, log }
        })
    }
}

/// Runs a command that is meant to end by itself; returns its status and what it wrote to stderr.
#[track_caller]
pub(crate) fn outcome(mut command: Command) -> impl Future<Output = (ExitStatus, String)> {
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    within("a process to end by itself", async {
        let output = child.wait_with_output().await.unwrap();
        (output.status, String::from_utf8(output.stderr).unwrap())
    })
}

async fn next_line(log: &mut Lines<BufReader<ChildStdout>>, words: &str) -> String {
    loop {
        let line = log.next_line().await.unwrap();
        line.iter().filter(|line| line.starts_with('{')).for_each(|line| assert_line_follows_schema(line));
        match line {
            Some(line) if line.contains(words) => return line,
            Some(_) => {}
            None => panic!("the process has ended without {words} in its log"),
        }
    }
}

impl Deref for Process {
    type Target = Access;

    fn deref(&self) -> &Access {
        &self.access
    }
}

impl Process {
    /// Waits for the next line of the log with these words in it.
    #[track_caller]
    pub(crate) fn says<'p>(&'p mut self, words: &'p str) -> impl Future<Output = String> {
        within(format!("{words} in the log"), next_line(&mut self.log, words))
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("a process that runs")
    }

    /// Resident memory of the process, in bytes.
    pub(crate) fn resident_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Processor time that the process has used, in hundredths of a second.
    pub(crate) fn processor_time(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }

    /// Sends a signal: `HUP`, `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Sends SIGTERM and returns how the process has ended.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended().await
    }

    /// Checks the lines for which no test has waited. A killed process leaves its last one unfinished.
    async fn check_rest_of_log(&mut self) {
        while let Ok(Some(line)) = self.log.next_line().await {
            if line.starts_with('{') && line.ends_with('}') {
                assert_line_follows_schema(&line);
            }
        }
    }

    /// Waits for the end of the process.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> impl Future<Output = ExitStatus> {
        within("the process to end", async {
            let status = self.child.wait().await.unwrap();
            self.check_rest_of_log().await;
            status
        })
    }
}

/// Sends a signal to a child process. By the shell's own `kill`: the program of this name is in a package that not every
/// machine has.
pub(crate) fn signal(process: u32, name: &str) {
    let kill = ["-c", "kill -s $0 $1", name, &process.to_string()];
    assert!(std::process::Command::new("sh").args(kill).status().unwrap().success());
}
