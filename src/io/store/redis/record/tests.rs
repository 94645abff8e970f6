//! How records are merged, and what becomes of changes that come in time and late.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::super::guid_key::GuidHash;
use super::*;
use crate::preview::Announcement;

const BOUNDS: Bounds = Bounds { per_agent: 4 };

fn shown(control_id: i64, number: &str) -> Change {
    Change::Shown(Announcement {
        control_id: ControlId(control_id),
        numbers: vec![DialedNumber::new(number)],
        shown: Vec::new(),
    })
}

/// Announces the number of this name under control ID 1, in the record of this name.
fn recorded(name: u64) -> Change {
    let Change::Shown(announcement) = shown(1, &name.to_string()) else { panic!() };
    let reference = format!("{name:016x}-1@2026-11:00000001").parse().unwrap();
    Change::Shown(Announcement { shown: vec![reference], ..announcement })
}

/// The records that explain what may be called.
fn names(record: &Record) -> Vec<u64> {
    record.previews(BOUNDS).iter().flat_map(|preview| &preview.shown).map(|shown| shown.record.run).collect()
}

fn at(millis: u64, change: Change) -> TimedChange {
    TimedChange::new(change, Timestamp(millis), SessionRelation::Any)
}

fn late(millis: u64, change: Change) -> TimedChange {
    TimedChange { late: true, ..at(millis, change) }
}

fn after(changes: &[TimedChange]) -> Record {
    let mut record = Record::default();
    record.apply_all(changes, BOUNDS);
    record
}

fn ids(record: &Record) -> Vec<i64> {
    record.previews(BOUNDS).iter().map(|preview| preview.control_id.0).collect()
}

fn control_ids(changes: &[TimedChange]) -> Vec<i64> {
    ids(&after(changes))
}

fn written_and_read(record: &Record) -> Record {
    Record::from_json(&record.to_json(), BOUNDS).unwrap()
}

fn fence(at: u64) -> Fence {
    Fence { polls: Some(Timestamp(at)), pushes: Some(Timestamp(at)) }
}

fn begins(millis: u64) -> TimedChange {
    TimedChange { session: SessionRelation::Begins(fence(millis)), ..at(millis, Change::Ended) }
}

fn polled(began: u64, change: TimedChange) -> TimedChange {
    TimedChange { session: SessionRelation::PolledSince(Timestamp(began)), ..change }
}

fn pushed(arrived: u64, change: TimedChange) -> TimedChange {
    TimedChange { session: SessionRelation::PushedAt(Timestamp(arrived)), ..change }
}

const CANCEL_1: Change = Change::Cancelled(ControlId(1));

#[test]
fn what_was_shown_since_the_moment_of_an_end_stays_whenever_the_end_comes() {
    let ended_before_5 = || Change::EndedBefore(Timestamp(5));
    for (changes, expected) in [
        (vec![at(4, shown(1, "1")), at(5, shown(2, "2")), at(9, ended_before_5())], vec![2]),
        (vec![at(4, shown(1, "1")), at(5, shown(2, "2")), at(9, shown(3, "3")), late(8, ended_before_5())], vec![2, 3]),
        // Shown to the session before, and written when that was over; and shown to the new one.
        (vec![at(9, ended_before_5()), late(4, shown(1, "1")), late(5, shown(2, "2"))], vec![2]),
    ] {
        assert_eq!(control_ids(&changes), expected, "{changes:?}");
    }
}

#[test]
fn what_comes_in_time_is_later_than_what_is_known_whatever_the_clocks_say() {
    assert_eq!(control_ids(&[at(9, shown(1, "1")), at(5, Change::Ended)]), [] as [i64; 0]);
    assert_eq!(control_ids(&[at(9, Change::Ended), at(5, shown(1, "1"))]), [1]);
    assert_eq!(control_ids(&[at(9, Change::Ended), at(5, shown(1, "1")), at(3, CANCEL_1)]), [] as [i64; 0]);
    // Within one millisecond, and within one answer.
    assert_eq!(control_ids(&[at(5, shown(1, "1")), at(5, Change::Ended), at(5, shown(2, "2"))]), [2]);
}

