//! A model of the protocol, searched exhaustively: every order of steps of two gateways, one Redis and one preview, with the
//! faults that a search allows.
//!
//! The model has no copy of the rules: records, replicas and their merging are the gateway's own. Two properties are
//! checked in every state:
//! - **S**: no gateway forwards a callout of a preview whose end was delivered to a client.
//! - **L**: once nothing is under way, every gateway forwards a callout of a preview that was shown and not ended.
//! - **M**: with `calls_per_number = 1`, at most one callout of a number is forwarded.
//!
//! That one callout is sent at most once does not depend on the store: `upstream::Failure` and `tests/it/at_most_once` see
//! to it. A callout that was judged before an end, and is forwarded after a pause, began before that end: no property
//! forbids it.

mod counting;
mod world;

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;

use self::world::{Event, Fault, Guarantee, Step, World};

/// Events that follow each other faster than clocks differ.
const AT_ONCE: u64 = 10;
/// Events that are further apart than clocks differ: then no preview is lost for lack of a known order.
const APART: u64 = 10_000;

/// The shortest way to a state that `is_wrong` describes, if there is one.
fn search<W: Copy>(
    guarantee: Guarantee,
    faults: &[Fault],
    interval: u64,
    bounds: (usize, u32),
    is_wrong: impl Fn(&World) -> Option<W>,
) -> Option<(Vec<Step>, W)> {
    search_from(World::new(guarantee, faults, interval), faults, bounds, is_wrong)
}

fn search_from<W: Copy>(
    start: World,
    faults: &[Fault],
    (max_events, max_faults): (usize, u32),
    is_wrong: impl Fn(&World) -> Option<W>,
) -> Option<(Vec<Step>, W)> {
    let mut came_from: HashMap<World, Option<(World, Step)>> = HashMap::from([(start.clone(), None)]);
    let mut waiting = VecDeque::from([start]);
    while let Some(world) = waiting.pop_front() {
        if let Some(wrong) = is_wrong(&world) {
            return Some((way_to(&world, &came_from), wrong));
        }
        for step in world.steps(faults, max_events, max_faults) {
            let next = world.after(step);
            if !came_from.contains_key(&next) {
                came_from.insert(next.clone(), Some((world.clone(), step)));
                waiting.push_back(next);
            }
        }
    }
    None
}

fn way_to(world: &World, came_from: &HashMap<World, Option<(World, Step)>>) -> Vec<Step> {
    let (mut steps, mut here) = (Vec::new(), world);
    while let Some(Some((before, step))) = came_from.get(here) {
        steps.push(*step);
        here = before;
    }
    steps.reverse();
    steps
}

/// With a durable Redis, no fault makes a *strict* gateway forward what has ended.
#[test]
fn strict_forwards_nothing_that_has_ended() {
    let all = vec![Fault::Clocks, Fault::CutOff, Fault::Kill, Fault::Pause];
    for (faults, bounds) in [
        (vec![], (4, 0)),
        (vec![Fault::CutOff], (3, 1)),
        (vec![Fault::CutOff], (2, 2)),
        (vec![Fault::Kill], (3, 1)),
        (vec![Fault::Pause], (3, 2)),
        (all, (2, 1)),
    ] {
        let found = search(Guarantee::Strict, &faults, AT_ONCE, bounds, World::wrong_forward);
        assert!(found.is_none(), "{faults:?}: {found:#?}");
    }
}

#[test]
fn what_was_shown_can_be_called_everywhere_once_everything_is_healed() {
    for guarantee in [Guarantee::Strict, Guarantee::Available] {
        for (fault, bounds) in
            [(Fault::CutOff, (2, 2)), (Fault::Pause, (3, 1)), (Fault::MemoryLost, (2, 1)), (Fault::Failover, (2, 1))]
        {
            let faults = [fault];
            let found = search(guarantee, &faults, APART, bounds, World::wrong_refusal);
            assert!(found.is_none(), "{guarantee:?} {faults:?}: {found:#?}");
        }
    }
}

/// With a durable Redis, no fault makes *strict* gateways forward one callout too many.
#[test]
fn strict_forwards_no_more_callouts_than_are_permitted() {
    for faults in
        [vec![], vec![Fault::CutOff], vec![Fault::Kill], vec![Fault::Pause], vec![Fault::CutOff, Fault::Pause]]
    {
        let start = World::new(Guarantee::Strict, &faults, AT_ONCE).counting(3);
        let found = search_from(start, &faults, (1, 2), World::called_too_often);
        assert!(found.is_none(), "{faults:?}: {found:#?}");
    }
}

