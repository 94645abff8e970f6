//! States that no gateway writes: another program, or a person who can write to Redis, has left them.

use serde_json::json;

use super::*;
use crate::preview::{Announcement, CountedCall, RecordId};

const BOUNDS: Bounds = Bounds { per_agent: 4 };

fn read(json: &str) -> Option<Record> {
    Record::from_json(json.as_bytes(), BOUNDS).ok()
}

#[test]
fn a_state_that_no_gateway_writes_is_not_read() {
    let ordinary =
        json!({"previews": [{"id": 7, "numbers": ["1"], "at": 5, "times": [5]}], "ended": 3, "cancelled": [[8, 4]]});
    assert!(read(&ordinary.to_string()).is_some());
    let changed = |member: &str, value: serde_json::Value| {
        let mut state = ordinary.clone();
        state[member] = value;
        state.to_string()
    };
    for hostile in [
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        "\u{1}".to_owned(),
        "[".repeat(100_000),
        changed("previews", json!("7")),
        changed("previews", json!([{"id": "7", "numbers": [], "at": 5}])),
        changed("previews", json!([{"id": 7, "numbers": [1], "at": 5}])),
        changed("previews", json!([{"id": 7, "numbers": ["1"], "at": -5}])),
        changed("previews", json!([{"id": 7, "numbers": ["1"], "at": 5.5}])),
        changed("previews", json!([{"id": 7, "numbers": ["1"], "at": u64::MAX, "times": [5]}])),
        changed("previews", json!([{"id": 7, "numbers": ["1"], "at": 5, "times": [u64::MAX]}])),
        changed("ended", json!(u64::MAX)),
        changed("ended", json!("now")),
        changed("cancelled", json!([[7, u64::MAX]])),
        changed("signed_in", json!(u64::MAX)),
        changed("pushes", json!(u64::MAX)),
        changed("begun", json!(u64::MAX)),
        changed("calls", json!([[7, u64::MAX, "0000000000000001-1", "1", 5]])),
        changed("calls", json!({"7": 1})),
        changed("future", json!("x".repeat(8 * 1024 * 1024))),
    ] {
        assert!(read(&hostile).is_none(), "{}", hostile.get(..200).unwrap_or(&hostile));
    }
}

#[test]
fn however_much_is_written_and_merged_a_record_stays_bounded() {
    let mut known = Record::default();
    for round in 0..40_u64 {
        let state = json!({
            "previews": (0..200).map(|id| json!({"id": round * 1000 + id, "at": round, "numbers": (0..200).map(|n| n.to_string()).collect::<Vec<_>>()})).collect::<Vec<_>>(),
            "ended": null,
            "cancelled": (0..500).map(|id| (round * 1000 + id, round)).collect::<Vec<_>>(),
            "calls": (0..500).map(|n| (round * 1000 + n, 1000 + round, format!("{round:016x}-{n:x}"), "1", 5)).collect::<Vec<_>>(),
            "returned": (0..500).map(|n| (format!("{:016x}-{n:x}", round + 99), round)).collect::<Vec<_>>(),
        });
        known.merge(&read(&state.to_string()).unwrap());
        known.bound(BOUNDS);
        assert!(known.to_json().len() < 2 * 1024 * 1024, "{round}: {}", known.to_json().len());
    }
}

/// Calls that cannot be counted any more could be made once more: instead, their previews are over.
#[test]
fn too_many_calls_end_everything() {
    let (control_id, mut record) = (ControlId(7), Record::default());
    let timed = |at, change| TimedChange::new(change, Timestamp(at), SessionRelation::Any);
    let shown = Announcement { control_id, numbers: vec![DialedNumber::new("1")], shown: Vec::new() };
    record.apply_all(&[timed(1, Change::Shown(shown.clone()))], BOUNDS);
    let mut call = |number: u64| {
        let call = CountedCall { number: DialedNumber::new("1"), id: RecordId { run: 1, number }, at: Timestamp(2) };
        record.calls.add(ControlId(number as i64), &call, Timestamp(2));
    };
    (0..8192).for_each(&mut call);
    record.bound(BOUNDS);
    assert_eq!(record.previews(BOUNDS).len(), 1);
    let call = CountedCall { number: DialedNumber::new("1"), id: RecordId { run: 2, number: 1 }, at: Timestamp(2) };
    record.calls.add(ControlId(9000), &call, Timestamp(2));
    record.bound(BOUNDS);
    assert_eq!(record.previews(BOUNDS).len(), 0);
    record.apply_all(&[timed(3, Change::Shown(shown))], BOUNDS);
    assert_eq!(record.previews(BOUNDS).len(), 1, "it may be shown again");
}