#[test]
fn what_comes_late_takes_the_place_that_its_time_gives_it() {
    for (changes, expected) in [
        // An end undoes what was before it, and nothing else.
        (vec![at(1, shown(1, "1")), at(9, shown(2, "2")), late(5, Change::Ended)], vec![2]),
        (vec![at(1, shown(1, "1")), at(9, shown(2, "2")), late(5, CANCEL_1)], vec![2]),
        (vec![at(9, shown(1, "1")), late(5, CANCEL_1)], vec![1]),
        // What was ended in the meantime does not come back.
        (vec![at(9, Change::Ended), late(5, shown(1, "1"))], vec![]),
        (vec![at(9, CANCEL_1), late(5, shown(1, "1")), late(5, shown(2, "2"))], vec![2]),
        // One answer that ends a preview and shows the next.
        (vec![at(1, shown(1, "1")), late(5, Change::Ended), late(6, shown(2, "2"))], vec![2]),
        (vec![at(9, shown(2, "2")), late(5, shown(1, "1"))], vec![1, 2]),
        // Of one millisecond, the end wins: the order is not known.
        (vec![at(5, shown(1, "1")), late(5, Change::Ended)], vec![]),
    ] {
        assert_eq!(control_ids(&changes), expected, "{changes:?}");
    }
}

#[test]
fn a_late_announcement_takes_its_place_with_its_record() {
    let record = after(&[at(1, recorded(1)), at(9, recorded(9)), late(5, recorded(5))]);
    assert_eq!(names(&written_and_read(&record)), [1, 5, 9]);
}

#[test]
fn what_is_applied_twice_is_applied_once() {
    let changes = [at(1, shown(1, "1")), at(2, Change::Ended), at(3, shown(2, "2")), at(4, shown(3, "3"))];
    let once = after(&changes);
    let again = changes.map(|dated| TimedChange { late: true, ..dated });
    let mut twice = once.clone();
    twice.apply_all(&again, BOUNDS);
    assert_eq!(twice, once);
}

#[test]
fn numbers_add_up_in_the_order_of_their_times() {
    let previews = after(&[at(9, shown(1, "9")), late(5, shown(1, "5"))]).previews(BOUNDS);
    let preview = previews.find(ControlId(1)).unwrap();
    let numbers: Vec<_> = preview.numbers().map(DialedNumber::reveal).collect();
    assert_eq!((numbers, preview.announced_at), (vec!["5", "9"], Timestamp(9)));
}

#[test]
fn survives_redis() {
    let pushed = TimedChange { session: SessionRelation::PushedAt(Timestamp(7)), ..at(9, shown(8, "8")) };
    let over = TimedChange { session: SessionRelation::Over(fence(4)), ..at(4, CANCEL_1) };
    let changes = [at(0, Change::Ended), at(1, shown(-7, "00 49,#")), over, polled(6, at(8, shown(5, "5"))), pushed];
    let record = after(&changes);
    assert_eq!(ids(&record), [-7, 5, 8]);
    assert_eq!(written_and_read(&record), record);
    let record = after(&[begins(5), learnt(5, 1, true), learnt(6, 2, false)]);
    assert_eq!(written_and_read(&record), record);
    for broken in ["", "{}", "[]", "{\"previews\":[{\"id\":1}],\"ended\":null,\"cancelled\":[]}"] {
        assert!(Record::from_json(broken.as_bytes(), BOUNDS).is_err(), "{broken}");
    }
}

#[test]
fn a_late_end_ends_the_numbers_shown_before_it_and_leaves_those_shown_since() {
    for end in [Change::Ended, CANCEL_1, Change::EndedBefore(Timestamp(5))] {
        let record = written_and_read(&after(&[at(1, recorded(1)), at(9, recorded(9)), late(5, end.clone())]));
        assert_eq!(names(&record), [9], "the records of what is over explain nothing any more");
        let previews = record.previews(BOUNDS);
        let numbers: Vec<_> = previews.find(ControlId(1)).unwrap().numbers().cloned().collect();
        assert_eq!(numbers, [DialedNumber::new("9")], "{end:?}");
        assert!(record.has_lost_previews(&after(&[at(1, shown(1, "1"))])));
    }
}

#[test]
fn what_a_poll_shows_that_began_before_a_sign_in_is_dropped_in_whatever_order_they_come() {
    let changes = [begins(5), polled(4, at(9, shown(1, "1"))), polled(5, at(9, shown(2, "2"))), at(9, shown(3, "3"))];
    assert_eq!(ids(&written_and_read(&after(&changes))), [2, 3]);
    // The sign-in comes last and late: the gateway that saw it was cut off.
    let [begins, rest @ ..] = &changes;
    let mut record = written_and_read(&after(rest));
    record.apply_all(&[TimedChange { late: true, ..begins.clone() }], BOUNDS);
    assert_eq!(ids(&record), [2, 3]);
}

