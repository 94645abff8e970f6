//! What the records of a callout and of a poll cost, in instructions, which are exact on a busy machine:
//!
//!     cargo build --release --example audit_instructions
//!     valgrind --tool=callgrind --separate-threads=yes target/release/examples/audit_instructions callouts 2000
//!
//! The difference between two numbers, divided by the difference of the numbers, is the cost of one: for the thread that
//! serves requests, and for the writer. `audit_cost` measures the time of whole gateways.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a tool for developers: it prints, and ends when something is missing"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use previewgate::audit::note::Signer;
use previewgate::audit::{Audit, DecisionFacts, Digest, OutcomeFacts, Settings, ShownFacts, WriterSettings};
use previewgate::config::Durability;
use previewgate::preview::{
    AgentId, AgentPreviews, Announcement, Bounds, Change, Clock, ControlId, DialedNumber, ManualClock, Reason,
    RecordId, Rule, Timestamp, Verdict,
};

#[derive(Clone, Copy, ValueEnum)]
enum Work {
    Callouts,
    Polls,
}

/// What to record, and how often.
#[derive(Parser)]
struct Options {
    work: Work,
    number: u64,
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let Options { work, number } = Options::parse();
    let directory = tempfile::tempdir().unwrap();
    let signing_key = directory.path().join("audit.key");
    std::fs::write(&signing_key, Signer::generate().unwrap().1).unwrap();
    let settings = Settings {
        directory: directory.path().join("audit"),
        signing_key,
        number_keys: directory.path().join("numbers"),
        recipient: None,
        writer: WriterSettings {
            durability: Durability::Written,
            checkpoint_interval: HOUR,
            segment: HOUR * 24,
            segment_bytes: 1 << 30,
            retention: HOUR * 24 * 365,
        },
        exit: HOUR,
    };
    // The system's clock is read through a part of the kernel that valgrind hides from the program.
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp(1_795_579_200_000)));
    let (audit, guard) = Audit::start(&settings, Arc::clone(&clock)).unwrap();
    let mut agent = Agent {
        audit: &audit,
        clock: &clock,
        id: AgentId::try_from(101).unwrap(),
        previews: AgentPreviews::default(),
        called: called(2 * number + 2),
    };
    agent.poll(number);
    for number in 0..number {
        match work {
            Work::Callouts => agent.call(number).await,
            Work::Polls => agent.poll(number),
        }
    }
    drop(guard);
    println!("{number} done, {:?}", audit.status().chain);
}

struct Agent<'a> {
    audit: &'a Audit,
    clock: &'a Arc<dyn Clock>,
    id: AgentId,
    previews: AgentPreviews,
    /// One of the numbers that were shown.
    called: DialedNumber,
}

/// A number of eleven digits.
fn called(number: u64) -> DialedNumber {
    DialedNumber::new(format!("0571{:07}", number % 10_000_000))
}

impl Agent<'_> {
    /// The answer to a poll shows a preview with two numbers, and ends the one before.
    fn poll(&mut self, number: u64) {
        let (now, control_id) = (self.clock.now(), ControlId(11_776));
        // Each contact has numbers of its own.
        let numbers = [1, 2].map(|which| called(2 * number + which)).to_vec();
        let mut announcement = Announcement { control_id, numbers, shown: Vec::new() };
        let facts = ShownFacts {
            agent: self.id,
            announcement: &announcement,
            event_type: "AgentEvent_Preview_CallOut",
            delivery: "poll",
            event: Digest::of(&[b'x'; 700]),
            position: 0,
            generated_at: Some(now.0),
            guid: Some(b"0123456789abcdef0123456789abcdef"),
            evidence: &BTreeMap::new(),
        };
        let shown = self.audit.shown(now, &facts).unwrap();
        announcement.shown = vec![shown];
        self.previews.apply(Change::Cancelled(control_id), now, Bounds { per_agent: 16 });
        self.previews.apply(Change::Shown(announcement), now, Bounds { per_agent: 16 });
        self.audit.delivered(&[shown], "written");
        self.audit.ended(self.id, Some(control_id), &[shown], "released");
    }

    async fn call(&self, number: u64) {
        let called = self.called.clone();
        let id = RecordId { run: 0x1234_5678_9abc_def0, number };
        let facts = DecisionFacts {
            id,
            agent: Some(self.id),
            verdict: Verdict::Forwarded,
            reason: Reason::Ok,
            tenant: None,
            mode: "enforce",
            allowed_by: None,
            called: Some(&called),
            control_id: Some(ControlId(11_776)),
            previews: Some(&self.previews),
            at: self.clock.now(),
            rule: Rule { ttl: HOUR, calls_per_number: 0 },
            judged_by: Some("memory"),
            client: Some("192.0.2.1:47110"),
            certificate: None,
            guid: Some(b"0123456789abcdef0123456789abcdef"),
            session_match: Some("own"),
            unconfirmed: false,
            request_id: "0123456789abcdef",
            trace_id: None,
        };
        self.audit.decision(&facts, HOUR).await.unwrap();
        let facts = OutcomeFacts {
            result: "answered",
            status: Some(200),
            retcode: Some("0"),
            call_id: Some("1441263893-11776"),
            upstream: Some("https://10.0.0.11:8043"),
            upstream_duration: Some(Duration::from_millis(3)),
            ..OutcomeFacts::default()
        };
        self.audit.outcome(id, &facts);
    }
}
