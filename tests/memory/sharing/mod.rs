//! A simulation: several whole gateways, one Redis, one platform and many clients, with faults, on paused time.
//!
//! A seed chooses what clients do and what fails. [`History`] says afterwards whether what the clients saw is allowed. To
//! repeat a seed that failed: `SEEDS=17 cargo test --test memory sharing`; for a long search: `SEEDS=0..10000`. Seeds that are
//! kept are in [`kept`]: each covers places at which a fault is awkward, and the run counts whether it still does.

mod clocks;
mod coverage;
mod faults;
mod kept;
mod losses;
mod one_round_trip;
mod redis;

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use previewgate::preview::{Clock, Timestamp};
use previewgate::simulator::{Simulator, SimulatorConfig};
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

use self::coverage::{Coverage, Place};
pub(crate) use self::redis::{EPOCH, FakeRedis, Link};
use crate::support::{History, MemoryLab, MemorySetup, Random, Troubles};

/// Gateways at the beginning. Another one may join them.
const GATEWAYS: usize = 3;
const AGENTS: [u32; 3] = [101, 102, 103];
/// Events and calls of each agent.
const STEPS: usize = 14;
/// Everything that a fault leaves behind is over after this: reconnecting, comparing, and what was held.
const AFTERMATH: Duration = Duration::from_secs(8);

/// An answer that takes longer was held back.
const HELD: Duration = Duration::from_secs(1);

/// A preview that a cut-off gateway shows sooner after an end elsewhere is over.
const UNKNOWN_ORDER: Duration = Duration::from_millis(2100);

/// What a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// No faults at all.
    Calm,
    /// `on_store_failure = "local"`, and everything fails.
    Available,
    /// `on_store_failure = "reject"`, `on_end_timeout = "fail"`, and everything fails but Redis's disk.
    Strict,
}

impl Kind {
    fn settings(self) -> &'static str {
        match self {
            Self::Calm | Self::Available => "on_store_failure = \"local\"\n",
            Self::Strict => "on_store_failure = \"reject\"\non_end_timeout = \"fail\"\nend_timeout = \"5s\"\n",
        }
    }
}

/// The clocks of one machine. The wall clock can be set; what a process judges by follows paused time from where the wall clock
/// was at its start, as [`previewgate::preview::SystemClock`] does.
struct SimulatedClock {
    began: Instant,
    /// How far the wall clock is ahead, in milliseconds.
    wall: Arc<AtomicI64>,
    at_start: i64,
}

impl SimulatedClock {
    fn new(ahead: i64) -> Self {
        Self { began: Instant::now(), wall: Arc::new(AtomicI64::new(ahead)), at_start: ahead }
    }

    /// For another process on the same machine, which starts now.
    fn of_next_process(&self) -> Self {
        Self { began: self.began, wall: Arc::clone(&self.wall), at_start: self.wall.load(Ordering::Relaxed) }
    }

    fn set_wall(&self, ahead: i64) {
        self.wall.store(ahead, Ordering::Relaxed);
    }

    fn ahead_by(&self, ahead: i64) -> Timestamp {
        let now = EPOCH as i64 + self.began.elapsed().as_millis() as i64;
        Timestamp((now + ahead) as u64)
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        self.ahead_by(self.at_start)
    }

    fn wall(&self) -> Timestamp {
        self.ahead_by(self.wall.load(Ordering::Relaxed))
    }
}

/// Everything of one run.
struct Scene {
    platform: Arc<Simulator>,
    gateways: RefCell<Vec<Rc<Gateway>>>,
    /// Those that crashed.
    crashed: RefCell<Vec<Rc<Gateway>>>,
    clocks: RefCell<Vec<Arc<SimulatedClock>>>,
    redis: FakeRedis,
    kind: Kind,
    troubles: RefCell<Troubles>,
    histories: Vec<RefCell<History>>,
    coverage: Coverage,
    /// When the gateway that came later had started.
    joined: Cell<Option<Instant>>,
    /// Events that their gateway could not share when it had them: the agent's place, and the event's.
    unshared: RefCell<Vec<(usize, usize, Rc<Gateway>)>>,
    /// Callouts whose gateway crashed before their client had an answer: the telephone may have rung.
    unanswered: Cell<usize>,
}

/// One process of a gateway.
struct Gateway {
    lab: MemoryLab,
    /// When it took the place of one that crashed.
    replaces_since: Option<Instant>,
    crashed: watch::Sender<bool>,
}

impl Gateway {
    fn new(lab: MemoryLab) -> Rc<Self> {
        Rc::new(Self { lab, replaces_since: None, crashed: watch::Sender::new(false) })
    }

    /// In the place of one that crashed.
    fn replacing(lab: MemoryLab) -> Rc<Self> {
        Rc::new(Self { lab, replaces_since: Some(Instant::now()), crashed: watch::Sender::new(false) })
    }