#[test]
fn a_push_that_a_gateway_held_is_over_when_a_later_session_has_begun() {
    let pushed = |arrived, change| TimedChange { session: SessionRelation::PushedAt(Timestamp(arrived)), ..change };
    // The first push of the new session may arrive before the answer to its sign-in.
    let fence = Fence { polls: Some(Timestamp(8)), pushes: Some(Timestamp(5)) };
    let sign_in = TimedChange { session: SessionRelation::Begins(fence), ..at(8, Change::EndedBefore(Timestamp(5))) };
    let record = after(&[sign_in, pushed(4, at(9, shown(1, "1"))), pushed(5, at(9, shown(2, "2")))]);
    assert_eq!(ids(&record), [2]);
}

#[test]
fn records_of_earlier_versions_are_read() {
    let json = br#"{"previews":[{"id":1,"numbers":["5","6"],"at":9}],"ended":3,"cancelled":[]}"#;
    let record = Record::from_json(json, BOUNDS).unwrap();
    let previews = record.previews(BOUNDS);
    let numbers = &previews.find(ControlId(1)).unwrap().numbers;
    assert!(numbers.len() == 2 && numbers.iter().all(|shown| shown.shown_at == Timestamp(9)), "{record:?}");
    // One answer has ended everything and shown this, in the same millisecond.
    let json =
        br#"{"previews":[{"id":1,"numbers":["5"],"at":9,"times":[9]}],"ended":9,"cancelled":[[1,9]],"signed_in":4}"#;
    assert_eq!(ids(&Record::from_json(json, BOUNDS).unwrap()), [1]);
}

#[test]
fn no_end_is_forgotten_when_there_are_too_many() {
    let mut record = after(&[at(1, shown(1_000, "1"))]);
    let ends: Vec<_> = (0..200).map(|id| at(id + 2, Change::Cancelled(ControlId(id as i64)))).collect();
    record.apply_all(&ends, BOUNDS);
    assert_eq!((record.ends.single.len(), ids(&record)), (MAX_SINGLE_ENDS, vec![]));
    let earlier: Vec<_> = (0..200).map(|id| late(1, shown(id, "1"))).collect();
    record.apply_all(&earlier, BOUNDS);
    assert_eq!(ids(&record), [] as [i64; 0]);
}

#[test]
fn the_age_of_a_preview_counts_by_the_clock_although_its_place_is_later() {
    let record = written_and_read(&after(&[at(900, Change::Ended), at(5, shown(1, "1"))]));
    let times: Vec<_> = record.previews(BOUNDS).iter().map(|preview| preview.announced_at.0).collect();
    assert_eq!((times, record.latest()), (vec![5], Some(Timestamp(901))));
}

#[test]
fn a_late_preview_counts_after_an_end_elsewhere_only_if_clocks_cannot_be_the_reason() {
    let ended = after(&[at(5_000, Change::Ended)]);
    for (millis, known_end, expected) in [
        (5_001, None, vec![]),
        (7_000, None, vec![]),
        (7_001, None, vec![1]),
        // Its gateway knew of the end.
        (5_001, Some(Timestamp(5_001)), vec![1]),
    ] {
        let mut record = ended.clone();
        record.apply_all(&[TimedChange { known_end, ..late(millis, shown(1, "1")) }], BOUNDS);
        assert_eq!(ids(&record), expected, "{millis} {known_end:?}");
    }
}

/// One answer ends a preview and shows the next. Redis has executed the write, but its answer was lost. The second attempt is
/// one whose end counts from now (*strict*).
#[test]
fn the_second_attempt_of_an_answer_that_ends_and_shows_loses_nothing() {
    let known_end = Some(Timestamp(6));
    let changes = [at(5, Change::Ended), TimedChange { known_end, ..at(6, shown(2, "2")) }];
    let mut record = after(&changes);
    let [end, shown] = changes;
    record.apply_all(&[end, TimedChange { late: true, ..shown }], BOUNDS);
    assert_eq!(ids(&record), [2]);
}

