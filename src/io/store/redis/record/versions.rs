//! Records of the version before this one, as it wrote them, and what that version needs in those of this one: both share a
//! Redis while gateways are being replaced.

use proptest::prelude::*;
use serde::Deserialize;

use super::tests::record;
use super::*;
use crate::preview::{Announcement, CountedCall, RecordId};

/// Written by gateways of the version before tombstones, to a real Redis.
const BEFORE: &str = include_str!("../../../../../tests/data/records/without-tombstones.jsonl");
const BOUNDS: Bounds = Bounds { per_agent: 16 };

/// What the version before reads. It ignores other members, and refuses a record in which one of these is missing or of
/// another type.
#[derive(Deserialize)]
struct WrittenBefore {
    previews: Vec<PreviewBefore>,
    ended: Option<u64>,
    cancelled: Vec<(i64, u64)>,
    #[serde(default)]
    signed_in: Option<u64>,
    #[serde(default)]
    session: Option<SessionBefore>,
}

#[derive(Deserialize)]
struct PreviewBefore {
    id: i64,
    numbers: Vec<String>,
    at: u64,
    #[serde(default)]
    shown: Vec<String>,
    #[serde(default)]
    times: Vec<u64>,
    #[serde(default)]
    calls: Vec<(String, String, u64)>,
}

#[derive(Deserialize)]
struct SessionBefore {
    key: String,
    at: u64,
    current: String,
    #[serde(default)]
    replaced: Vec<(String, u64)>,
}