    /// Whether Redis has everything that it knows.
    fn is_sharing(&self) -> bool {
        self.lab.store().store_condition().is_some_and(|store| store.node.is_some() && store.agents_pending == 0)
    }

    fn has_crashed(&self) -> bool {
        *self.crashed.borrow()
    }

    /// What a client gets that does this through the gateway; nothing if it crashes meanwhile.
    async fn unless_it_crashes<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut crashed = self.crashed.subscribe();
        tokio::select! {
            biased;
            _ = crashed.wait_for(|crashed| *crashed) => None,
            answer = work => Some(answer),
        }
    }
}

impl Scene {
    async fn start(kind: Kind, random: &mut Random) -> Self {
        let platform = Arc::new(Simulator::in_memory(SimulatorConfig {
            lenient_callouts: true,
            follow_ups: false,
            ..SimulatorConfig::default()
        }));
        let coverage = Coverage::default();
        let redis = FakeRedis::covering(GATEWAYS + 1, coverage.clone());
        let skew =
            |random: &mut Random| if kind == Kind::Calm { 0 } else { random.below(7_200_000) as i64 - 3_600_000 };
        let clocks: Vec<_> = (0..GATEWAYS).map(|_| Arc::new(SimulatedClock::new(skew(random)))).collect();
        let gateways: Vec<_> =
            (0..GATEWAYS).map(|number| Gateway::new(start(&platform, &redis, kind, number, &clocks[number]))).collect();
        let (troubles, histories) = (RefCell::default(), AGENTS.iter().map(|_| RefCell::default()).collect());
        let (gateways, clocks) = (RefCell::new(gateways), RefCell::new(clocks));
        let scene = Self {
            platform,
            gateways,
            crashed: RefCell::default(),
            clocks,
            redis,
            kind,
            troubles,
            histories,
            coverage,
            joined: Cell::new(None),
            unshared: RefCell::default(),
            unanswered: Cell::new(0),
        };
        scene.healed().await;
        scene
    }

