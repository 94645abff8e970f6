//! What the process before hands on.

use super::*;
use crate::store::NumberedChange;

#[test]
fn a_process_that_takes_over_keeps_the_order_of_the_process_before() {
    let scene = scene();
    let since = scene.ledger.moment();
    let shown = |id| Change::Shown(Announcement { control_id: ControlId(id), numbers: Vec::new(), shown: Vec::new() });
    let at = |millis: u64| Timestamp(1_000_000 - 10 + millis);
    // They arrive later than they were made, all at once.
    scene.ledger.adopt(agent(101), shown(1), at(0), since);
    scene.ledger.adopt(agent(101), shown(2), at(2), since);
    scene.ledger.adopt(agent(101), Change::EndedBefore(at(1)), at(3), since);
    assert_eq!(scene.control_ids(101), [2]);
    // A clock that is ahead makes no preview older or younger than now.
    scene.ledger.adopt(agent(101), shown(3), Timestamp(u64::MAX), since);
    let previews = scene.ledger.local().previews(agent(101)).unwrap();
    assert_eq!(previews.find(ControlId(3)).unwrap().announced_at, Timestamp(1_000_000));
}

#[test]
fn changes_go_to_the_process_that_takes_over_as_long_as_there_is_one() {
    let scene = scene();
    let (succession, mut received, _acknowledge) = Succession::new();
    scene.ledger.hand_on(Some(succession));
    scene.ledger.end(agent(101), Change::Ended, EndCause::Released);
    let NumberedChange { number, change, at, .. } = received.try_recv().unwrap();
    assert_eq!((number, change, at), (1, Change::Ended, Timestamp(1_000_000)));
    scene.ledger.hand_on(None);
    scene.ledger.end(agent(101), Change::Ended, EndCause::Released);
    assert!(received.try_recv().is_err());
}

#[test]
fn a_preview_of_an_earlier_session_is_not_taken_over_and_an_end_is() {
    let scene = scene();
    let since = scene.ledger.moment();
    let shown = |id| Change::Shown(Announcement { control_id: ControlId(id), numbers: Vec::new(), shown: Vec::new() });
    let now = Timestamp(1_000_000);
    scene.ledger.adopt(agent(101), shown(1), now, since);
    let sign_in = SignIn { began: scene.ledger.moment_of_sign_in(), pushes: false, session: None };
    scene.ledger.sign_in(agent(101), &sign_in);
    scene.ledger.adopt(agent(101), shown(2), now, since);
    assert_eq!(scene.control_ids(101), [] as [i64; 0]);
    scene.poll(101, "own", scene.ledger.moment(), &[preview(101, 3, 1)]);
    scene.ledger.adopt(agent(101), Change::Cancelled(ControlId(3)), now, since);
    assert_eq!(scene.control_ids(101), [] as [i64; 0]);
}
