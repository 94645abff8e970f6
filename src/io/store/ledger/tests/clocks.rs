//! The machine's clock was wrong at the start, or is set while the gateway runs.

use super::killed::cut_off;
use super::*;
use crate::preview::{Callout, DialedNumber, Reason, Refusal, decide};
use crate::store::snapshot::SnapshotFile;

const HOUR: i64 = 3_600_000;
const START: Timestamp = Timestamp(1_700_000_000_000);
const TTL: Duration = Duration::from_secs(60);

fn ledger(clock: &Arc<ManualClock>) -> Scene {
    let metrics = Arc::new(Metrics::new());
    Scene { ledger: Ledger::new(&config(), clock.clone(), Arc::clone(&metrics)), clock: Arc::clone(clock), metrics }
}

fn shown(scene: &Scene, control_id: i64) {
    scene.poll(101, "guid", scene.ledger.moment(), &[preview(101, control_id, 1)]);
}

/// What a callout of this preview is judged to be.
fn judged(ledger: &Ledger, control_id: i64) -> Reason {
    let callout = Callout { called: DialedNumber::new("100"), control_id: ControlId(control_id) };
    let previews = match &ledger.shared {
        Some(shared) => shared.previews(agent(101)),
        None => ledger.local().previews(agent(101)).map(Arc::unwrap_or_clone).unwrap_or_default(),
    };
    decide(&callout, &previews, ledger.clock().now(), TTL).map_or_else(Refusal::reason, |_| Reason::Ok)
}

#[test]
fn a_step_of_the_wall_clock_neither_revives_nor_expires_what_this_process_has_seen() {
    for step in [HOUR, -HOUR, 30_000, -30_000] {
        let scene = ledger(&Arc::new(ManualClock::new(START)));
        shown(&scene, 7);
        scene.clock.advance(Duration::from_secs(40));
        scene.clock.set_wall_ahead(step);
        assert_eq!(scene.ledger.follow_wall_clock(), Some(step));
        shown(&scene, 8);
        scene.clock.advance(Duration::from_secs(20));
        assert_eq!([7, 8].map(|id| judged(&scene.ledger, id)), [Reason::Ok, Reason::Ok], "{step}");
        scene.clock.advance(Duration::from_secs(1));
        assert_eq!([7, 8].map(|id| judged(&scene.ledger, id)), [Reason::PreviewExpired, Reason::Ok], "{step}");
        assert_eq!(scene.ledger.follow_wall_clock(), None);
        // The machine is suspended: no step, and time that counts.
        scene.clock.advance(Duration::from_secs(600));
        assert_eq!((scene.ledger.follow_wall_clock(), judged(&scene.ledger, 8)), (None, Reason::PreviewExpired));
    }
}

/// A gateway runs, is ended, and runs again.
struct Restarted {
    _directory: tempfile::TempDir,
    scene: Scene,
    snapshot: SnapshotFile,
}

/// 7 is shown 50 s before the save, and 8 10 s before it. The next run begins 20 s later, at a wall clock that is wrong.
fn restarted(wrong: i64) -> Restarted {
    let directory = tempfile::tempdir().unwrap();
    let file = || SnapshotFile::open(directory.path().join("previews.snapshot"), TTL, 100).unwrap();
    let before = ledger(&Arc::new(ManualClock::new(START)));
    shown(&before, 7);
    before.clock.advance(Duration::from_secs(40));
    shown(&before, 8);
    before.clock.advance(Duration::from_secs(10));
    let snapshot = file();
    snapshot.save(&before.ledger, &*before.clock).unwrap();
    drop(snapshot);
    let now = Timestamp((START.0 + 70_000).saturating_add_signed(wrong));
    let (scene, snapshot) = (ledger(&Arc::new(ManualClock::new(now))), file());
    snapshot.restore(&scene.ledger, now);
    Restarted { _directory: directory, scene, snapshot }
}

#[test]
fn a_gateway_whose_wall_clock_is_wrong_at_the_start_heals_when_that_is_set() {
    for wrong in [HOUR, -HOUR, 24 * HOUR, -24 * HOUR, 15_000, -15_000, 0] {
        let Restarted { scene, .. } = restarted(wrong);
        scene.clock.set_wall_ahead(-wrong);
        assert_eq!(scene.ledger.follow_wall_clock().is_some(), wrong != 0);
        let found = [7, 8].map(|id| judged(&scene.ledger, id));
        assert_eq!(found, [Reason::PreviewExpired, Reason::Ok], "{wrong}: 70 s and 30 s old");
        scene.clock.advance(Duration::from_secs(31));
        assert_eq!(judged(&scene.ledger, 8), Reason::PreviewExpired, "{wrong}");
    }
}

