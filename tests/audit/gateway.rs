//! A gateway reduced to what it tells the audit log: agents are shown previews, and call. Its records are those of the
//! real writer, and its verdicts those of the real rule.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use previewgate::audit::note::{Signer, Verifier};
use previewgate::audit::verify::{Request, Verification, verify};
use previewgate::audit::{
    Audit, AuditGuard, CallFacts, ConfigTrigger, DecisionFacts, Digest, OutcomeFacts, Settings, ShownFacts,
    WriterSettings,
};
use previewgate::config::{self, Config, Durability, Files};
use previewgate::preview::{
    AgentId, AgentPreviews, Announcement, Bounds, Callout, Change, Clock, ControlId, DialedNumber, ManualClock, Reason,
    RecordId, Refusal, Rule, ShownRef, Timestamp, Verdict, decide,
};
use tempfile::TempDir;

/// 2026-11-30, five minutes before the month ends.
pub(crate) const START: Timestamp = Timestamp(1_796_083_200_000 - 5 * 60 * 1000);
const FIVE_YEARS: Duration = Duration::from_secs(5 * 365 * 24 * 3600);
pub(crate) const TTL: Duration = Duration::from_secs(30 * 60);
const RECORD_TIMEOUT: Duration = Duration::from_secs(60);
/// The requests of each start of a gateway have IDs of their own.
static NEXT_RUN: AtomicU64 = AtomicU64::new(1);
const BOUNDS: Bounds = Bounds { per_agent: 16 };

/// What gateways share: the keys and the clock.
pub(crate) struct Site {
    pub(crate) directory: TempDir,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) keys: Vec<Verifier>,
    pub(crate) retention: Duration,
    /// Numbers are stored encrypted to `auditor.key.pub` as well.
    pub(crate) recipient: bool,
}

impl Site {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (signer, pem) = Signer::generate().unwrap();
        std::fs::write(directory.path().join("audit.key"), pem).unwrap();
        std::fs::write(directory.path().join("audit.key.pub"), signer.verifier().to_string()).unwrap();
        let clock = Arc::new(ManualClock::new(START));
        let keys = vec![signer.verifier().clone()];
        Self { directory, clock, keys, retention: FIVE_YEARS, recipient: false }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts a gateway that writes to this directory.
    pub(crate) fn gateway(&self, name: &str) -> Gateway {
        self.gateway_by(name, &self.clock)
    }

    /// Starts a gateway on a host with a clock of its own.
    pub(crate) fn gateway_by(&self, name: &str, clock: &Arc<ManualClock>) -> Gateway {
        let settings = Settings {
            directory: self.path(name),
            signing_key: self.path("audit.key"),
            number_keys: self.path("numbers"),
            recipient: self.recipient.then(|| self.path("auditor.key.pub")),
            writer: WriterSettings {
                durability: Durability::Written,
                checkpoint_interval: Duration::from_secs(3600),
                segment: Duration::from_secs(24 * 3600),
                segment_bytes: 1 << 30,
                retention: self.retention,
            },
            exit: Duration::from_secs(60),
        };
        let (audit, guard) = Audit::start(&settings, clock.clone()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut gateway = Gateway {
            audit,
            guard: Some(guard),
            clock: clock.clone(),
            previews: HashMap::new(),
            mode: "enforce",
            tenants: false,
            judged_by: "memory",
            calls_per_number: 0,
            directory: self.path(name),
            keeps_all: self.retention >= FIVE_YEARS,
            run: NEXT_RUN.fetch_add(1, Ordering::Relaxed),
            requests: Cell::new(0),
            runtime,
        };
        gateway.configure(ConfigTrigger::Start, "enforce");
        gateway
    }

    /// Verifies directories with the site's key.
    pub(crate) fn verify(&self, names: &[&str]) -> Verification {
        let directories: Vec<PathBuf> = names.iter().map(|name| self.path(name)).collect();
        verify(&Request { directories: &directories, keys: &self.keys, anchor: None }).unwrap()
    }
}

/// One gateway.
pub(crate) struct Gateway {
    pub(crate) audit: Arc<Audit>,
    guard: Option<AuditGuard>,
    clock: Arc<ManualClock>,
    previews: HashMap<u32, AgentPreviews>,
    mode: &'static str,
    /// Decisions name a tenant.
    pub(crate) tenants: bool,
    /// What callouts are judged by.
    pub(crate) judged_by: &'static str,
    /// `previews.calls_per_number`; 0: no limit.
    pub(crate) calls_per_number: u32,
    directory: PathBuf,
    keeps_all: bool,
    run: u64,
    requests: Cell<u64>,
    runtime: tokio::runtime::Runtime,
}

pub(crate) fn id(agent: u32) -> AgentId {
    AgentId::try_from(agent).unwrap()
}

pub(crate) fn configuration(mode: &str) -> Config {
    let text = format!("[upstream]\nendpoints = [\"https://h\"]\n[validation]\nmode = \"{mode}\"\n");
    config::parse(&text, Path::new("/"), Files::Skip).unwrap()
}

impl Gateway {
    pub(crate) fn configure(&mut self, trigger: ConfigTrigger, mode: &'static str) {
        self.audit.config(trigger, &configuration(mode));
        self.mode = mode;
    }

