//! `previews.calls_per_number`, compared with a model: random announcements, ends, calls, calls that are given back, and
//! crashes after which a snapshot and its journal are all that is left.

use proptest::prelude::*;

use super::*;
use crate::preview::{AgentPreviews, Callout, DialedNumber, RecordId, Rule, decide};
use crate::store::Counted;
use crate::store::snapshot::SnapshotFile;

const LIMIT: u32 = 2;
const AGENT: u32 = 101;
const TTL: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
enum Step {
    Shown(i64, Vec<u8>),
    Cancelled(i64),
    Ended,
    Call(i64, u8),
    /// One of the calls was not sent.
    GiveBack(prop::sample::Index),
    Save,
    /// `kill -9`, and a start.
    Crash,
    Advance(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2_i64, prop::collection::vec(0..2_u8, 0..3)).prop_map(|(id, numbers)| Step::Shown(id, numbers)),
        1 => (0..2_i64).prop_map(Step::Cancelled),
        1 => Just(Step::Ended),
        8 => (0..2_i64, 0..2_u8).prop_map(|(id, number)| Step::Call(id, number)),
        1 => any::<prop::sample::Index>().prop_map(Step::GiveBack),
        2 => Just(Step::Save),
        1 => Just(Step::Crash),
        2 => (1..20_000_u64).prop_map(Step::Advance),
    ]
}

/// The numbers of the agent that were shown: control ID, number, time, and the calls that count.
#[derive(Clone, Debug, Default)]
struct Model {
    shown: Vec<(i64, u8, u64)>,
    /// Previews that are there, with or without a number.
    previews: Vec<i64>,
    calls: Vec<(i64, u8, u64)>,
}

impl Model {
    fn end(&mut self, ends: impl Fn(i64) -> bool) {
        self.shown.retain(|(id, ..)| !ends(*id));
        self.previews.retain(|id| !ends(*id));
        self.calls.retain(|(id, ..)| !ends(*id));
    }

    fn permits(&self, id: i64, number: u8, now: u64) -> bool {
        let alive = |(known, shown, at): &(i64, u8, u64)| {
            (*known, *shown) == (id, number) && now - at <= TTL.as_millis() as u64
        };
        let calls = self.calls.iter().filter(|(known, called, _)| (*known, *called) == (id, number)).count();
        self.shown.iter().any(alive) && calls < LIMIT as usize
    }
}

struct Both {
    runtime: tokio::runtime::Runtime,
    directory: tempfile::TempDir,
    clock: Arc<ManualClock>,
    ledger: Ledger,
    file: SnapshotFile,
    model: Model,
    /// What the snapshot shows.
    saved: Model,
    made: Vec<(i64, RecordId)>,
    next: u64,
}

fn started(directory: &tempfile::TempDir, clock: &Arc<ManualClock>) -> (Ledger, SnapshotFile) {
    let config = Previews { calls_per_number: LIMIT, ..config() };
    let metrics = Arc::new(Metrics::new());
    let ledger = Ledger::new(&config, clock.clone(), Arc::clone(&metrics));
    let file = SnapshotFile::open(directory.path().join("previews"), TTL, 100).unwrap();
    file.restore(&ledger, clock.now());
    ledger.start_journal(file.start_journal(metrics).unwrap());
    // As a start does.
    file.save(&ledger, &**clock).unwrap();
    (ledger, file)
}