#[test]
fn a_wall_clock_that_is_set_wrong_makes_nothing_younger_than_it_was_saved() {
    let Restarted { scene, .. } = restarted(0);
    scene.clock.set_wall_ahead(-HOUR);
    scene.ledger.follow_wall_clock();
    let age = |id| {
        let previews = scene.ledger.local().previews(agent(101)).unwrap();
        scene.clock.now().since(previews.find(ControlId(id)).unwrap().announced_at).as_secs()
    };
    assert_eq!([7, 8].map(age), [50, 10]);
}

/// Files of a run whose clock was set must be understood by the next, at whatever point this one is killed.
#[test]
fn after_a_step_nothing_is_fresh_that_is_not_and_nothing_that_ended_comes_back() {
    for wrong in [HOUR, -HOUR] {
        for save_after_step in [false, true] {
            let Restarted { _directory, scene, snapshot } = restarted(wrong);
            scene.ledger.start_journal(snapshot.start_journal(Arc::clone(&scene.metrics)).unwrap());
            shown(&scene, 9);
            shown(&scene, 10);
            snapshot.save(&scene.ledger, &*scene.clock).unwrap();
            scene.clock.advance(Duration::from_secs(5));
            scene.clock.set_wall_ahead(-wrong);
            scene.ledger.follow_wall_clock();
            if save_after_step {
                snapshot.save(&scene.ledger, &*scene.clock).unwrap();
            }
            // Between the step and the next save.
            scene.ledger.end(agent(101), Change::Cancelled(ControlId(9)), EndCause::Cancelled);
            // The journal has it when this returns.
            scene.ledger.journal.get().unwrap().rotate(Vec::new(), 0).unwrap();
            let clock = scene.clock.clone();
            drop(scene);
            let path = snapshot.path().to_owned();
            drop(snapshot);
            // The wall clock is right now.
            let now = clock.wall().after(Duration::from_secs(10));
            let next = ledger(&Arc::new(ManualClock::new(now)));
            SnapshotFile::open(path, TTL, 100).unwrap().restore(&next.ledger, now);
            assert_ne!(judged(&next.ledger, 7), Reason::Ok, "{wrong} {save_after_step}: 85 s old");
            assert_ne!(judged(&next.ledger, 9), Reason::Ok, "{wrong} {save_after_step}: it has ended");
            if save_after_step {
                assert_eq!(judged(&next.ledger, 8), Reason::Ok, "{wrong}: 45 s old");
                assert_eq!(judged(&next.ledger, 10), Reason::Ok, "{wrong}: 15 s old");
            }
        }
    }
}

#[test]
fn what_waits_for_redis_has_the_right_time_once_that_is_known() {
    for by in [HOUR, -HOUR] {
        let (ledger, metrics, _) = cut_off();
        let scene = Scene { ledger, clock: Arc::new(ManualClock::new(START)), metrics };
        let held = scene.ledger.moment();
        shown(&scene, 7);
        scene.ledger.correct_clock(by, true);
        shown(&scene, 8);
        assert_eq!([7, 8].map(|id| judged(&scene.ledger, id)), [Reason::Ok, Reason::Ok], "{by}");
        // A sign-in ends what was shown before, and what polls bring that began before.
        let began = scene.ledger.moment_of_sign_in();
        scene.ledger.sign_in(agent(101), &SignIn { began, pushes: false, session: None });
        scene.poll(101, "guid", held, &[preview(101, 9, 1)]);
        assert_eq!([7, 8, 9].map(|id| judged(&scene.ledger, id)), [Reason::UnknownPreview; 3], "{by}");
        scene.poll(101, "guid", scene.ledger.moment(), &[preview(101, 10, 1)]);
        assert_eq!(judged(&scene.ledger, 10), Reason::Ok, "{by}");
    }
}

#[test]
fn a_sign_in_that_begins_before_a_step_ends_the_previews_of_before_and_no_others() {
    for by in [HOUR, -HOUR] {
        let (ledger, metrics, _) = cut_off();
        let scene = Scene { ledger, clock: Arc::new(ManualClock::new(START)), metrics };
        shown(&scene, 7);
        let began = scene.ledger.moment_of_sign_in();
        // The first push of the new session comes before the answer to the sign-in.
        scene.push(101, scene.ledger.moment(), &[preview(101, 8, 1)]);
        scene.ledger.correct_clock(by, true);
        scene.ledger.sign_in(agent(101), &SignIn { began, pushes: true, session: None });
        assert_eq!(scene.control_ids(101), [8], "{by}");
        assert_eq!([7, 8].map(|id| judged(&scene.ledger, id)), [Reason::ControlIdMismatch, Reason::Ok], "{by}");
    }
}
