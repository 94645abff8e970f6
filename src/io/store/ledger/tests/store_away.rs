//! A shared store that was never reached.

use super::*;
use crate::store::Unavailable;

/// `settings` are those of `[previews.store]`.
fn away(settings: &str) -> Scene {
    let text = format!(
        "upstream.endpoints = [\"http://h\"]\n[previews.store]\nkind = \"redis\"\nurl = \"redis://127.0.0.1:1\"\n{settings}\n"
    );
    let config = crate::config::parse(&text, std::path::Path::new("/"), crate::config::Files::Skip).unwrap();
    let (clock, metrics) = (Arc::new(ManualClock::new(Timestamp(1_000_000))), Arc::new(Metrics::new()));
    Scene { ledger: Ledger::new(&config.previews, clock.clone(), Arc::clone(&metrics)), clock, metrics }
}

#[test]
fn it_is_joined_and_fails_and_other_gateways_are_to_be_told() {
    let scene = away("");
    assert!(scene.ledger.is_shared() && scene.ledger.is_joining());
    assert_eq!(scene.ledger.state(), StoreState::Failing);
    assert!(scene.ledger.store_condition().is_some_and(|condition| condition.node.is_none()));
    scene.ledger.learn_session(agent(101), b"own");
    assert!(scene.ledger.renew_session(agent(101), b"own", b"new"));
}

#[tokio::test(start_paused = true)]
async fn on_store_failure_decides_what_a_callout_is_judged_by() {
    for (word, known, unknown, source) in [
        ("local", Ok(Some(1)), Ok(None), PreviewSource::Memory),
        ("reject", Err(Unavailable::Reject), Err(Unavailable::Reject), PreviewSource::Shared),
        ("forward", Err(Unavailable::Forward), Err(Unavailable::Forward), PreviewSource::Shared),
    ] {
        let scene = away(&format!("on_store_failure = \"{word}\""));
        scene.poll(101, "own", scene.ledger.moment(), &[preview(101, 7, 1)]);
        for (number, expected) in [(101, known), (102, unknown)] {
            let found = scene.ledger.look_up(agent(number), b"own").await;
            let previews = found.previews.map(|previews| previews.map(|previews| previews.len()));
            assert_eq!((previews, found.source, found.away), (expected, source, true), "{word} {number}");
        }
    }
}

#[test]
fn what_it_is_to_learn_counts_in_what_is_known_here() {
    let scene = away("");
    let shared = |number| {
        let previews = scene.ledger.shared_previews(agent(number)).unwrap();
        previews.iter().map(|preview| preview.control_id.0).collect::<Vec<_>>()
    };
    scene.poll(101, "own", scene.ledger.moment(), &[preview(101, 7, 1), preview(101, 8, 1)]);
    assert_eq!((shared(101), shared(102)), (vec![7, 8], vec![]));
    // Ends of an earlier run end what was shown before them, and nothing that was shown since.
    let before = Timestamp(scene.clock.now().0 - 1000);
    scene.ledger.share_earlier_ends([(agent(101), Some(ControlId(7)), before), (agent(101), None, before)]);
    assert_eq!(shared(101), [7, 8]);
    let after = Timestamp(scene.clock.now().0 + 1000);
    scene.ledger.share_earlier_ends([(agent(101), Some(ControlId(7)), after)]);
    assert_eq!(shared(101), [8]);
    scene.ledger.share_earlier_ends([(agent(101), None, after)]);
    assert_eq!(shared(101), [] as [i64; 0]);
}