#[test]
fn what_is_older_than_the_lifetime_is_dropped() {
    let mut record = after(&[at(1, CANCEL_1), at(50, shown(2, "2")), at(90, shown(3, "3"))]);
    record.expire(Timestamp(100), Duration::from_millis(50));
    assert_eq!((ids(&record), record.ends.single.len()), (vec![2, 3], 0));
    record.expire(Timestamp(101), Duration::from_millis(50));
    assert_eq!(ids(&record), [3]);
}

#[test]
fn a_record_is_bounded_whoever_has_written_it() {
    let changes: Vec<_> = (0..9).map(|id| at(id, shown(id as i64, "1"))).collect();
    let record = after(&changes);
    assert_eq!(ids(&record), [5, 6, 7, 8]);
    let read = Record::from_json(&record.to_json(), Bounds { per_agent: 2 }).unwrap();
    assert_eq!(ids(&read), [7, 8]);
}

fn guid(number: u32) -> GuidHash {
    format!("{number:032x}").parse().unwrap()
}

fn key(number: u32) -> KeyId {
    format!("{number:08x}").parse().unwrap()
}

fn learnt(millis: u64, number: u32, begins: bool) -> TimedChange {
    let learnt = SharedLearnt { key: key(1), learnt: Learnt { guid: Some(guid(number)), begins } };
    TimedChange { change: None, learnt: Some(learnt), ..at(millis, Change::Ended) }
}

/// Whether each of the GUIDs 1, 2 and 3 is one of the session's, under key 1.
fn known(changes: &[TimedChange]) -> Option<[bool; 3]> {
    let record = written_and_read(&after(changes));
    assert_eq!(record, after(changes));
    assert_eq!(record.session(key(2)), None);
    record.session(key(1)).map(|session| [1, 2, 3].map(|number| session.has(guid(number), Timestamp(100))))
}

#[test]
fn gateways_learn_guids_from_each_other() {
    let late = |change| TimedChange { late: true, ..change };
    for (changes, expected) in [
        (vec![], None),
        (vec![at(1, shown(1, "1"))], None),
        (vec![begins(5), learnt(5, 1, true)], Some([true, false, false])),
        (vec![learnt(5, 1, false), learnt(6, 2, false)], Some([true, true, false])),
        (vec![learnt(5, 1, false), begins(6), learnt(6, 2, true)], Some([false, true, false])),
        // The answer to the sign-in named no GUID.
        (vec![learnt(5, 1, false), begins(6)], None),
        (vec![learnt(5, 1, false), at(6, Change::Ended)], Some([true, false, false])),
        // Of the session before: a poll that began earlier, and what is written when a new session has begun.
        (vec![begins(6), learnt(6, 2, true), polled(5, learnt(7, 1, false))], Some([false, true, false])),
        (vec![begins(6), learnt(6, 2, true), late(learnt(5, 1, false))], Some([false, true, false])),
        (vec![begins(6), learnt(6, 2, true), late(begins(5)), late(learnt(5, 1, true))], Some([false, true, false])),
        (vec![learnt(6, 2, false), late(learnt(5, 1, false))], Some([true, true, false])),
    ] {
        assert_eq!(known(&changes), expected, "{changes:?}");
    }
    let session = after(&[learnt(5, 1, false), learnt(9, 2, false)]).session(key(1)).unwrap();
    assert!(session.current() == guid(2) && session.has(guid(1), Timestamp(60_009)));
    assert!(!session.has(guid(1), Timestamp(60_010)), "it is out of use");
}

#[test]
fn the_session_of_an_earlier_version_is_read() {
    let json = format!(
        r#"{{"previews":[],"ended":null,"cancelled":[],"signed_in":5,
            "session":{{"key":"00000001","at":9,"current":"{}","replaced":[["{}",60009]]}}}}"#,
        guid(2),
        guid(1)
    );
    let session = Record::from_json(json.as_bytes(), BOUNDS).unwrap().session(key(1)).unwrap();
    assert!(session.current() == guid(2) && session.has(guid(1), Timestamp(60_009)));
}

