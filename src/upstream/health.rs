//! The health of an endpoint: when it is ejected, why, and when it is tried again.
//!
//! It is learnt from requests (passive) and, for ejected endpoints, from probes. Each failure mode ends with its own
//! proof. An endpoint that could not be reached is back when a connection is established. An endpoint that took requests
//! and did not answer is back for good only when it has answered one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Requests in a row without a response before an endpoint is ejected. A single one may be the request's fault.
const SILENCES_TO_EJECT: u32 = 3;
/// An unresponsive endpoint costs each request its whole `response_timeout`, so it stays ejected for longer.
const UNRESPONSIVE: Pauses = Pauses { first: Duration::from_secs(15), longest: Duration::from_secs(120) };
const UNREACHABLE: Pauses = Pauses { first: Duration::from_secs(1), longest: Duration::from_secs(30) };

/// How an endpoint fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureMode {
    /// No connection can be established. This is certain and nothing was sent, so the endpoint is ejected at once.
    Unreachable,
    /// It accepts connections or requests, and does not respond in time.
    Unresponsive,
}

/// Whether requests should use an endpoint, as in a circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// In use, in its turn.
    Healthy,
    /// Ejected, but one request may try whether it is back.
    HalfOpen,
    /// Used only when no other endpoint is left.
    Ejected,
}

/// How long an endpoint stays ejected: twice as long after each failure, up to the longest.
#[derive(Clone, Copy, Debug)]
struct Pauses {
    first: Duration,
    longest: Duration,
}

/// The health of one endpoint, shared by all workers, and by all generations that name it.
#[derive(Debug)]
pub(super) struct HealthTracker {
    /// Whether the state differs from that of a healthy endpoint. If not, the lock is never taken.
    impaired: AtomicBool,
    state: Mutex<State>,
}

/// The state behind the lock.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) ejected: bool,
    pub(super) since: SystemTime,
    pub(super) why: Option<String>,
    pub(super) failures: u32,
    pub(super) next_try: Instant,
    mode: Option<FailureMode>,
    /// Ejections since it last responded.
    ejections: u32,
}

impl HealthTracker {
    pub(super) fn new() -> Self {
        Self { impaired: AtomicBool::new(false), state: Mutex::new(State::healthy()) }
    }

    /// The health right now. `probed`: probes find out whether it is back, so no request has to try.
    pub(super) fn current(&self, probed: bool) -> Health {
        if !self.impaired.load(Ordering::Relaxed) {
            return Health::Healthy;
        }
        let state = self.lock();
        match state.ejected {
            false => Health::Healthy,
            true if !probed && Instant::now() >= state.next_try => Health::HalfOpen,
            true => Health::Ejected,
        }
    }

    /// A copy of the whole state.
    pub(super) fn state(&self) -> State {
        self.lock().clone()
    }

    /// Records a failure. Returns whether the endpoint is ejected by it.
    pub(super) fn failed(&self, mode: FailureMode, why: &dyn std::fmt::Display, longest: Option<Duration>) -> bool {
        let mut state = self.lock();
        self.impaired.store(true, Ordering::Relaxed);
        state.why = Some(why.to_string());
        state.failed(mode, Instant::now(), longest, random())
    }

    /// Records an established connection. Returns whether the endpoint is back.
    pub(super) fn connected(&self) -> bool {
        self.recover(|state| state.mode == Some(FailureMode::Unreachable))
    }

    /// Records a response. Returns whether the endpoint is back. A response over an old connection does not prove that
    /// a new connection can be established.
    pub(super) fn answered(&self) -> bool {
        self.recover(|state| state.mode == Some(FailureMode::Unresponsive))
    }

    /// Records a successful probe; `answered` if it was a request and not only a connection. Returns whether the
    /// endpoint is back.
    pub(super) fn probed(&self, answered: bool) -> bool {
        if answered {
            return self.recover(|_| true);
        }
        if self.connected() {
            return true;
        }
        let mut state = self.lock();
        if !state.ejected {
            return false;
        }
        // One more failure ejects it again, for longer.
        state.failures = SILENCES_TO_EJECT.saturating_sub(1);
        state.since = SystemTime::now();
        state.ejected = false;
        true
    }

    /// A request tries the endpoint. Until that is decided, no other request does.
    pub(super) fn begin_trial(&self, longest: Option<Duration>) {
        let mut state = self.lock();
        state.next_try = Instant::now() + state.pause(longest, random());
    }