    /// An agent is shown a preview, and gets it.
    pub(crate) fn show(&mut self, agent: u32, control_id: i64, numbers: &[&str]) -> ShownRef {
        let shown = self.record_shown(agent, control_id, numbers);
        self.audit.delivered(&[shown], "written");
        shown
    }

    fn record_shown(&mut self, agent: u32, control_id: i64, numbers: &[&str]) -> ShownRef {
        let mut announcement = announcement(control_id, numbers);
        let now = self.clock.now();
        let facts = ShownFacts {
            agent: id(agent),
            announcement: &announcement,
            event_type: "AgentEvent_Preview_CallOut",
            delivery: "poll",
            event: Digest::of(b"event"),
            position: 0,
            generated_at: Some(now.0),
            guid: Some(b"guid"),
            evidence: &BTreeMap::new(),
        };
        let shown = self.audit.shown(now, &facts).unwrap();
        announcement.shown = vec![shown];
        self.learn(agent, announcement);
        shown
    }

    /// The gateway learns what another one showed, over the shared store.
    pub(crate) fn learn(&mut self, agent: u32, announcement: Announcement) {
        let now = self.clock.now();
        self.previews.entry(agent).or_default().apply(Change::Shown(announcement), now, BOUNDS);
    }

    /// The platform releases a preview.
    pub(crate) fn release(&mut self, agent: u32, control_id: i64) {
        let previews = self.previews.entry(agent).or_default();
        let shown = previews.find(ControlId(control_id)).map_or(Vec::new(), |preview| preview.shown.clone());
        previews.apply(Change::Cancelled(ControlId(control_id)), self.clock.now(), BOUNDS);
        self.audit.ended(id(agent), Some(ControlId(control_id)), &shown, "released");
    }

    /// An agent asks for a call, and the platform answers.
    pub(crate) fn call(&mut self, agent: u32, control_id: i64, number: &str, call_id: &str) -> (Verdict, RecordId) {
        let (verdict, decision) = self.decide(agent, control_id, number);
        if verdict != Verdict::Rejected {
            self.answer(agent, decision, call_id);
        }
        (verdict, decision)
    }

    /// The answer of the platform, and its events about the call.
    pub(crate) fn answer(&self, agent: u32, decision: RecordId, call_id: &str) {
        let facts = OutcomeFacts {
            result: "answered",
            status: Some(200),
            retcode: Some("0"),
            call_id: Some(call_id),
            upstream: Some("https://h"),
            upstream_duration: Some(Duration::from_millis(3)),
            ..OutcomeFacts::default()
        };
        self.audit.outcome(decision, &facts);
        let events = [
            ("AgentEvent_Customer_Alerting", "alerting", 0),
            ("AgentEvent_Talking", "talking", 4),
            ("AgentEvent_Customer_Release", "released", 75),
        ];
        for (event_type, phase, after) in events {
            // The gateway's clock stands still; the platform's goes on.
            let generated_at = Some(self.clock.now().after(Duration::from_secs(after)).0);
            let facts =
                CallFacts { agent: id(agent), call_id, event_type, phase, event: Digest::of(b"e"), generated_at };
            self.audit.call(&facts, Some(decision));
        }
    }

    /// The answer of the platform; its events about the call go to another gateway.
    pub(crate) fn answer_silently(&self, decision: RecordId, call_id: &str) {
        let (status, retcode, call_id) = (Some(200), Some("0"), Some(call_id));
        self.audit.outcome(
            decision,
            &OutcomeFacts { result: "answered", status, retcode, call_id, ..OutcomeFacts::default() },
        );
    }

    /// An event of the platform about a call that another gateway forwarded, so long after the start by the platform's
    /// clock. All are recorded at once, as after a poll that took long.
    pub(crate) fn report_call(&self, agent: u32, call_id: &str, event_type: &str, phase: &str, after: Duration) {
        let generated_at = Some(START.after(after).0);
        let facts = CallFacts { agent: id(agent), call_id, event_type, phase, event: Digest::of(b"e"), generated_at };
        self.audit.call(&facts, None);
    }

