//! How an endpoint has been doing: when it is passed over, why, and when it gets its next chance.
//!
//! Learnt from requests (passive) and, for endpoints that are passed over, from probes. Each kind of trouble ends with
//! its own proof: an endpoint that could not be reached is back when a connection stands, one that took requests and
//! did not answer is back for good only when it has answered one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Requests in a row that waited in vain before an endpoint is passed over. One may be the request's fault.
const SILENCES_TO_EJECT: u32 = 3;
/// An endpoint that answers nothing costs each request its whole `response_timeout`: it is out for longer.
const SILENT: Pauses = Pauses { first: Duration::from_secs(15), longest: Duration::from_secs(120) };
const UNREACHABLE: Pauses = Pauses { first: Duration::from_secs(1), longest: Duration::from_secs(30) };

/// What is wrong with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No connection can be made: certain, and nothing was lost. Passed over at once.
    Unreachable,
    /// It takes requests, or connections, and no answer comes in time.
    Silent,
}

/// What an endpoint is good for at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Use it in its turn.
    InUse,
    /// Its next chance has come: one request may find out.
    OnTrial,
    /// Only when nothing else is left.
    PassedOver,
}

/// How long an endpoint stays out: twice as long after each failure, up to the longest.
#[derive(Clone, Copy, Debug)]
struct Pauses {
    first: Duration,
    longest: Duration,
}

/// The health of one endpoint, shared by all workers, and by all generations that name it.
#[derive(Debug)]
pub(super) struct Health {
    /// Whether there is anything behind the lock worth looking at: a healthy endpoint never takes it.
    troubled: AtomicBool,
    state: Mutex<State>,
}

/// What is behind the lock.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) passed_over: bool,
    pub(super) since: SystemTime,
    pub(super) why: Option<String>,
    pub(super) failures: u32,
    pub(super) next_try: Instant,
    trouble: Option<Trouble>,
    /// How often it was passed over in a row without having answered in between.
    ejections: u32,
}

impl Health {
    pub(super) fn new() -> Self {
        Self { troubled: AtomicBool::new(false), state: Mutex::new(State::healthy()) }
    }

    /// `probed`: somebody else finds out, no request has to.
    pub(super) fn standing(&self, probed: bool) -> Standing {
        if !self.troubled.load(Ordering::Relaxed) {
            return Standing::InUse;
        }
        let state = self.lock();
        match state.passed_over {
            false => Standing::InUse,
            true if !probed && Instant::now() >= state.next_try => Standing::OnTrial,
            true => Standing::PassedOver,
        }
    }

    /// For those who want to know more.
    pub(super) fn state(&self) -> State {
        self.lock().clone()
    }

    /// A failure. True if the endpoint is passed over from now on.
    pub(super) fn failed(&self, trouble: Trouble, why: &dyn std::fmt::Display, longest: Option<Duration>) -> bool {
        let mut state = self.lock();
        self.troubled.store(true, Ordering::Relaxed);
        state.why = Some(why.to_string());
        state.failed(trouble, Instant::now(), longest, random())
    }

    /// A connection stands. True if the endpoint is back.
    pub(super) fn connected(&self) -> bool {
        self.recover(|state| state.trouble == Some(Trouble::Unreachable))
    }

    /// An answer has come. True if the endpoint is back. What comes over an old connection does not prove that a new
    /// one can be made.
    pub(super) fn answered(&self) -> bool {
        self.recover(|state| state.trouble == Some(Trouble::Silent))
    }

    /// A probe was successful; `answered` if it was a request and not only a connection. True if the endpoint is back.
    pub(super) fn probed(&self, answered: bool) -> bool {
        if answered {
            return self.recover(|_| true);
        }
        if self.connected() {
            return true;
        }
        let mut state = self.lock();
        if !state.passed_over {
            return false;
        }
        // On probation: its first failure ejects it again, for longer.
        state.failures = SILENCES_TO_EJECT.saturating_sub(1);
        state.since = SystemTime::now();
        state.passed_over = false;
        true
    }

    /// Somebody tries the endpoint: nobody else does until that is settled.
    pub(super) fn begin_trial(&self, longest: Option<Duration>) {
        let mut state = self.lock();
        state.next_try = Instant::now() + state.pause(longest, random());
    }

