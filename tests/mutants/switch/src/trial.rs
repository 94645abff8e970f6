//! One mutant against some tests.

use std::io::{self, BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::build::Program;

/// Tests that take so much longer than without a mutant are in an endless loop, or wait for something that never comes.
const SLOWDOWN: u32 = 5;
const CPU_GRACE: Duration = Duration::from_secs(10);
/// Longer than the patience of the integration tests, which then fail and say why.
const WAIT_GRACE: Duration = Duration::from_secs(60);
const MAX_WAIT_WITHOUT_MUTANT: Duration = Duration::from_secs(1200);
const MAX_MEMORY: &str = "--as=8589934592";

pub enum Outcome {
    /// By this test.
    Killed(String),
    /// In these tests.
    TimedOut(String),
    Lived,
}

#[derive(Clone, Copy)]
pub struct Limit {
    cpu: Duration,
    wait: Duration,
}

/// The tests whose names contain one of the filters, each property with so many cases.
pub struct Trial<'a> {
    pub program: &'a Program,
    pub copy: &'a Path,
    pub filters: Vec<String>,
    pub cases: &'a str,
}

impl Trial<'_> {
    fn name(&self) -> String {
        format!("{} {}", self.program.name, self.filters.join(" "))
    }

    /// How long the tests may take with a mutant. Without one they must pass.
    pub fn limit(&self) -> io::Result<Limit> {
        let start = Instant::now();
        let outcome = self.run(0, Limit { cpu: MAX_WAIT_WITHOUT_MUTANT, wait: MAX_WAIT_WITHOUT_MUTANT })?;
        let taken = start.elapsed();
        println!("{}: {:.1} s without a mutant", self.name(), taken.as_secs_f32());
        match outcome {
            Outcome::Lived => Ok(Limit { cpu: CPU_GRACE + taken * SLOWDOWN, wait: WAIT_GRACE + taken * SLOWDOWN }),
            Outcome::Killed(test) => Err(io::Error::other(format!("{}: {test} fails without a mutant", self.name()))),
            Outcome::TimedOut(_) => Err(io::Error::other(format!("{} does not end without a mutant", self.name()))),
        }
    }

    pub fn run(&self, mutant: usize, limit: Limit) -> io::Result<Outcome> {
        let mut child = self.start(mutant, limit.cpu)?;
        let output = child.stdout.take().map(BufReader::new);
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let lines = output.into_iter().flat_map(BufRead::lines).map_while(Result::ok);
            let failed = lines.filter_map(|line| Some(line.strip_suffix(" ... FAILED")?.to_owned())).next();
            // If the wait is over, nobody receives it.
            sender.send(failed).ok();
        });
        let failed = receiver.recv_timeout(limit.wait);
        if !matches!(failed, Ok(None)) {
            kill_all(&child)?;
        }
        let status = child.wait()?;
        Ok(match failed {
            Ok(Some(test)) => Outcome::Killed(test.trim_start_matches("test ").to_owned()),
            Err(_) => Outcome::TimedOut(self.name()),
            Ok(None) if status.success() => Outcome::Lived,
            // The limit of CPU time: SIGKILL or SIGXCPU.
            Ok(None) if matches!(status.signal(), Some(9 | 24)) => Outcome::TimedOut(self.name()),
            Ok(None) => Outcome::Killed(format!("{}: {status}", self.name())),
        })
    }

    fn start(&self, mutant: usize, cpu: Duration) -> io::Result<Child> {
        // Those of one module compute, others also wait.
        let threads = if self.program.is_lib && !self.filters.is_empty() { "1" } else { "4" };
        Command::new("prlimit")
            .args([MAX_MEMORY, &format!("--cpu={}", cpu.as_secs())])
            .arg(&self.program.path)
            .args(["--test-threads", threads])
            .args(&self.filters)
            .env("MUTANT", mutant.to_string())
            .env("PROPTEST_CASES", self.cases)
            .current_dir(self.copy)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
    }
}

/// Ends the tests, and the programs that they started.
fn kill_all(tests: &Child) -> io::Result<()> {
    Command::new("kill").args(["-KILL", "--", &format!("-{}", tests.id())]).stderr(Stdio::null()).status()?;
    Ok(())
}
