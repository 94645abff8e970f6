//! Random interleavings of polls, pushes, releases, cancellations, sign-ins and sign-outs, compared with a model that
//! keeps plain lists and knows nothing of fences, stores and locks.

use proptest::prelude::*;

use super::*;
use crate::preview::DialedNumber;
use crate::preview::{Callout, decide};

const TTL: Duration = Duration::from_secs(60);
const AGENT: u32 = 101;
const OWN: &str = "own";

/// One step of an interleaving.
#[derive(Clone, Debug)]
enum Step {
    /// A poll begins.
    BeginPoll,
    /// One of the polls that began is answered, with events.
    AnswerPoll {
        poll: prop::sample::Index,
        retcode: &'static str,
        events: Vec<What>,
    },
    /// A push is recorded that arrived when one of the polls began, or just now.
    Push {
        arrived: Option<prop::sample::Index>,
        events: Vec<What>,
    },
    /// A sign-in begins.
    BeginSignIn,
    /// The sign-in that began last succeeds.
    SignIn {
        pushes: bool,
    },
    SignOut,
    Cancel(i64),
    /// A request with this GUID is answered "no session".
    NoSession {
        guid: &'static str,
    },
    Advance(Duration),
}

#[derive(Clone, Debug)]
enum What {
    Shown { id: i64, numbers: Vec<u8>, generated_at: Option<u64> },
    Released { id: Option<i64>, generated_at: Option<u64> },
}