    fn recover(&self, proves: impl Fn(&State) -> bool) -> bool {
        if !self.troubled.load(Ordering::Relaxed) {
            return false;
        }
        let mut state = self.lock();
        if !proves(&state) {
            return false;
        }
        self.troubled.store(false, Ordering::Relaxed);
        let healthy = State { since: state.since, ..State::healthy() };
        let was_out = std::mem::replace(&mut *state, healthy).passed_over;
        if was_out {
            state.since = SystemTime::now();
        }
        was_out
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is a single assignment, or harmless by halves.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn healthy() -> Self {
        Self {
            passed_over: false,
            since: SystemTime::now(),
            why: None,
            failures: 0,
            next_try: Instant::now(),
            trouble: None,
            ejections: 0,
        }
    }

    fn failed(&mut self, trouble: Trouble, now: Instant, longest: Option<Duration>, random: u8) -> bool {
        self.failures = self.failures.saturating_add(1);
        // Late failures of requests that were under way tell nothing about when to try again.
        if self.passed_over && trouble == Trouble::Silent {
            return false;
        }
        self.trouble = Some(trouble);
        if trouble == Trouble::Silent && self.failures < SILENCES_TO_EJECT {
            return false;
        }
        self.ejections = self.ejections.saturating_add(1);
        self.next_try = now + self.pause(longest, random);
        if self.passed_over {
            return false;
        }
        self.since = SystemTime::now();
        self.passed_over = true;
        true
    }

    /// `longest` replaces the longest pause of an endpoint that cannot be reached; `random` is 0 to 255.
    fn pause(&self, longest: Option<Duration>, random: u8) -> Duration {
        let pauses = match self.trouble {
            Some(Trouble::Silent) => SILENT,
            Some(Trouble::Unreachable) | None => {
                let longest = longest.unwrap_or(UNREACHABLE.longest);
                Pauses { first: UNREACHABLE.first.min(longest), longest }
            }
        };
        let doublings = self.ejections.saturating_sub(1).min(16);
        let pause = pauses.first.saturating_mul(1 << doublings).min(pauses.longest);
        // A fifth more or less, so that many gateways do not all knock at once.
        pause.mul_f64(0.8 + 0.4 * f64::from(random) / 255.0)
    }
}

fn random() -> u8 {
    let mut byte = [0];
    // Without randomness there is merely no jitter.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    byte[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDDLE: u8 = 128;

    fn pauses_after(trouble: Trouble, failures: usize, longest: Option<Duration>) -> Vec<u64> {
        let (mut state, now) = (State::healthy(), Instant::now());
        let pause = |state: &mut State| {
            state.passed_over = false;
            state.failures = SILENCES_TO_EJECT;
            state.failed(trouble, now, longest, MIDDLE);
            (state.next_try - now).as_secs_f64().round() as u64
        };
        (0..failures).map(|_| pause(&mut state)).collect()
    }

    #[test]
    fn the_pause_doubles_up_to_the_longest() {
        assert_eq!(pauses_after(Trouble::Unreachable, 7, None), [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(pauses_after(Trouble::Unreachable, 5, Some(Duration::from_secs(5))), [1, 2, 4, 5, 5]);
        assert_eq!(pauses_after(Trouble::Silent, 5, Some(Duration::from_secs(5))), [15, 30, 60, 120, 120]);
    }

    #[test]
    fn the_pause_is_jittered_by_a_fifth() {
        let mut state = State::healthy();
        state.ejections = 1;
        assert_eq!(state.pause(None, 0), Duration::from_millis(800));
        assert_eq!(state.pause(None, 255), Duration::from_millis(1200));
    }

    #[tokio::test(start_paused = true)]
    async fn unreachable_is_passed_over_at_once_and_back_with_a_connection() {
        let health = Health::new();
        assert_eq!(health.standing(true), Standing::InUse);
        assert!(health.failed(Trouble::Unreachable, &"refused", None));
        assert!(!health.failed(Trouble::Unreachable, &"refused again", None));
        assert_eq!(health.standing(true), Standing::PassedOver);
        // An answer over a connection from before does not help.
        assert!(!health.answered());
        let state = health.state();
        assert_eq!((state.failures, state.why.as_deref()), (2, Some("refused again")));
        assert!(health.connected());
        assert!(!health.connected());
        assert_eq!((health.standing(true), health.state().failures), (Standing::InUse, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_counts_only_in_a_row() {
        let health = Health::new();
        let silent = || health.failed(Trouble::Silent, &"timeout", None);
        assert!(!silent() && !silent());
        assert!(!health.answered());
        assert!(!silent() && !silent() && silent());
        assert_eq!(health.standing(true), Standing::PassedOver);
        assert!(!health.connected(), "it could be connected to all the time");
        assert!(health.answered());
        assert_eq!(health.standing(true), Standing::InUse);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_brings_the_silent_back_on_probation() {
        let health = Health::new();
        let silent = || health.failed(Trouble::Silent, &"timeout", None);
        assert!(!silent() && !silent() && silent());
        assert!(health.probed(false));
        assert_eq!(health.standing(true), Standing::InUse);
        assert!(silent(), "the first failure is enough");
        assert!(health.state().next_try - Instant::now() > Duration::from_secs(20));
        assert!(health.probed(true));
        assert!(!silent());
    }

    #[tokio::test(start_paused = true)]
    async fn without_probes_one_request_finds_out() {
        let health = Health::new();
        assert!(health.failed(Trouble::Unreachable, &"refused", None));
        assert_eq!(health.standing(false), Standing::PassedOver);
        tokio::time::advance(Duration::from_millis(1300)).await;
        assert_eq!((health.standing(false), health.standing(true)), (Standing::OnTrial, Standing::PassedOver));
        health.begin_trial(None);
        assert_eq!(health.standing(false), Standing::PassedOver);
        assert!(health.connected());
    }

    #[tokio::test(start_paused = true)]
    async fn probes_find_the_unreachable_again() {
        let health = Health::new();
        assert!(health.failed(Trouble::Unreachable, &"refused", None));
        assert!(health.probed(false));
        assert_eq!(health.standing(true), Standing::InUse);
        assert!(!health.probed(false), "nothing to bring back");
    }
}
