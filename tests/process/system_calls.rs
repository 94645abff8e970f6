//! The system calls of a request. `strace` counts them on the thread of the only worker, so the figures do not depend on time.
//!
//! A request that is alone takes four calls to read and write, and two to wait. Under load one wait serves many requests, and
//! what remains is the four.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use previewgate::preview::ControlId;

use crate::support::{Process, Request, Setup, Wire, id, signal, skip};

/// Requests that are counted.
const TIMES: u32 = 100;
/// Calls in the time of all of them that belong to none, such as those of a timer.
const OTHERS: u32 = 20;

/// `strace` while it watches one thread.
struct Trace {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

/// The calls of a thread.
struct Calls {
    /// Waits for sockets and timers.
    waits: u32,
    /// Wakes the thread that writes the log.
    wake_ups: u32,
    /// All others.
    others: u32,
    /// As `strace` shows them.
    table: String,
}

impl Trace {
    /// Begins to count the calls of a thread. None, and a message, where that is not possible.
    fn begin(thread: u32) -> Option<Self> {
        let spawned = Command::new("strace").args(["-c", "-p", &thread.to_string()]).stderr(Stdio::piped()).spawn();
        let Ok(mut child) = spawned else {
            skip("no strace in the PATH");
            return None;
        };
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        if line.contains("attached") {
            return Some(Self { child, stderr });
        }
        skip(&format!("strace may not watch a process: {line}"));
        None
    }

    /// Ends the count.
    fn end(mut self) -> Calls {
        signal(self.child.id(), "INT");
        let mut table = String::new();
        self.stderr.read_to_string(&mut table).unwrap();
        self.child.wait().unwrap();
        // % time, seconds, microseconds a call, calls, sometimes errors, and the name.
        let calls_to = |name: &str| {
            let line = table.lines().find(|line| line.split_whitespace().last() == Some(name)).unwrap_or_default();
            line.split_whitespace().nth(3).and_then(|calls| calls.parse::<u32>().ok()).unwrap_or_default()
        };
        let waits = calls_to("epoll_wait") + calls_to("epoll_pwait");
        let (wake_ups, total) = (calls_to("futex"), calls_to("total"));
        assert!(total > 0, "{table}");
        Calls { waits, wake_ups, others: total - waits - wake_ups, table }
    }
}

fn worker_of(process: &Process) -> u32 {
    let threads = std::fs::read_dir(format!("/proc/{}/task", process.id())).unwrap();
    let is_worker = |thread: &Path| std::fs::read_to_string(thread.join("comm")).unwrap() == "worker-0\n";
    let worker = threads.map(|thread| thread.unwrap().path()).find(|thread| is_worker(thread)).unwrap();
    worker.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

/// Sends a request again and again over one connection, and counts. If `shown`, there is a preview for each.
async fn count(gateway: &Process, wire: &mut Wire, request: &Request, shown: bool) -> Option<Calls> {
    let mut send = async |times| {
        for _ in 0..times {
            if shown {
                gateway.simulator.preview(id(101), ControlId(7), "5550101");
            }
            wire.send(request).await.passed();
        }
    };
    // Both connections are there afterwards.
    send(3).await;
    let trace = Trace::begin(worker_of(gateway))?;
    send(TIMES).await;
    Some(trace.end())
}

#[tokio::test]
#[allow(clippy::print_stdout, reason = "the figures are wanted too")]
async fn a_request_over_open_connections_takes_four_system_calls_and_two_waits() {
    let settings = "runtime.workers = 1\nlimits.polls_per_agent = 1000";
    let setup = Setup::encrypted().lenient().settings(settings).simulator(|it| it.poll_wait = Duration::ZERO);
    let site = setup.site().await;
    let gateway = site.run().await;
    let agent = gateway.agent(101).await;
    agent.shown(7, "5550101").await;
    let mut wire = gateway.connect().await;
    for (what, request, shown) in [
        ("callout", agent.callout(7, "5550101"), false),
        ("poll without an event", agent.poll_request(), false),
        ("poll with a preview", agent.poll_request(), true),
    ] {
        let Some(calls) = count(&gateway, &mut wire, &request, shown).await else { return };
        let Calls { waits, wake_ups, others, table } = calls;
        println!("{TIMES} times {what}: {others} calls, {waits} waits, {wake_ups} wake-ups of the log");
        assert!(others <= 4 * TIMES + OTHERS, "{what}\n{table}");
        assert!(waits <= 2 * TIMES + OTHERS, "{what}\n{table}");
        assert!(wake_ups <= 2 * TIMES, "{what}\n{table}");
    }
}
