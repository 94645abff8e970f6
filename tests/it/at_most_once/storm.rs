//! Thousands of callouts and polls through a gateway whose two upstreams fail in all known ways.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::faults::Plan;
use super::upstream::{self, Evidence};
use super::{before, callout, endpoint, poll, show};
use crate::support::{Answer, Client, Request};

const REQUESTS: u32 = 4000;
const CLIENTS: u32 = 16;
const FIRST: u32 = 10_000;
/// The seed; `PREVIEWGATE_SEED` replaces it.
const SEED: u64 = 20_261_122;

/// The answer that the client got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Success,
    NotSent,
    Unknown,
}

fn told(id: u32, answer: &Answer) -> Told {
    let message = answer.field("message");
    if answer.field("retcode") == "0" {
        assert_eq!((answer.status, message), (200, id.to_string()), "the answer to another request");
        return Told::Success;
    }
    assert!(matches!(answer.status, 502 | 504), "{answer:?}");
    assert_eq!(answer.own().reason, "upstream_failure", "{answer:?}");
    assert_eq!(answer.field("retcode"), "100-007");
    match (message.contains("not sent"), message.contains("unknown")) {
        (true, false) => Told::NotSent,
        (false, true) => Told::Unknown,
        _ => panic!("does not say what is known: {answer:?}"),
    }
}

/// Every other request is a poll.
fn request(id: u32) -> Request {
    if id.is_multiple_of(2) { callout(id, "uuid.node") } else { poll(id, "uuid.node") }
}

async fn ask_all(mut client: Client, next: Arc<AtomicU32>) -> Vec<(u32, Told)> {
    let mut outcomes = Vec::new();
    loop {
        let id = FIRST + next.fetch_add(1, Ordering::Relaxed);
        if id >= FIRST + REQUESTS {
            return outcomes;
        }
        let answer = client.send(&request(id)).await;
        outcomes.push((id, told(id, &answer)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_arrives_twice_and_each_answer_tells_the_outcome() {
    let seed = std::env::var("PREVIEWGATE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    println!("seed {seed} (PREVIEWGATE_SEED)");
    let (plan, evidence, began) = (Plan { seed }, Arc::new(Evidence::default()), Instant::now());
    let endpoints = [upstream::start(0, plan, &evidence), upstream::start(1, plan, &evidence)];
    let setup = before(&endpoints.map(endpoint), "upstream.balance = \"agent\"").config(|config| {
        // This is shorter than a configuration file may set it; no poll of this test is held.
        config.upstream.response_timeout = Duration::from_millis(400);
        config.limits.body_idle_timeout = Duration::from_millis(400);
    });
    let lab = setup.start().await;
    (FIRST..FIRST + REQUESTS).for_each(|id| show(&lab, id));

    let next = Arc::new(AtomicU32::new(0));
    let clients: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(ask_all(lab.client(), Arc::clone(&next)))).collect();
    let mut outcomes = Vec::new();
    for client in clients {
        outcomes.extend(client.await.unwrap());
    }
    let metrics = lab.admin("/metrics").await.text();
    let log = lab.close().await.lines();

    assert_eq!(outcomes.len(), REQUESTS as usize);
    let mut matrix = BTreeMap::<(Told, u32), u32>::new();
    for (id, told) in &outcomes {
        let arrivals = evidence.arrivals(*id);
        *matrix.entry((*told, arrivals)).or_default() += 1;
        let possible = match told {
            Told::Success => 1..=1,
            Told::NotSent => 0..=0,
            Told::Unknown => 0..=1,
        };
        assert!(
            possible.contains(&arrivals),
            "{id}: {told:?}, but arrived {arrivals} times ({:?})",
            plan.of_request(*id)
        );
    }
    let faults = evidence.faults.lock().unwrap().clone();
    println!("{:?}; {REQUESTS} requests, {} faults", began.elapsed(), faults.values().sum::<u32>());
    println!("(told, arrivals): {matrix:?}\nfaults: {faults:?}");
    metrics
        .lines()
        .filter(|line| line.starts_with("previewgate_upstream_failures"))
        .for_each(|line| println!("{line}"));
    assert!(faults.len() == 27, "every fault has happened: {faults:?}");
    one_decision_line_each(&outcomes, &log);
}

fn one_decision_line_each(outcomes: &[(u32, Told)], log: &[serde_json::Value]) {
    let mut lines = BTreeMap::<u32, Vec<&serde_json::Value>>::new();
    for line in log.iter().filter(|line| line["decision"].is_string()) {
        lines.entry(u32::try_from(line["agent_id"].as_u64().unwrap()).unwrap()).or_default().push(line);
    }
    for (id, told) in outcomes.iter().filter(|(id, _)| id.is_multiple_of(2)) {
        let of_this = lines.remove(id).unwrap_or_default();
        assert_eq!(of_this.len(), 1, "{id}: {of_this:?}");
        let expected = match told {
            Told::Success => ("forwarded", "ok"),
            Told::NotSent => ("rejected", "upstream_failure"),
            Told::Unknown => ("forwarded", "upstream_failure"),
        };
        assert_eq!(of_this[0]["upstream"].is_string(), *told != Told::NotSent, "{id}: which endpoint may have got it");
        assert_eq!((&of_this[0]["decision"], &of_this[0]["reason"]), (&expected.0.into(), &expected.1.into()), "{id}");
    }
    assert!(lines.is_empty(), "decisions about nothing: {lines:?}");
}