    /// The gateway's decision on a callout, before it is sent.
    pub(crate) fn decide(&mut self, agent: u32, control_id: i64, number: &str) -> (Verdict, RecordId) {
        let previews = self.previews.entry(agent).or_default().clone();
        let callout = Callout { called: DialedNumber::new(number), control_id: ControlId(control_id) };
        let outcome = decide(&callout, &previews, self.clock.now(), TTL);
        let reason = outcome.map_or_else(Refusal::reason, |_| Reason::Ok);
        let verdict = match (reason, self.mode) {
            (Reason::Ok, _) => Verdict::Forwarded,
            (_, "monitor") => Verdict::Unverified,
            _ => Verdict::Rejected,
        };
        (verdict, self.record(agent, &callout, &previews, verdict, reason))
    }

    /// The next request gets the name of the last one.
    pub(crate) fn repeat_id(&self) {
        self.requests.set(self.requests.get() - 1);
    }

    fn next_id(&self) -> RecordId {
        self.requests.set(self.requests.get() + 1);
        RecordId { run: self.run, number: self.requests.get() }
    }

    /// Records a decision, whatever it is.
    pub(crate) fn record(
        &self,
        agent: u32,
        callout: &Callout,
        previews: &AgentPreviews,
        verdict: Verdict,
        reason: Reason,
    ) -> RecordId {
        let facts = DecisionFacts {
            id: self.next_id(),
            agent: Some(id(agent)),
            verdict,
            reason,
            tenant: self.tenants.then_some(if agent < 200 { "north" } else { "south" }),
            mode: self.mode,
            allowed_by: None,
            called: Some(&callout.called),
            control_id: Some(callout.control_id),
            previews: Some(previews),
            at: self.clock.now(),
            rule: Rule { ttl: TTL, calls_per_number: self.calls_per_number },
            judged_by: Some(self.judged_by),
            client: Some("192.0.2.1:4711"),
            certificate: None,
            guid: Some(b"guid"),
            session_match: Some("own"),
            unconfirmed: false,
            request_id: "request-1",
            trace_id: None,
        };
        // Waits until the record is written, and everything before it.
        self.runtime.block_on(self.audit.decision(&facts, RECORD_TIMEOUT)).unwrap().id
    }

    /// The previews of an agent.
    pub(crate) fn previews(&self, agent: u32) -> AgentPreviews {
        self.previews.get(&agent).cloned().unwrap_or_default()
    }

    /// Moves the clock when all records so far are in the file. The writer opens a segment by the clock, so that a record
    /// that is still waiting could get into the next one.
    fn advance(&self, time: Duration) {
        let written = |kind: &str| {
            let files = std::fs::read_dir(&self.directory).unwrap().map(|entry| entry.unwrap().path());
            let lines = files.map(|file| std::fs::read_to_string(file).unwrap_or_default());
            lines.map(|text| text.matches(&format!("\"kind\":\"{kind}\"")).count() as u64).sum::<u64>()
        };
        // With a short retention, lines that were written are gone again.
        let begun = Instant::now();
        while self.keeps_all && self.audit.status().taken.iter().any(|(kind, taken)| written(kind.as_str()) < *taken) {
            assert!(begun.elapsed() < RECORD_TIMEOUT, "records are not written: {:?}", self.audit.status());
            std::thread::sleep(Duration::from_millis(1));
        }
        self.clock.advance(time);
    }

    /// Ends in order.
    pub(crate) fn stop(mut self) {
        drop(self.guard.take());
    }
}

pub(crate) fn announcement(control_id: i64, numbers: &[&str]) -> Announcement {
    let numbers = numbers.iter().map(|number| DialedNumber::new(*number)).collect();
    Announcement { control_id: ControlId(control_id), numbers, shown: Vec::new() }
}

/// Three days of a gateway over the end of a month: calls, refusals, a reload, a preview that ends.
pub(crate) fn three_days(site: &Site, name: &str) {
    let mut gateway = site.gateway(name);
    for day in 0..3 {
        for round in 0..2 {
            let control_id = 100 * day + round;
            gateway.show(101, control_id, &["88881001", "88881002"]);
            gateway.advance(Duration::from_secs(290));
            assert_eq!(gateway.call(101, control_id, "88881002", &format!("call-{day}-{round}")).0, Verdict::Forwarded);
            assert_eq!(gateway.call(101, control_id, "88889999", "none").0, Verdict::Rejected);
            gateway.advance(Duration::from_secs(1));
            gateway.release(101, control_id);
            gateway.advance(Duration::from_secs(1));
        }
        gateway.configure(ConfigTrigger::Signal, "monitor");
        assert_eq!(gateway.call(102, 7, "88881001", &format!("monitored-{day}")).0, Verdict::Unverified);
        gateway.configure(ConfigTrigger::Signal, "enforce");
        assert_eq!(gateway.call(103, 7, "88881001", "none").0, Verdict::Rejected);
        if day < 2 {
            gateway.advance(Duration::from_secs(24 * 3600));
        }
    }
    gateway.stop();
}
