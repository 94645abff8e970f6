//! Three gateways with the guarantee *strict*, a durable Redis, three agents and faults of every kind, at once and in real time.
//!
//! What clients saw is judged by [`History`], as in the simulation (`tests/memory/sharing`); here Redis and the network are
//! real, and nothing is deterministic. `SEEDS=0..100 cargo test --test it chaos` searches longer.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::support::{History, Kind, PATIENCE, Passage, Random, RedisServer, Relay};

use super::{RedisLab, Shared};

const GATEWAYS: usize = 3;
const AGENTS: [u32; 3] = [101, 102, 103];
const STEPS: usize = 25;
const STRICT: &str = "on_store_failure = \"reject\"\non_end_timeout = \"fail\"\nend_timeout = \"30s\"";

/// What one agent's application does.
async fn agent(lab: &RedisLab<()>, history: &RefCell<History>, number: u32, mut random: Random) {
    let mut control_id = 0;
    for _ in 0..STEPS {
        // Steps and faults overlap as chance has it.
        sleep(random.millis(120)).await;
        let through = random.place(GATEWAYS);
        let agent = lab.gateways[through].agent_from_elsewhere(number);
        let (shows, releases) = match random.below(6) {
            0 | 1 => (true, false),
            2 => (false, true),
            _ => (false, false),
        };
        if shows || releases {
            control_id += i64::from(shows);
            history.borrow_mut().begins(shows.then_some(control_id));
            let event =
                async { if shows { agent.try_shown(control_id, "100").await } else { agent.try_released().await } };
            // An answer that failed took the event with it: then the client does not know.
            if timeout(PATIENCE, event).await.is_ok_and(|event| event.is_some()) {
                history.borrow_mut().is_known();
            }
        } else {
            let began = Instant::now();
            let answer = agent.call(control_id, "100").await;
            history.borrow_mut().called(control_id, began, answer.verdict() == "ok", through);
        }
    }
}

/// Something fails and is mended, until the agents are ready.
async fn faults(redis: &RefCell<RedisServer>, relays: &[Relay], ready: &Cell<bool>, mut random: Random) {
    while !ready.get() {
        sleep(random.millis(300)).await;
        let relay = &relays[random.place(GATEWAYS)];
        let passage = match random.below(6) {
            0 => Some(Passage::Cut),
            1 => Some(Passage::Silent),
            2 => Some(Passage::Slow(Duration::from_millis(50 + random.below(250)))),
            _ => None,
        };
        match (passage, random.below(3)) {
            (Some(passage), _) => {
                relay.is(passage);
                sleep(random.millis(1500)).await;
                relay.is(Passage::Open);
            }
            (None, 0) => {
                relays.iter().for_each(|relay| relay.is(Passage::Cut));
                sleep(random.millis(700)).await;
                relays.iter().for_each(|relay| relay.is(Passage::Open));
            }
            (None, 1) => {
                redis.borrow().stall();
                sleep(random.millis(700)).await;
                redis.borrow().resume();
            }
            (None, _) => {
                redis.borrow_mut().kill();
                sleep(random.millis(300)).await;
                redis.borrow_mut().restart();
            }
        }
    }
}

async fn run(seed: u64) -> Option<()> {
    let server = RedisServer::start(Kind::Durable)?;
    let random = |salt: u64| Random::new(seed * 31 + salt + 1);
    let relays: Vec<_> = (0..GATEWAYS).map(|_| Relay::to(server.address())).collect();
    let settings = [STRICT; GATEWAYS];
    let lab = RedisLab::through((), &relays, &settings).await;
    lab.all_well().await;
    let redis = RefCell::new(server);
    let histories: Vec<_> = AGENTS.iter().map(|_| RefCell::<History>::default()).collect();
    let ready = Cell::new(false);
    let agents = async {
        let all = (0_u64..).zip(AGENTS.iter().zip(&histories));
        let work = all.map(|(salt, (number, history))| agent(&lab, history, *number, random(salt)));
        futures_util::future::join_all(work).await;
        ready.set(true);
    };
    tokio::join!(agents, faults(&redis, &relays, &ready, random(100)));
    lab.all_well().await;
    for (number, history) in AGENTS.iter().zip(&histories) {
        let found = history.borrow().wrong_forwards(|_, _| false);
        assert!(found.is_empty(), "SEEDS={seed}, agent {number}: {found:#?}");
        // Everything is mended, and goes on.
        lab.shown(&lab.gateways[0], *number, 999, "100").await;
        for gateway in &lab.gateways {
            assert_eq!(gateway.call(*number, 999, "100").await.verdict(), "ok", "SEEDS={seed}");
        }
        lab.released(&lab.gateways[1], *number).await;
        for gateway in &lab.gateways {
            assert_eq!(gateway.call(*number, 999, "100").await.verdict(), "unknown_preview", "SEEDS={seed}");
        }
    }
    let forwarded: usize = histories.iter().map(|history| history.borrow().forwarded()).sum();
    let rung = lab.gateways[0].simulator.callouts().len() - AGENTS.len() * GATEWAYS;
    assert_eq!(
        rung, forwarded,
        "SEEDS={seed}: each callout that was forwarded, and no other, reached the platform once"
    );
    Some(())
}

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("SEEDS") else { return 0..2 };
    let (from, to) = text.split_once("..").unwrap_or((&text, ""));
    let from = from.parse().unwrap();
    from..to.parse().unwrap_or(from + 1)
}

#[tokio::test]
async fn strict_forwards_nothing_that_a_client_knows_to_have_ended() {
    for seed in seeds() {
        if run(seed).await.is_none() {
            return;
        }
    }
}