/// The place of the earlier session's announcement is not before that of the new session's: its gateway knew of something later.
#[test]
fn an_announcement_of_an_earlier_session_does_not_hide_one_of_the_present_session() {
    let present = after(&[begins(19), polled(27, at(30, shown(1, "1")))]);
    for earlier in [
        vec![at(29, CANCEL_1), pushed(2, at(5, shown(1, "1")))],
        vec![at(29, CANCEL_1), polled(2, at(5, shown(1, "1")))],
        vec![begins(1), at(29, Change::EndedBefore(Timestamp(29))), pushed(2, at(29, shown(1, "1")))],
    ] {
        let earlier = after(&earlier);
        assert_eq!(ids(&earlier), [1]);
        let both = [merged(&present, &earlier), merged(&earlier, &present)];
        assert!(
            both.iter().all(|both| *both == merged(both, &present) && *both == merged(both, &earlier)),
            "{both:#?}"
        );
        assert_eq!(both.map(|both| ids(&both)), [[1], [1]], "{earlier:#?}");
    }
}

fn change() -> impl Strategy<Value = TimedChange> {
    let id = 0..3_i64;
    let change = prop_oneof![
        (id.clone(), 0..3_u8).prop_map(|(id, number)| Some(shown(id, &number.to_string()))),
        id.prop_map(|id| Some(Change::Cancelled(ControlId(id)))),
        Just(Some(Change::Ended)),
        (0..40_u64).prop_map(|moment| Some(Change::EndedBefore(Timestamp(moment)))),
        Just(None),
    ];
    let session = 0..8_u8;
    let learnt = proptest::option::of((1..4_u32, any::<bool>()));
    (change, session, 5..40_u64, any::<bool>(), learnt).prop_map(|(change, session, millis, late, new)| TimedChange {
        learnt: new.and_then(|(number, begins)| self::learnt(0, number, begins).learnt),
        at: Timestamp(millis),
        seen: Timestamp(millis),
        session: relation(session, millis, matches!(change, Some(Change::Shown(_)))),
        change,
        late,
        known_end: None,
    })
}

/// A later announcement is one of a later poll or push: of two announcements of a number, the later one decides.
fn relation(kind: u8, millis: u64, shows: bool) -> SessionRelation {
    match kind {
        0 if !shows => SessionRelation::Begins(fence(millis)),
        1 if !shows => SessionRelation::Over(fence(millis)),
        2..5 => SessionRelation::PushedAt(Timestamp(millis - 3)),
        _ => SessionRelation::PolledSince(Timestamp(millis - 3)),
    }
}

/// Changes in the order of their times: see the module about announcements in another order.
pub(super) fn record() -> impl Strategy<Value = Record> {
    vec(change(), 0..8).prop_map(|mut changes| {
        changes.sort_by_key(|change| change.at);
        after(&changes)
    })
}

fn merged(one: &Record, other: &Record) -> Record {
    let mut merged = one.clone();
    merged.merge(other);
    merged
}

use crate::store::sessions::Learnt;

proptest! {
    #[test]
    fn merging_is_commutative_associative_and_idempotent(one in record(), two in record(), three in record()) {
        prop_assert_eq!(merged(&one, &two), merged(&two, &one));
        prop_assert_eq!(merged(&merged(&one, &two), &three), merged(&one, &merged(&two, &three)));
        prop_assert_eq!(merged(&merged(&one, &two), &two), merged(&one, &two));
        prop_assert_eq!(merged(&one, &one), one);
    }

    #[test]
    fn what_has_ended_does_not_come_back_from_a_record_that_does_not_know(one in record(), two in record()) {
        let both = merged(&one, &two);
        for record in [&one, &two] {
            for control_id in both.lost(record) {
                prop_assert!(merged(&both, record).lost(record).contains(&control_id));
            }
        }
    }

    #[test]
    fn late_changes_may_come_in_any_order(changes in vec(change(), 0..6).prop_shuffle()) {
        let late: Vec<_> = changes.into_iter().map(|change| TimedChange { late: true, ..change }).collect();
        let reversed: Vec<_> = late.iter().rev().cloned().collect();
        prop_assert_eq!(after(&late), after(&reversed));
    }

    #[test]
    fn an_end_in_time_ends_everything_that_is_known(record in record(), millis in 0..40_u64) {
        let mut record = record;
        record.apply_all(&[at(millis, Change::Ended)], BOUNDS);
        prop_assert_eq!(ids(&record), Vec::<i64>::new());
    }

    #[test]
    fn every_record_survives_redis(record in record()) {
        prop_assert_eq!(written_and_read(&record), record);
    }
}