/// A gateway that can reach Redis does not forward what has ended, although Redis has lost it.
#[test]
fn available_forwards_what_has_ended_only_where_security_md_says_so() {
    let security = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../SECURITY.md")).unwrap();
    let (begin, end) = ("<!-- begin: what the model finds for available -->\n", "<!-- end -->");
    let listed = security.split_once(begin).and_then(|(_, rest)| rest.split_once(end)).map(|(list, _)| list);
    let generated = what_the_model_finds();
    assert_eq!(listed, Some(generated.as_str()), "SECURITY.md should have this between its marks:\n{generated}");
}

/// For each fault, the shortest way to a wrong forward.
fn what_the_model_finds() -> String {
    let mut text = String::new();
    for (fault, name) in [
        (None, "No fault"),
        (Some(Fault::CutOff), "A gateway is cut off from Redis"),
        (Some(Fault::Kill), "A gateway is killed and started again, with its journal"),
        (Some(Fault::MemoryLost), "Redis loses its memory"),
        (Some(Fault::Failover), "Redis fails over to a replica that lacks the last writes"),
        (Some(Fault::Clocks), "The clocks of the gateways differ"),
        (Some(Fault::Pause), "A gateway is paused, and goes on"),
    ] {
        let faults: Vec<_> = fault.into_iter().collect();
        // Writing to a string cannot fail.
        let _ = match search(Guarantee::Available, &faults, AT_ONCE, (3, 1), World::wrong_forward) {
            None => writeln!(text, "- {name}: nothing that has ended is forwarded."),
            Some((steps, wrong)) => {
                let told: Vec<_> = steps.iter().map(|step| told(*step)).collect();
                writeln!(text, "- {name}: {}; a call through {} is forwarded.", told.join("; "), letter(wrong))
            }
        };
        // A gateway that is killed has its calls from its journal, which is not modelled.
        if fault == Some(Fault::Kill) {
            continue;
        }
        let start = World::new(Guarantee::Available, &faults, AT_ONCE).counting(2);
        if let Some((steps, _)) = search_from(start, &faults, (1, 1), World::called_too_often) {
            let told: Vec<_> = steps.iter().map(|step| told(*step)).collect();
            let _ = writeln!(
                text,
                "- {name}, and `calls_per_number = 1`: {}: the number was called twice.",
                told.join("; ")
            );
        }
    }
    text
}

fn letter(gateway: usize) -> char {
    if gateway == 0 { 'A' } else { 'B' }
}

fn told(step: Step) -> String {
    match step {
        Step::Happens(Event::Shown, gateway) => format!("shown through {}", letter(gateway)),
        Step::Happens(Event::Ended, gateway) => format!("ended through {}", letter(gateway)),
        Step::Happens(Event::ShownAnew, gateway) => format!("ended and shown anew through {}", letter(gateway)),
        Step::Writes(gateway) => format!("{} writes", letter(gateway)),
        Step::WritesUnknowingly(gateway) => format!("{} writes and loses the connection", letter(gateway)),
        Step::Fails(gateway) => format!("{} cannot write", letter(gateway)),
        Step::Answers(gateway) => format!("the client of {} has the answer", letter(gateway)),
        Step::Hears(gateway) => format!("{} hears of a write", letter(gateway)),
        Step::Heals(gateway) => format!("{} compares all with Redis", letter(gateway)),
        Step::Replicates => "Redis replicates".to_owned(),
        Step::IsCutOff(gateway) => format!("{} is cut off", letter(gateway)),
        Step::IsConnected(gateway) => format!("{} is connected again", letter(gateway)),
        Step::IsKilled(gateway) => format!("{} is killed", letter(gateway)),
        Step::LosesMemory => "Redis is empty".to_owned(),
        Step::FailsOver => "Redis fails over".to_owned(),
        Step::Pauses(gateway) => format!("{} is paused while it writes", letter(gateway)),
        Step::PausesInCall(gateway) => format!("{} is paused in a call", letter(gateway)),
        Step::Resumes(gateway) => format!("{} goes on", letter(gateway)),
        Step::Calls(gateway) => format!("a call through {}", letter(gateway)),
        Step::CallsUnknowingly(gateway) => format!("a call through {}, which loses the connection", letter(gateway)),
    }
}