    fn recover(&self, proves: impl Fn(&State) -> bool) -> bool {
        if !self.impaired.load(Ordering::Relaxed) {
            return false;
        }
        let mut state = self.lock();
        if !proves(&state) {
            return false;
        }
        self.impaired.store(false, Ordering::Relaxed);
        let healthy = State { since: state.since, ..State::healthy() };
        let was_out = std::mem::replace(&mut *state, healthy).ejected;
        if was_out {
            state.since = SystemTime::now();
        }
        was_out
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment, or harmless if incomplete.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn healthy() -> Self {
        Self {
            ejected: false,
            since: SystemTime::now(),
            why: None,
            failures: 0,
            next_try: Instant::now(),
            mode: None,
            ejections: 0,
        }
    }

    fn failed(&mut self, mode: FailureMode, now: Instant, longest: Option<Duration>, random: u8) -> bool {
        self.failures = self.failures.saturating_add(1);
        // A late failure of a request that was under way does not change when to try again.
        if self.ejected && mode == FailureMode::Unresponsive {
            return false;
        }
        self.mode = Some(mode);
        if mode == FailureMode::Unresponsive && self.failures < SILENCES_TO_EJECT {
            return false;
        }
        self.ejections = self.ejections.saturating_add(1);
        self.next_try = now + self.pause(longest, random);
        if self.ejected {
            return false;
        }
        self.since = SystemTime::now();
        self.ejected = true;
        true
    }

    /// `longest` replaces the longest pause of an endpoint that cannot be reached; `random` is 0 to 255.
    fn pause(&self, longest: Option<Duration>, random: u8) -> Duration {
        let pauses = match self.mode {
            Some(FailureMode::Unresponsive) => UNRESPONSIVE,
            Some(FailureMode::Unreachable) | None => {
                let longest = longest.unwrap_or(UNREACHABLE.longest);
                Pauses { first: UNREACHABLE.first.min(longest), longest }
            }
        };
        let doublings = self.ejections.saturating_sub(1).min(16);
        let pause = pauses.first.saturating_mul(1 << doublings).min(pauses.longest);
        // Jitter of 20 %, so that many gateways do not probe at once.
        pause.mul_f64(0.8 + 0.4 * f64::from(random) / 255.0)
    }
}

fn random() -> u8 {
    let mut byte = [0];
    // Without randomness there is only no jitter.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    byte[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDDLE: u8 = 128;

    fn pauses_after(mode: FailureMode, failures: usize, longest: Option<Duration>) -> Vec<u64> {
        let (mut state, now) = (State::healthy(), Instant::now());
        let pause = |state: &mut State| {
            state.ejected = false;
            state.failures = SILENCES_TO_EJECT;
            state.failed(mode, now, longest, MIDDLE);
            (state.next_try - now).as_secs_f64().round() as u64
        };
        (0..failures).map(|_| pause(&mut state)).collect()
    }

    #[test]
    fn the_pause_doubles_up_to_the_maximum() {
        assert_eq!(pauses_after(FailureMode::Unreachable, 7, None), [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(pauses_after(FailureMode::Unreachable, 5, Some(Duration::from_secs(5))), [1, 2, 4, 5, 5]);
        assert_eq!(pauses_after(FailureMode::Unresponsive, 5, Some(Duration::from_secs(5))), [15, 30, 60, 120, 120]);
    }

    #[test]
    fn the_pause_has_a_jitter_of_20_percent() {
        let mut state = State::healthy();
        state.ejections = 1;
        assert_eq!(state.pause(None, 0), Duration::from_millis(800));
        assert_eq!(state.pause(None, 255), Duration::from_millis(1200));
    }

    #[tokio::test(start_paused = true)]
    async fn an_unreachable_endpoint_is_ejected_at_once_and_back_with_a_connection() {
        let health = HealthTracker::new();
        assert_eq!(health.current(true), Health::Healthy);
        assert!(health.failed(FailureMode::Unreachable, &"refused", None));
        assert!(!health.failed(FailureMode::Unreachable, &"refused again", None));
        assert_eq!(health.current(true), Health::Ejected);
        // An answer over a connection from before does not help.
        assert!(!health.answered());
        let state = health.state();
        assert_eq!((state.failures, state.why.as_deref()), (2, Some("refused again")));
        assert!(health.connected());
        assert!(!health.connected());
        assert_eq!((health.current(true), health.state().failures), (Health::Healthy, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn only_timeouts_in_a_row_eject() {
        let health = HealthTracker::new();
        let silent = || health.failed(FailureMode::Unresponsive, &"timeout", None);
        assert!(!silent() && !silent());
        assert!(!health.answered());
        assert!(!silent() && !silent() && silent());
        assert_eq!(health.current(true), Health::Ejected);
        assert!(!health.connected(), "it could be connected to all the time");
        assert!(health.answered());
        assert_eq!(health.current(true), Health::Healthy);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_probe_by_connection_one_failure_ejects_again() {
        let health = HealthTracker::new();
        let silent = || health.failed(FailureMode::Unresponsive, &"timeout", None);
        assert!(!silent() && !silent() && silent());
        assert!(health.probed(false));
        assert_eq!(health.current(true), Health::Healthy);
        assert!(silent(), "the first failure is enough");
        assert!(health.state().next_try - Instant::now() > Duration::from_secs(20));
        assert!(health.probed(true));
        assert!(!silent());
    }

    #[tokio::test(start_paused = true)]
    async fn without_probes_one_request_tries_the_endpoint() {
        let health = HealthTracker::new();
        assert!(health.failed(FailureMode::Unreachable, &"refused", None));
        assert_eq!(health.current(false), Health::Ejected);
        tokio::time::advance(Duration::from_millis(1300)).await;
        assert_eq!((health.current(false), health.current(true)), (Health::HalfOpen, Health::Ejected));
        health.begin_trial(None);
        assert_eq!(health.current(false), Health::Ejected);
        assert!(health.connected());
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_brings_an_unreachable_endpoint_back() {
        let health = HealthTracker::new();
        assert!(health.failed(FailureMode::Unreachable, &"refused", None));
        assert!(health.probed(false));
        assert_eq!(health.current(true), Health::Healthy);
        assert!(!health.probed(false), "nothing to bring back");
    }
}