    /// Waits until every gateway is connected and Redis has everything.
    async fn healed(&self) {
        let is_ok = |gateway: &Gateway| gateway.lab.store().state() == previewgate::store::StoreState::Ok;
        while !self.gateways.borrow().iter().all(|gateway| is_ok(gateway)) {
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// What one agent's application does.
    async fn agent(&self, place: usize, mut random: Random) {
        let mut control_id = 0;
        for _ in 0..STEPS {
            sleep(random.millis(900)).await;
            let through = random.place(self.gateways.borrow().len());
            let gateway = Rc::clone(&self.gateways.borrow()[through]);
            if gateway.has_crashed() {
                continue;
            }
            let agent = gateway.lab.agent_from_elsewhere(AGENTS[place]);
            match random.below(5) {
                0 | 1 => {
                    if self.kind != Kind::Calm && self.histories[place].borrow().is_released() {
                        // Closer together, a gateway that is cut off cannot know their order.
                        sleep(UNKNOWN_ORDER).await;
                    }
                    control_id += 1;
                    self.histories[place].borrow_mut().begins(Some(control_id));
                    let began = Instant::now();
                    let event = gateway.unless_it_crashes(agent.try_shown(control_id, "100")).await;
                    self.learnt(place, &gateway, began, event.flatten());
                }
                2 => {
                    self.histories[place].borrow_mut().begins(None);
                    let began = Instant::now();
                    let event = gateway.unless_it_crashes(agent.try_released()).await;
                    self.learnt(place, &gateway, began, event.flatten());
                }
                _ => self.call(place, through, control_id).await,
            }
        }
    }

    fn learnt(&self, place: usize, gateway: &Rc<Gateway>, began: Instant, event: Option<()>) {
        if gateway.is_sharing() {
            self.unshared.borrow_mut().retain(|(_, _, unshared)| !Rc::ptr_eq(unshared, gateway));
        } else {
            let last = self.histories[place].borrow().last();
            self.unshared.borrow_mut().push((place, last, Rc::clone(gateway)));
        }
        if event.is_some() && began.elapsed() > HELD {
            self.coverage.note(Place::AnswerHeld);
        }
        // An answer that failed may have been the platform's only one: what the client does not know may be either.
        if event.is_some() {
            self.histories[place].borrow_mut().is_known();
        }
    }

    async fn call(&self, place: usize, through: usize, control_id: i64) {
        let gateway = Rc::clone(&self.gateways.borrow()[through]);
        let agent = gateway.lab.agent_from_elsewhere(AGENTS[place]);
        let began = Instant::now();
        let Some(answer) = gateway.unless_it_crashes(agent.call(control_id, "100")).await else {
            self.unanswered.set(self.unanswered.get() + 1);
            return;
        };
        let forwarded = answer.verdict() == "ok";
        self.histories[place].borrow_mut().called(control_id, began, forwarded, through);
        if forwarded && self.redis.link_of(through) != Link::Up(faults::NEAR) {
            self.coverage.note(Place::JudgedWithoutRedis);
        }
        let shown = self.histories[place].borrow().shown_at(control_id);
        if forwarded && through == GATEWAYS && shown.is_some_and(|shown| Some(shown) < self.joined.get()) {
            self.coverage.note(Place::JudgedByOneThatJoined);
        }
        if forwarded && shown.is_some_and(|shown| Some(shown) < gateway.replaces_since) {
            self.coverage.note(Place::JudgedAfterCrash);
        }
    }

    /// What is wrong with what clients saw.
    fn faults_found(&self) -> Vec<String> {
        let troubles = self.troubles.borrow();
        let felt = |began, ended| troubles.touch(began, ended, AFTERMATH);
        let mut found = Vec::new();
        for history in &self.histories {
            let history = history.borrow();
            found.extend(match self.kind {
                Kind::Strict => history.wrong_forwards(|_, _| false),
                Kind::Calm | Kind::Available => history.wrong_forwards(felt),
            });
            found.extend(history.wrong_refusals(felt));
        }
        let forwarded: usize = self.histories.iter().map(|history| history.borrow().forwarded()).sum();
        let (rung, unanswered) = (self.platform.handle().callouts().len(), self.unanswered.get());
        if rung < forwarded || rung > forwarded + unanswered {
            found.push(format!(
                "{forwarded} callouts were forwarded, {unanswered} have no answer, and the telephone rang {rung} times"
            ));
        }
        found
    }
}

fn start(
    platform: &Arc<Simulator>,
    redis: &FakeRedis,
    kind: Kind,
    number: usize,
    clock: &Arc<SimulatedClock>,
) -> MemoryLab {
    let settings = format!(
        "log.level = \"error\"\n[previews.store]\nkind = \"redis\"\nurl = \"redis://redis\"\n{}",
        kind.settings()
    );
    let setup = MemorySetup::new().settings(&settings).platform(platform);
    setup.clock(Arc::clone(clock) as Arc<dyn Clock>).store(redis.dial(number)).start()
}

/// One run: what is wrong, and which awkward places it met.
async fn run(kind: Kind, seed: u64) -> (Vec<String>, Coverage) {
    let mut random = Random::new(seed);
    let scene = Rc::new(Scene::start(kind, &mut random).await);
    let mut agents = Vec::new();
    for place in 0..AGENTS.len() {
        let (scene, random) = (Rc::clone(&scene), Random::new(seed.wrapping_mul(31) + place as u64 + 1));
        agents.push(tokio::task::spawn_local(async move { scene.agent(place, random).await }));
    }
    if kind != Kind::Calm {
        for _ in 0..2 {
            sleep(random.millis(4000)).await;
            scene.fault(&mut random).await;
        }
    }
    for agent in agents {
        agent.await.unwrap();
    }
    // Everything is mended: each gateway must say the same now.
    let gateways = scene.gateways.borrow().len();
    scene.healed().await;
    sleep(AFTERMATH * 2).await;
    for place in 0..AGENTS.len() {
        let last = scene.histories[place].borrow().last_shown();
        for through in 0..gateways {
            if let Some(control_id) = last {
                scene.call(place, through, control_id).await;
            }
        }
    }
    scene.note_losses();
    (scene.faults_found(), scene.coverage.clone())
}

fn seeds(ordinary: Range<u64>) -> Range<u64> {
    let Ok(text) = std::env::var("SEEDS") else { return ordinary };
    match text.split_once("..") {
        Some((from, to)) => from.parse().unwrap()..to.parse().unwrap(),
        None => text.parse().map(|seed| seed..seed + 1).unwrap(),
    }
}

fn run_alone(kind: Kind, seed: u64) -> (Vec<String>, Coverage) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, run(kind, seed))
}

fn search(kind: Kind, ordinary: Range<u64>) {
    for seed in seeds(ordinary) {
        let (found, _) = run_alone(kind, seed);
        assert!(found.is_empty(), "{kind:?}, SEEDS={seed}: {found:#?}");
    }
}

#[test]
fn without_faults_every_gateway_forwards_what_was_shown_and_nothing_else() {
    search(Kind::Calm, 0..20);
}

#[test]
fn available_forwards_nothing_wrong_and_refuses_nothing_right_but_for_a_while_after_a_fault() {
    search(Kind::Available, 0..100);
}

#[test]
fn strict_never_forwards_what_a_client_knows_to_have_ended() {
    search(Kind::Strict, 0..100);
}
