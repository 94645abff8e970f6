//! What the process before hands on.

use super::calls::one_call;
use super::*;
use crate::preview::{AgentPreviews, Callout, CountedCall, DialedNumber, RecordId};
use crate::store::{Acknowledged, Counted, NumberedChange, Unavailable};

const NOW: Timestamp = Timestamp(1_000_000);

#[test]
fn a_call_of_the_process_before_counts_unless_it_is_one_too_many() {
    let ledger = one_call();
    let since = ledger.moment();
    let id = |number| RecordId { run: 1, number };
    let called = |number| {
        Change::Called(ControlId(7), CountedCall { number: DialedNumber::new("100"), id: id(number), at: NOW })
    };
    let returned = Change::CallReturned(ControlId(7), id(1));
    for (change, counts) in [(called(1), true), (called(2), false), (returned, true), (called(3), true)] {
        assert_eq!(ledger.adopt(agent(101), change.clone(), NOW, since), counts, "{change:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_counts_if_the_process_that_takes_over_has_not_used_it_up() {
    for (answer, expected) in [
        (Some(false), Ok(Counted::Yes)),
        (Some(true), Ok(Counted::UsedElsewhere)),
        // It does not answer.
        (None, Err(Unavailable::Reject)),
    ] {
        let ledger = one_call();
        let (succession, mut received, acknowledge) = Succession::new();
        ledger.hand_on(Some(succession));
        if let Some(used) = answer {
            acknowledge.send_modify(|known: &mut Acknowledged| known.note(1, used));
        }
        let callout = Callout { called: DialedNumber::new("100"), control_id: ControlId(7) };
        let id = RecordId { run: 1, number: 1 };
        let mut judge = |_: &Arc<AgentPreviews>| true;
        assert_eq!(ledger.count_call(agent(101), &callout, id, &mut judge).await, expected);
        assert!(matches!(received.try_recv().unwrap().change, Change::Called(..)), "{answer:?}");
        // What does not count is given back, here and there.
        let counts = expected == Ok(Counted::Yes);
        let returned = received.try_recv().ok().map(|change| change.change);
        assert_eq!(returned, (!counts).then_some(Change::CallReturned(ControlId(7), id)), "{answer:?}");
        let known = ledger.local().previews(agent(101)).unwrap();
        let calls = known.iter().map(|preview| preview.calls.iter().count()).collect::<Vec<_>>();
        assert_eq!(calls, [usize::from(counts)], "{answer:?}");
    }
}

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
