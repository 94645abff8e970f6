//! The health of an endpoint: when it is ejected, why, and when it is tried again.
//!
//! It is learnt from requests (passive) and from probes, which cover every endpoint that requests do not reach. An
//! endpoint is unproven until the first success. Each failure mode ends with its own proof. An endpoint that could not be
//! reached is back when a connection is established. An endpoint that took requests and did not answer is back for good
//! only when it has answered one.

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
    /// Nothing is known yet. Used in its turn, like a healthy one.
    Unproven,
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

/// What a success changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recovery {
    /// Nothing.
    None,
    /// It is the first success of an endpoint that was not ejected.
    Proven,
    /// The endpoint was ejected and is used again.
    Back,
}

/// The health of one endpoint, shared by all workers, and by all generations that name it.
#[derive(Debug)]
pub(super) struct HealthTracker {
    /// Whether the state differs from that of a healthy endpoint. If not, requests never take the lock.
    impaired: AtomicBool,
    /// Whether a request has succeeded since the last look at the endpoint: then it need not be probed.
    seen_alive: AtomicBool,
    state: Mutex<State>,
}

/// The state behind the lock.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) ejected: bool,
    /// Whether it has ever been reached.
    pub(super) proven: bool,
    pub(super) since: SystemTime,
    pub(super) why: Option<String>,
    pub(super) failures: u32,
    pub(super) next_try: Instant,
    /// While it is not ejected: when to look whether it must be probed.
    next_look: Instant,
    mode: Option<FailureMode>,
    /// Ejections since it last responded.
    ejections: u32,
}

impl HealthTracker {
    pub(super) fn new() -> Self {
        Self {
            impaired: AtomicBool::new(true),
            seen_alive: AtomicBool::new(false),
            state: Mutex::new(State::unproven()),
        }
    }

    /// The health right now. `probed`: probes find out whether it is back, so no request has to try.
    pub(super) fn current(&self, probed: bool) -> Health {
        if !self.impaired.load(Ordering::Relaxed) {
            return Health::Healthy;
        }
        let state = self.lock();
        match state.ejected {
            false if state.proven => Health::Healthy,
            false => Health::Unproven,
            true if !probed && Instant::now() >= state.next_try => Health::HalfOpen,
            true => Health::Ejected,
        }
    }