fn what() -> impl Strategy<Value = What> {
    let generated_at = || prop::option::of(0..10_u64);
    prop_oneof![
        3 => (0..3_i64, prop::collection::vec(0..3_u8, 0..3), generated_at())
            .prop_map(|(id, numbers, generated_at)| What::Shown { id, numbers, generated_at }),
        1 => (prop::option::of(0..3_i64), generated_at())
            .prop_map(|(id, generated_at)| What::Released { id, generated_at }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let events = || prop::collection::vec(what(), 0..3);
    let retcode = prop_oneof![4 => Just("0"), 1 => Just("000-003"), 1 => Just("100-006")];
    prop_oneof![
        3 => Just(Step::BeginPoll),
        6 => (any::<prop::sample::Index>(), retcode, events())
            .prop_map(|(poll, retcode, events)| Step::AnswerPoll { poll, retcode, events }),
        2 => (prop::option::of(any::<prop::sample::Index>()), events())
            .prop_map(|(arrived, events)| Step::Push { arrived, events }),
        1 => Just(Step::BeginSignIn),
        1 => any::<bool>().prop_map(|pushes| Step::SignIn { pushes }),
        1 => Just(Step::SignOut),
        1 => (0..3_i64).prop_map(Step::Cancel),
        1 => prop_oneof![Just(OWN), Just("foreign")].prop_map(|guid| Step::NoSession { guid }),
        2 => (0..40_u64).prop_map(|seconds| Step::Advance(Duration::from_secs(seconds))),
    ]
}

/// The state of one agent, in the simplest form.
#[derive(Default)]
struct Model {
    clock: u64,
    /// The ledger's time: a sign-in moves it on by a millisecond twice, so it can be ahead of the clock.
    now: u64,
    /// Counts moments, as the ledger does.
    moment: usize,
    polls: Vec<usize>,
    sign_in_began: Option<usize>,
    /// Control ID, number, time, moment: what was shown and has not ended.
    shown: Vec<(i64, u8, u64, usize)>,
    /// Control IDs that were announced, with the moment of the latest announcement.
    announced: Vec<(i64, usize)>,
    poll_fence: usize,
    push_fence: usize,
    /// The control ID, or none for all: latest generation time of an end, and when the last end was recorded.
    ends: Vec<(Option<i64>, u64, u64)>,
}

impl Model {
    fn end(&mut self, ends: impl Fn(i64, usize) -> bool) {
        self.shown.retain(|(id, _, _, moment)| !ends(*id, *moment));
        self.announced.retain(|(id, moment)| !ends(*id, *moment));
        let announced = &self.announced;
        self.shown.retain(|(id, ..)| announced.iter().any(|(known, _)| known == id));
    }

    fn record(&mut self, events: &[What], counts: bool) {
        for event in events {
            match event {
                What::Shown { id, numbers, generated_at } => {
                    let superseded = self.ends.iter().any(|(ended, made, recorded)| {
                        ended.is_none_or(|ended| ended == *id)
                            && generated_at.is_some_and(|generated_at| generated_at < *made)
                            && self.now - recorded <= 5000
                    });
                    if counts && !superseded {
                        self.announced.retain(|(known, _)| known != id);
                        self.announced.push((*id, self.moment));
                        for number in numbers {
                            self.shown.retain(|(known, shown, ..)| (known, shown) != (id, number));
                            self.shown.push((*id, *number, self.now, self.moment));
                        }
                    }
                }
                What::Released { id, generated_at } => {
                    self.end(|known, _| id.is_none_or(|id| id == known));
                    if let Some(made) = generated_at {
                        let known = self.ends.iter().position(|(ended, ..)| ended == id);
                        let earlier = known.map_or(0, |position| self.ends.remove(position).1);
                        self.ends.push((*id, *made.max(&earlier), self.now));
                    }
                }
            }
        }
    }

    fn allows(&self, id: i64, number: u8) -> bool {
        self.shown
            .iter()
            .any(|(known, shown, at, _)| (*known, *shown) == (id, number) && self.now - at <= TTL.as_millis() as u64)
    }
}

fn event(what: &What) -> String {
    let time = |time: &Option<u64>| time.map(|time| format!(r#","eventGenTime":{time}"#)).unwrap_or_default();
    match what {
        What::Shown { id, numbers, generated_at } => {
            let numbers: Vec<_> = numbers.iter().map(|number| format!("10{number}")).collect();
            format!(
                r#"{{"eventType":"AgentEvent_Preview_CallOut_Ex","workNo":"{AGENT}"{},
                    "content":{{"controlid":{id},"dialeddigits":"{}"}}}}"#,
                time(generated_at),
                numbers.join(",")
            )
        }
        What::Released { id, generated_at } => {
            let content = id.map_or("null".to_owned(), |id| format!(r#"{{"controlid":{id}}}"#));
            let time = time(generated_at);
            format!(r#"{{"eventType":"AgentEvent_Release_Preview","workNo":"{AGENT}"{time},"content":{content}}}"#)
        }
    }
}

/// The ledger, the model, and the moments that both know by number.
struct Both {
    scene: Scene,
    model: Model,
    moments: Vec<Moment>,
    sign_in_began: Option<Moment>,
}

impl Both {
    fn new() -> Self {
        let model = Model { clock: 1_000_000, now: 1_000_000, ..Model::default() };
        Self { scene: scene(), model, moments: Vec::new(), sign_in_began: None }
    }

    fn step(&mut self, step: Step) {
        let (ledger, id) = (&self.scene.ledger, agent(AGENT));
        self.model.moment += 1;
        let moment = self.model.moment;
        match step {
            Step::BeginPoll => {
                self.model.polls.push(moment);
                self.moments.push(ledger.moment());
            }
            Step::AnswerPoll { poll, retcode, events } => {
                if self.moments.is_empty() {
                    return;
                }
                self.answer(poll.index(self.moments.len()), retcode, &events);
            }
            Step::Push { arrived, events } => {
                let texts: Vec<_> = events.iter().map(event).collect();
                let earlier = arrived.filter(|_| !self.moments.is_empty()).map(|index| index.index(self.moments.len()));
                let (arrived, number) = match earlier {
                    Some(position) => (self.moments[position], self.model.polls[position]),
                    None => (ledger.moment(), moment),
                };
                self.scene.push(AGENT, arrived, &texts);
                self.model.record(&events, number >= self.model.push_fence);
            }
            Step::BeginSignIn | Step::SignIn { .. } | Step::SignOut => self.change_session(&step, moment),
            Step::Cancel(control_id) => {
                ledger.end(id, Change::Cancelled(ControlId(control_id)), EndCause::Cancelled);
                self.model.end(|known, _| known == control_id);
            }
            Step::NoSession { guid } => {
                ledger.end_if_own(id, guid.as_bytes(), EndCause::NoSession);
                if guid == OWN {
                    self.model.end(|_, _| true);
                    (self.model.poll_fence, self.model.push_fence) = (moment, moment);
                }
            }
            Step::Advance(duration) => {
                self.scene.clock.advance(duration);
                self.model.clock += duration.as_millis() as u64;
                self.model.now = self.model.now.max(self.model.clock);
            }
        }
    }

    /// The poll that began at this position is answered.
    fn answer(&mut self, position: usize, retcode: &str, events: &[What]) {
        let texts: Vec<_> = events.iter().map(event).collect();
        self.scene.answered(AGENT, OWN, self.moments[position], retcode, &texts);
        let moment = self.model.moment;
        if retcode == "100-006" {
            self.model.end(|_, _| true);
            (self.model.poll_fence, self.model.push_fence) = (moment, moment);
        }
        let counts = retcode == "0" && self.model.polls[position] >= self.model.poll_fence;
        self.model.record(events, counts);
    }

    fn change_session(&mut self, step: &Step, moment: usize) {
        let (ledger, id) = (&self.scene.ledger, agent(AGENT));
        match *step {
            Step::BeginSignIn => {
                self.sign_in_began = Some(ledger.moment_of_sign_in());
                self.model.sign_in_began = Some(moment);
                self.model.now += 1;
            }
            Step::SignIn { pushes } => {
                let (Some(began), Some(start)) = (self.sign_in_began, self.model.sign_in_began) else { return };
                ledger.sign_in(id, &SignIn { began, pushes, session: Some(OWN.as_bytes()) });
                self.model.now += 1;
                self.model.end(|_, shown| !pushes || shown < start);
                (self.model.poll_fence, self.model.push_fence) = (moment, if pushes { start } else { moment });
            }
            Step::SignOut => {
                ledger.end(id, Change::Ended, EndCause::SignedOut);
                self.model.end(|_, _| true);
                (self.model.poll_fence, self.model.push_fence) = (moment, moment);
            }
            _ => {}
        }
    }

    fn agree(&self) -> Result<(), TestCaseError> {
        let previews = self.scene.ledger.local().previews(agent(AGENT)).unwrap_or_default();
        for id in 0..3 {
            for number in 0..3 {
                let called = DialedNumber::new(format!("10{number}"));
                let callout = Callout { called, control_id: ControlId(id) };
                let decision = decide(&callout, &previews, self.scene.ledger.clock().now(), TTL);
                prop_assert_eq!(
                    decision.is_ok(),
                    self.model.allows(id, number),
                    "control ID {}, number {}",
                    id,
                    number
                );
            }
        }
        Ok(())
    }
}

/// A release is remembered for five seconds of the ledger's time, which a sign-in moves on when it begins, and again when it
/// succeeds.
#[test]
fn the_times_of_the_ledger_and_of_the_model_are_one() {
    let mut both = Both::new();
    both.scene.ledger.learn_session(agent(AGENT), OWN.as_bytes());
    both.step(Step::BeginPoll);
    both.answer(0, "0", &[What::Released { id: None, generated_at: Some(6) }]);
    both.step(Step::Advance(Duration::from_secs(5)));
    both.step(Step::BeginSignIn);
    both.answer(0, "0", &[What::Shown { id: 0, numbers: vec![0], generated_at: Some(0) }]);
    both.agree().unwrap();

    let mut both = Both::new();
    both.step(Step::BeginSignIn);
    both.step(Step::BeginPoll);
    both.answer(0, "0", &[What::Released { id: None, generated_at: Some(7) }]);
    both.step(Step::Advance(Duration::from_secs(5)));
    both.step(Step::SignIn { pushes: false });
    both.step(Step::Push {
        arrived: None,
        events: vec![What::Shown { id: 0, numbers: vec![0], generated_at: Some(0) }],
    });
    both.agree().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_ledger_allows_what_the_model_allows(steps in prop::collection::vec(step(), 1..40)) {
        let mut both = Both::new();
        // The session is known from the start, as after a sign-in.
        both.scene.ledger.learn_session(agent(AGENT), OWN.as_bytes());
        for step in steps {
            both.step(step);
            both.agree()?;
        }
    }
}