/// Control ID, and each number with how often it was called.
type Callable<'c> = (i64, &'c [(&'c str, usize)]);

fn before(json: &[u8]) -> WrittenBefore {
    serde_json::from_slice(json).unwrap()
}

fn read(json: &[u8]) -> Record {
    Record::from_json(json, BOUNDS).unwrap()
}

/// Control ID, and each number with how often it was called.
fn callable(record: &Record) -> Vec<(i64, Vec<(String, usize)>)> {
    let previews = record.previews(BOUNDS);
    let numbers = |preview: &Preview| {
        let count = |number: &DialedNumber| (number.reveal().to_owned(), preview.calls.of(number).count());
        preview.numbers().map(count).collect()
    };
    previews.iter().map(|preview| (preview.control_id.0, numbers(preview))).collect()
}

#[test]
fn records_of_the_version_before_are_read_as_it_meant_them() {
    let expected: [&[Callable<'_>]; 7] = [
        &[(7, &[("100", 0)])],
        &[(7, &[("100", 0)]), (8, &[("200", 0)])],
        &[(8, &[("200", 0)])],
        &[],
        &[(7, &[("100", 0)])],
        &[(0, &[("100", 1), ("200", 1)]), (1, &[("100", 0), ("200", 0)])],
        &[(9, &[("100", 0)]), (19, &[("100", 0)])],
    ];
    assert_eq!(BEFORE.lines().count(), expected.len());
    for (line, expected) in BEFORE.lines().zip(expected) {
        let (record, written) = (read(line.as_bytes()), before(line.as_bytes()));
        let owned = |(id, numbers): &Callable<'_>| {
            (*id, numbers.iter().map(|(number, calls)| ((*number).to_owned(), *calls)).collect::<Vec<_>>())
        };
        assert_eq!(callable(&record), expected.iter().map(owned).collect::<Vec<_>>(), "{line}");
        // What it has ended stays ended, whatever another record says.
        for (id, at) in &written.cancelled {
            assert!(record.end_of(ControlId(*id)) >= Some(Timestamp(*at)), "{line}");
        }
        assert!(record.end_of(ControlId(99)) >= written.ended.map(Timestamp), "{line}");
        if let Some(session) = &written.session {
            let known = record.session(session.key.parse().unwrap()).unwrap();
            assert!(known.current() == session.current.parse().unwrap(), "{line}");
            assert_eq!(known.replaced().count(), session.replaced.len(), "{line}");
        }
        let references: usize = record.previews(BOUNDS).iter().map(|preview| preview.shown.len()).sum();
        assert_eq!(references, written.previews.iter().map(|preview| preview.shown.len()).sum::<usize>(), "{line}");
    }
}

#[test]
fn the_version_before_reads_in_a_record_of_this_one_what_it_reads_in_its_own() {
    for line in BEFORE.lines() {
        let own = before(line.as_bytes());
        // Read by this version, and written again.
        let this = before(&read(line.as_bytes()).to_json());
        let shown = |written: &WrittenBefore| {
            let of = |preview: &PreviewBefore| {
                let times = if preview.times.is_empty() { vec![preview.at] } else { preview.times.clone() };
                (preview.id, preview.numbers.clone(), times, preview.shown.clone(), preview.calls.clone())
            };
            written.previews.iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(shown(&this), shown(&own), "{line}");
        assert_eq!((this.ended, this.signed_in), (own.ended, own.signed_in), "{line}");
        let after_all = |(_, at): &&(i64, u64)| own.ended.is_none_or(|ended| *at > ended);
        assert!(own.cancelled.iter().filter(after_all).eq(this.cancelled.iter()), "{line}");
        let session = |written: &WrittenBefore| {
            written.session.as_ref().map(|known| (known.key.clone(), known.at, known.current.clone()))
        };
        assert_eq!(session(&this), session(&own), "{line}");
    }
}

#[test]
fn a_call_that_either_version_has_counted_counts_in_both() {
    let (control_id, number, id) = (ControlId(7), DialedNumber::new("100"), RecordId { run: 1, number: 1 });
    let timed = |at: u64, change: Change| TimedChange::new(change, Timestamp(at), SessionRelation::Any);
    let shown = Announcement { control_id, numbers: vec![number.clone()], shown: Vec::new() };
    let call = |id| Change::Called(control_id, CountedCall { number: number.clone(), id, at: Timestamp(6) });
    let mut record = Record::default();
    record.apply_all(&[timed(5, Change::Shown(shown)), timed(8, call(id))], BOUNDS);
    // The place in the order and the time differ; the record is the same after Redis, and the call counts once.
    assert_eq!(read(&record.to_json()), record);
    let written = before(&record.to_json());
    assert_eq!(written.previews[0].calls, [("100".to_owned(), id.to_string(), 6)]);
    // The version before writes it, and one more, and drops what it does not know.
    let mut value: serde_json::Value = serde_json::from_slice(&record.to_json()).unwrap();
    value.as_object_mut().unwrap().remove("calls");
    let second = RecordId { run: 2, number: 1 };
    value["previews"][0]["calls"].as_array_mut().unwrap().push(serde_json::json!(["100", second.to_string(), 9]));
    let theirs = read(value.to_string().as_bytes());
    assert_eq!(callable(&theirs), [(7, vec![("100".to_owned(), 2)])]);
    let mut both = record.clone();
    both.merge(&theirs);
    assert_eq!(callable(&both), [(7, vec![("100".to_owned(), 2)])]);
    // A call that was given back stays given back, although the version before still has it.
    both.apply_all(&[timed(20, Change::CallReturned(control_id, id))], BOUNDS);
    both.merge(&theirs);
    assert_eq!(callable(&both), [(7, vec![("100".to_owned(), 1)])]);
}

proptest! {
    /// It keeps no tombstones of its own, so what it takes for alive is the list of previews: nothing that has ended may be in
    /// it, and everything that is alive must be.
    #[test]
    fn the_version_before_reads_any_record_of_this_one_as_it_is_meant(record in record()) {
        let written = before(&record.to_json());
        let listed: Vec<_> = written.previews.iter().map(|preview| {
            let times = if preview.times.is_empty() { vec![preview.at; preview.numbers.len()] } else { preview.times.clone() };
            prop_assert_eq!(times.len(), preview.numbers.len());
            prop_assert!(times.iter().all(|at| *at <= preview.at), "the announcement is the latest");
            Ok((preview.id, preview.numbers.iter().cloned().collect::<BTreeSet<_>>()))
        }).collect::<Result<_, TestCaseError>>()?;
        let alive: Vec<_> = callable(&record).into_iter().map(|(id, numbers)| {
            (id, numbers.into_iter().map(|(number, _)| number).collect())
        }).collect();
        let sorted = |mut previews: Vec<(i64, BTreeSet<String>)>| { previews.sort(); previews };
        prop_assert_eq!(sorted(listed), sorted(alive));
        // Its ends are those that it knows how to merge.
        prop_assert_eq!(written.ended, record.ends.all.map(|at| at.0));
        let single: Vec<_> = record.ends.single.iter().map(|(at, id)| (id.0, at.0)).collect();
        prop_assert_eq!(written.cancelled, single);
        prop_assert_eq!(written.signed_in, record.ends.fence.polls.map(|at| at.0));
    }
}