impl Both {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp(1_000_000)));
        let (ledger, file) = started(&directory, &clock);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (model, saved, made) = (Model::default(), Model::default(), Vec::new());
        Self { runtime, directory, clock, ledger, file, model, saved, made, next: 1 }
    }

    fn now(&self) -> u64 {
        self.clock.now().0
    }

    fn step(self, step: Step) -> Result<Self, TestCaseError> {
        match step {
            Step::Crash => return self.crash(),
            Step::Call(id, number) => return self.call(id, number),
            _ => {}
        }
        let mut both = self;
        // Entries of a journal are ordered by milliseconds.
        both.clock.advance(Duration::from_millis(1));
        let now = both.now();
        match step {
            Step::Shown(id, numbers) => {
                let announced = numbers.iter().map(|number| DialedNumber::new(format!("10{number}"))).collect();
                let shown = Announcement { control_id: ControlId(id), numbers: announced, shown: Vec::new() };
                both.ledger.apply(agent(AGENT), smallvec::smallvec![Change::Shown(shown)], SessionRelation::Any);
                for number in numbers {
                    both.model.shown.retain(|(known, shown, _)| (*known, *shown) != (id, number));
                    both.model.shown.push((id, number, now));
                }
                both.model.previews.push(id);
            }
            Step::Cancelled(id) => {
                both.ledger.end(agent(AGENT), Change::Cancelled(ControlId(id)), EndCause::Cancelled);
                both.model.end(|known| known == id);
                both.saved.end(|known| known == id);
            }
            Step::Ended => {
                both.ledger.end(agent(AGENT), Change::Ended, EndCause::Released);
                both.model.end(|_| true);
                both.saved.end(|_| true);
            }
            Step::GiveBack(index) if !both.made.is_empty() => {
                let (control_id, id) = both.made.remove(index.index(both.made.len()));
                both.runtime.block_on(both.ledger.return_call(agent(AGENT), ControlId(control_id), id));
                for model in [&mut both.model, &mut both.saved] {
                    model.calls.retain(|(.., known)| *known != id.number);
                }
            }
            Step::Save => {
                both.file.save(&both.ledger, &*both.clock).unwrap();
                both.saved = both.model.clone();
            }
            Step::Advance(millis) => both.clock.advance(Duration::from_millis(millis)),
            Step::GiveBack(_) | Step::Crash | Step::Call(..) => {}
        }
        Ok(both)
    }

    fn call(mut self, id: i64, number: u8) -> Result<Self, TestCaseError> {
        self.clock.advance(Duration::from_millis(1));
        let (now, name) = (self.clock.now(), RecordId { run: 1, number: self.next });
        self.next += 1;
        let callout = Callout { called: DialedNumber::new(format!("10{number}")), control_id: ControlId(id) };
        let rule = Rule { ttl: TTL, calls_per_number: LIMIT };
        let mut judge = |previews: &Arc<AgentPreviews>| decide(&callout, previews, now, rule).is_ok();
        let counting = self.ledger.count_call(agent(AGENT), &callout, name, &mut judge);
        let counted = self.runtime.block_on(counting).unwrap();
        let expected = if self.model.permits(id, number, now.0) { Counted::Yes } else { Counted::Refused };
        prop_assert_eq!(counted, expected, "control ID {}, number {}", id, number);
        if counted == Counted::Yes {
            self.model.calls.push((id, number, name.number));
            self.made.push((id, name));
            // A crash gives no call back.
            if self.saved.previews.contains(&id) {
                self.saved.calls.push((id, number, name.number));
            }
        }
        Ok(self)
    }

    fn crash(self) -> Result<Self, TestCaseError> {
        let Self { runtime, directory, clock, ledger, file, saved, made, next, .. } = self;
        // What the journal was given is written before an answer goes out.
        runtime.block_on(ledger.share(&[agent(AGENT)])).unwrap();
        drop((ledger, file));
        let (ledger, file) = started(&directory, &clock);
        let mut model = saved;
        // Nothing of a preview is restored whose last announcement is too old.
        let announced =
            |id: i64| ledger.local().previews(agent(AGENT)).is_some_and(|known| known.find(ControlId(id)).is_some());
        let gone: Vec<i64> = model.previews.iter().copied().filter(|id| !announced(*id)).collect();
        model.end(|id| gone.contains(&id));
        let saved = model.clone();
        Ok(Self { runtime, directory, clock, ledger, file, model, saved, made, next })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn no_number_is_called_more_often_than_is_permitted(steps in prop::collection::vec(step(), 1..40)) {
        let mut both = Both::new();
        for step in steps {
            both = both.step(step)?;
        }
    }
}

/// Threads that call at once: exactly as many are counted as are permitted.
#[test]
fn callouts_at_the_same_time_are_counted_one_after_the_other() {
    let clock = Arc::new(ManualClock::new(Timestamp(1_000_000)));
    let config = Previews { calls_per_number: 3, ..config() };
    let ledger = Ledger::new(&config, clock, Arc::new(Metrics::new()));
    let shown = Announcement { control_id: ControlId(7), numbers: vec![DialedNumber::new("100")], shown: Vec::new() };
    ledger.apply(agent(AGENT), smallvec::smallvec![Change::Shown(shown)], SessionRelation::Any);
    let counted = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let (ledger, counted, rule) = (&ledger, &counted, config.rule());
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let callout = Callout { called: DialedNumber::new("100"), control_id: ControlId(7) };
                for number in 0..50 {
                    let id = RecordId { run: thread, number };
                    let now = Timestamp(1_000_000);
                    let mut judge = |known: &Arc<AgentPreviews>| decide(&callout, known, now, rule).is_ok();
                    let counting = ledger.count_call(agent(AGENT), &callout, id, &mut judge);
                    if runtime.block_on(counting).unwrap() == Counted::Yes {
                        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(counted.into_inner(), 3);
}

/// Agent 101 was shown the number 100, and may be called there once.
pub(super) fn one_call() -> Ledger {
    let config = Previews { calls_per_number: 1, ..config() };
    let ledger = Ledger::new(&config, Arc::new(ManualClock::new(Timestamp(1_000_000))), Arc::new(Metrics::new()));
    let shown = Announcement { control_id: ControlId(7), numbers: vec![DialedNumber::new("100")], shown: Vec::new() };
    ledger.adopt(agent(AGENT), Change::Shown(shown), Timestamp(1_000_000), ledger.moment());
    ledger
}

#[tokio::test]
async fn a_call_that_is_forwarded_unjudged_counts() {
    let ledger = one_call();
    let calls = || {
        let known = ledger.local().previews(agent(AGENT)).unwrap();
        known.iter().map(|preview| preview.calls.iter().count()).sum::<usize>()
    };
    let callout = Callout { called: DialedNumber::new("100"), control_id: ControlId(7) };
    let id = |number| RecordId { run: 1, number };
    ledger.note_call(agent(AGENT), &callout, id(1));
    assert_eq!(calls(), 1);
    ledger.count_unjudged(agent(AGENT), &callout, id(2)).await;
    assert_eq!(calls(), 2);
    ledger.return_call(agent(AGENT), callout.control_id, id(1)).await;
    assert_eq!(calls(), 1);
}