    /// Whether a probe is due. An ejected endpoint is probed when its pause is over. Any other one is probed once in
    /// each `interval`, unless a request has reached it meanwhile.
    pub(super) fn wants_probe(&self, interval: Duration) -> bool {
        let now = Instant::now();
        let mut state = self.lock();
        if state.ejected {
            return now >= state.next_try;
        }
        if now < state.next_look {
            return false;
        }
        state.next_look = now + with_jitter(interval, random());
        !self.seen_alive.swap(false, Ordering::Relaxed)
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

    /// Records an established connection.
    pub(super) fn connected(&self) -> Recovery {
        self.recover(|state| matches!(state.mode, Some(FailureMode::Unreachable)))
    }

    /// Records a response. A response over an old connection does not prove that a new connection can be established.
    pub(super) fn answered(&self) -> Recovery {
        self.recover(|state| matches!(state.mode, Some(FailureMode::Unresponsive)))
    }

    /// Records a successful probe; `answered` if it was a request and not only a connection.
    pub(super) fn probed(&self, answered: bool) -> Recovery {
        if answered {
            return self.recover(|_| true);
        }
        let recovery = self.connected();
        if recovery != Recovery::None {
            return recovery;
        }
        let mut state = self.lock();
        if !state.ejected {
            return Recovery::None;
        }
        // One more failure ejects it again, for longer.
        state.failures = SILENCES_TO_EJECT.saturating_sub(1);
        state.since = SystemTime::now();
        state.ejected = false;
        Recovery::Back
    }

    /// A request tries the endpoint. Until that is decided, no other request does.
    pub(super) fn begin_trial(&self, longest: Option<Duration>) {
        let mut state = self.lock();
        state.next_try = Instant::now() + state.pause(longest, random());
    }

    /// Records a success, which ends the failures that it `proves` to be over.
    fn recover(&self, proves: impl Fn(&State) -> bool) -> Recovery {
        // Read first: every request comes here, and a line of memory that all workers write to is slow.
        if !self.seen_alive.load(Ordering::Relaxed) {
            self.seen_alive.store(true, Ordering::Relaxed);
        }
        if !self.impaired.load(Ordering::Relaxed) {
            return Recovery::None;
        }
        let mut state = self.lock();
        let first = !std::mem::replace(&mut state.proven, true) && !state.ejected;
        if state.mode.is_some() && !proves(&state) {
            return if first { Recovery::Proven } else { Recovery::None };
        }
        self.impaired.store(false, Ordering::Relaxed);
        let healthy = State { since: state.since, next_look: state.next_look, proven: true, ..State::unproven() };
        let was_out = std::mem::replace(&mut *state, healthy).ejected;
        if was_out || first {
            state.since = SystemTime::now();
        }
        match (was_out, first) {
            (true, _) => Recovery::Back,
            (false, true) => Recovery::Proven,
            (false, false) => Recovery::None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment, or harmless if incomplete.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn unproven() -> Self {
        Self {
            ejected: false,
            proven: false,
            since: SystemTime::now(),
            why: None,
            failures: 0,
            next_try: Instant::now(),
            next_look: Instant::now(),
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
        with_jitter(pause, random)
    }
}

/// Jitter of 20 %, so that many gateways do not probe at once.
fn with_jitter(pause: Duration, random: u8) -> Duration {
    pause.mul_f64(0.8 + 0.4 * f64::from(random) / 255.0)
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
        let (mut state, now) = (State::unproven(), Instant::now());
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
        let mut state = State::unproven();
        state.ejections = 1;
        assert_eq!(state.pause(None, 0), Duration::from_millis(800));
        assert_eq!(state.pause(None, 255), Duration::from_millis(1200));
    }

    const INTERVAL: Duration = Duration::from_secs(5);

    /// A tracker whose endpoint has been reached.
    fn proven() -> HealthTracker {
        let health = HealthTracker::new();
        assert_eq!(health.connected(), Recovery::Proven);
        health
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_known_before_the_first_success() {
        let probed = |health: &HealthTracker| health.probed(false);
        for success in [HealthTracker::connected, HealthTracker::answered, probed] {
            let health = HealthTracker::new();
            assert_eq!((health.current(true), health.current(false)), (Health::Unproven, Health::Unproven));
            assert_eq!((success(&health), health.current(true)), (Recovery::Proven, Health::Healthy));
            assert_eq!(success(&health), Recovery::None, "once only");
        }
        let dead = HealthTracker::new();
        assert!(dead.failed(FailureMode::Unreachable, &"refused", None));
        assert_eq!((dead.current(true), dead.state().proven), (Health::Ejected, false));
        assert_eq!((dead.connected(), dead.current(true)), (Recovery::Back, Health::Healthy));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_connection_proves_it_and_does_not_excuse_timeouts() {
        let health = HealthTracker::new();
        let silent = || health.failed(FailureMode::Unresponsive, &"timeout", None);
        assert!(!silent() && !silent());
        assert_eq!((health.connected(), health.current(true)), (Recovery::Proven, Health::Healthy));
        assert!(silent());
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_requests_do_not_reach_is_probed() {
        let health = HealthTracker::new();
        assert!(health.wants_probe(INTERVAL), "from the start");
        assert!(!health.wants_probe(INTERVAL));
        for reached in [true, false, true, false] {
            if reached {
                health.answered();
            }
            tokio::time::advance(INTERVAL * 2).await;
            assert_eq!(health.wants_probe(INTERVAL), !reached);
            assert!(!health.wants_probe(INTERVAL), "not twice in an interval");
        }
        health.failed(FailureMode::Unreachable, &"refused", None);
        assert!(!health.wants_probe(INTERVAL), "an ejected endpoint has a pause of its own");
        tokio::time::advance(Duration::from_millis(1300)).await;
        assert!(health.wants_probe(INTERVAL));
    }

    #[tokio::test(start_paused = true)]
    async fn an_unreachable_endpoint_is_ejected_at_once_and_back_with_a_connection() {
        let health = proven();
        assert_eq!(health.current(true), Health::Healthy);
        assert!(health.failed(FailureMode::Unreachable, &"refused", None));
        assert!(!health.failed(FailureMode::Unreachable, &"refused again", None));
        assert_eq!(health.current(true), Health::Ejected);
        // An answer over a connection from before does not help.
        assert_eq!(health.answered(), Recovery::None);
        let state = health.state();
        assert_eq!((state.failures, state.why.as_deref()), (2, Some("refused again")));
        assert_eq!(health.connected(), Recovery::Back);
        assert_eq!(health.connected(), Recovery::None);
        assert_eq!((health.current(true), health.state().failures), (Health::Healthy, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn only_timeouts_in_a_row_eject() {
        let health = proven();
        let silent = || health.failed(FailureMode::Unresponsive, &"timeout", None);
        assert!(!silent() && !silent());
        assert_eq!(health.answered(), Recovery::None);
        assert!(!silent() && !silent() && silent());
        assert_eq!(health.current(true), Health::Ejected);
        assert_eq!(health.connected(), Recovery::None, "it could be connected to all the time");
        assert_eq!(health.answered(), Recovery::Back);
        assert_eq!(health.current(true), Health::Healthy);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_probe_by_connection_one_failure_ejects_again() {
        let health = proven();
        let silent = || health.failed(FailureMode::Unresponsive, &"timeout", None);
        assert!(!silent() && !silent() && silent());
        assert_eq!(health.probed(false), Recovery::Back);
        assert_eq!(health.current(true), Health::Healthy);
        assert!(silent(), "the first failure is enough");
        assert!(health.state().next_try - Instant::now() > Duration::from_secs(20));
        assert_eq!(health.probed(true), Recovery::Back);
        assert!(!silent());
    }

    #[tokio::test(start_paused = true)]
    async fn without_probes_one_request_tries_the_endpoint() {
        let health = proven();
        assert!(health.failed(FailureMode::Unreachable, &"refused", None));
        assert_eq!(health.current(false), Health::Ejected);
        tokio::time::advance(Duration::from_millis(1300)).await;
        assert_eq!((health.current(false), health.current(true)), (Health::HalfOpen, Health::Ejected));
        health.begin_trial(None);
        assert_eq!(health.current(false), Health::Ejected);
        assert_eq!(health.connected(), Recovery::Back);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_brings_an_unreachable_endpoint_back() {
        let health = proven();
        assert!(health.failed(FailureMode::Unreachable, &"refused", None));
        assert_eq!(health.probed(false), Recovery::Back);
        assert_eq!(health.current(true), Health::Healthy);
        assert_eq!(health.probed(false), Recovery::None, "nothing to bring back");
    }
}
