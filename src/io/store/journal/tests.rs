//! Ends come back after the end of the process, whatever it was doing; unreadable lines end more rather than less.

use super::entry::checksum as checksum_of;
use super::*;
use crate::preview::{CallCount, DialedNumber, Preview, ShownNumber};
use crate::store::guid_key::GuidHash;

const RUN: &str = "0123456789abcdef";

fn agent(number: u32) -> AgentId {
    AgentId::try_from(number).unwrap()
}

fn preview(control_id: i64, shown_at: u64) -> Preview {
    let number = ShownNumber { number: DialedNumber::new("100"), shown_at: Timestamp(shown_at) };
    let announced_at = Timestamp(shown_at);
    Preview {
        control_id: ControlId(control_id),
        numbers: vec![number],
        announced_at,
        shown: Vec::new(),
        calls: CallCount::default(),
    }
}

fn end(number: u32, control_id: Option<i64>, until: u64) -> Entry {
    Entry { agent: agent(number), at: Timestamp(until), event: Event::End(control_id.map(ControlId)) }
}

fn content(ends: &[Entry]) -> String {
    let lines: String = ends.iter().map(|entry| entry.line(0)).collect();
    format!("{MAGIC}{RUN}\n{lines}")
}

/// The control IDs that agent `number` has left of 1 (shown at 10) and 2 (shown at 20).
fn left(number: u32, journal: &[u8], run: &str) -> Vec<i64> {
    let mut replay = Replay::default();
    replay.add(journal, run);
    let mut previews = vec![preview(1, 10), preview(2, 20)];
    replay.apply(agent(number), &mut previews);
    previews.iter().map(|preview| preview.control_id.0).collect()
}

fn wait(journal: &Journal) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        while journal.attempted.load(Ordering::SeqCst) < journal.queued.load(Ordering::SeqCst) {
            journal.written().await;
        }
    });
}

#[test]
fn an_end_of_the_same_run_ends_what_was_shown_up_to_its_time() {
    for (ends, expected) in [
        (vec![end(101, None, 9)], vec![1, 2]),
        (vec![end(101, None, 10)], vec![2]),
        (vec![end(101, None, 20)], vec![]),
        (vec![end(101, Some(2), 20)], vec![1]),
        (vec![end(101, Some(2), 19)], vec![1, 2]),
        (vec![end(102, None, 20), end(1010, None, 20)], vec![1, 2]),
        (vec![end(101, Some(1), 10), end(101, Some(2), 20)], vec![]),
    ] {
        assert_eq!(left(101, content(&ends).as_bytes(), RUN), expected, "{ends:?}");
    }
}

#[test]
fn a_number_that_was_shown_after_the_end_stays_under_its_control_id() {
    let mut replay = Replay::default();
    replay.add(content(&[end(101, None, 15)]).as_bytes(), RUN);
    let mut both = preview(1, 10);
    both.numbers.push(ShownNumber { number: DialedNumber::new("200"), shown_at: Timestamp(20) });
    both.announced_at = Timestamp(20);
    let mut previews = vec![both];
    replay.apply(agent(101), &mut previews);
    let numbers: Vec<_> = previews[0].numbers().map(DialedNumber::reveal).collect();
    assert_eq!(numbers, ["200"]);
}

/// The wall clock may have been set back between the runs.
#[test]
fn an_end_of_a_later_run_ends_all_that_a_snapshot_of_an_earlier_run_shows() {
    assert_eq!(left(101, content(&[end(101, Some(1), 1)]).as_bytes(), "another run"), [2]);
    assert_eq!(left(101, content(&[end(101, None, 1)]).as_bytes(), "another run"), [] as [i64; 0]);
}

#[test]
fn a_journal_torn_at_any_byte_revives_nothing_and_spares_other_agents() {
    let whole = content(&[end(101, None, 20), end(102, Some(1), 20)]);
    let (header, first) = (MAGIC.len() + RUN.len() + 1, end(101, None, 20).line(0).len());
    for length in 0..=whole.len() {
        let torn = &whole.as_bytes()[..length];
        let (one, two, other) = (left(101, torn, RUN), left(102, torn, RUN), left(999, torn, RUN));
        assert_eq!(other, [1, 2], "at {length}");
        // From the first byte of its line on, the end may have been meant.
        assert_eq!(one.is_empty(), length > header, "at {length}: {one:?}");
        let line = length.saturating_sub(header + first);
        assert_eq!(two.contains(&1), line == 0 && !(1..=2).contains(&length.saturating_sub(header)), "at {length}");
    }
}

#[test]
fn a_line_that_is_damaged_in_the_middle_ends_everything() {
    let whole = content(&[end(101, None, 20), end(102, None, 20)]).into_bytes();
    let header = MAGIC.len() + RUN.len() + 1;
    for position in header..whole.len() - 1 {
        let mut damaged = whole.clone();
        damaged[position] ^= 1;
        let mut replay = Replay::default();
        replay.add(&damaged, RUN);
        assert!(replay.is_damaged(), "at {position}");
        assert_eq!(left(999, &damaged, RUN), [] as [i64; 0], "at {position}");
    }
}

#[test]
fn what_is_appended_is_read_again_in_the_files_from_a_rotation_on() {
    let directory = tempfile::tempdir().unwrap();
    let snapshot = directory.path().join("previews");
    let journal = Journal::start(&snapshot, RUN, Arc::new(Metrics::new())).unwrap();
    assert_eq!(journal.rotate(Vec::new(), 0).unwrap(), 1, "without ends there is no file to leave behind");
    assert!(files(&snapshot).unwrap().is_empty());
    journal.append(end(101, None, 20));
    let second = journal.rotate(Vec::new(), 0).unwrap();
    journal.append(end(102, None, 20));
    wait(&journal);
    let ended = |first: u64| Replay::read(&snapshot, first, RUN).unwrap().changes.into_keys().collect::<Vec<_>>();
    assert_eq!((second, ended(1), ended(second)), (2, vec![agent(101), agent(102)], vec![agent(102)]));
    remove_before(&snapshot, second).unwrap();
    assert_eq!(ended(1), [agent(102)]);
    // The next run continues with a number of its own.
    drop(journal);
    let next = Journal::start(&snapshot, "next", Arc::new(Metrics::new())).unwrap();
    next.append(end(103, None, 20));
    wait(&next);
    assert_eq!(files(&snapshot).unwrap().iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn an_end_that_cannot_be_written_is_kept_until_it_can() {
    let directory = tempfile::tempdir().unwrap();
    let snapshot = directory.path().join("later/previews");
    let journal = Journal::start(&snapshot, RUN, Arc::new(Metrics::new())).unwrap();
    journal.append(end(101, None, 20));
    wait(&journal);
    journal.rotate(Vec::new(), 0).unwrap_err();
    fs::create_dir(directory.path().join("later")).unwrap();
    // It is older than the new file, which may also hold it: an end can be recorded twice, but not be lost.
    journal.rotate(Vec::new(), 0).unwrap();
    let replay = Replay::read(&snapshot, 1, RUN).unwrap();
    assert_eq!(replay.changes.into_keys().collect::<Vec<_>>(), [agent(101)]);
}

#[test]
fn very_many_pending_ends_become_one_for_each_agent() {
    let ends = [end(101, Some(1), 5), end(102, None, 6), end(101, Some(2), 7)];
    assert_eq!(taken_together(&ends), [end(101, None, 7), end(102, None, 6)]);
}

fn guid(number: u32) -> GuidHash {
    format!("{number:032x}").parse().unwrap()
}

fn session(number: u32, key: u32, learnt: Option<u32>, begins: bool) -> Entry {
    let key = format!("{key:08x}").parse().unwrap();
    let event = Event::Session(key, Learnt { guid: learnt.map(guid), begins });
    Entry { agent: agent(number), at: Timestamp(5), event }
}

/// The GUIDs of agent 101, the current one first, after these lines over a snapshot in which it had 1, under key 9.
fn guids(entries: &[Entry], tail: &str) -> Vec<GuidHash> {
    let mut replay = Replay::default();
    replay.add(format!("{}{tail}", content(entries)).as_bytes(), RUN);
    assert!(!replay.is_damaged());
    let mut kept = KeptSessions { key: "00000009".parse().unwrap(), agents: [(agent(101), vec![guid(1)])].into() };
    replay.apply_to_sessions(&mut kept);
    kept.agents.remove(&agent(101)).unwrap_or_default()
}

#[test]
fn what_was_learnt_about_sessions_is_replayed_in_order() {
    for (entries, tail, expected) in [
        (vec![], "", vec![1]),
        (vec![end(101, None, 5)], "", vec![1]),
        (vec![session(102, 9, Some(2), true)], "", vec![1]),
        (vec![session(101, 9, Some(2), false)], "", vec![2, 1]),
        (vec![session(101, 9, Some(2), false), session(101, 9, Some(1), false)], "", vec![1, 2]),
        (vec![session(101, 9, Some(2), true)], "", vec![2]),
        (vec![session(101, 9, Some(2), true), session(101, 9, Some(3), false)], "", vec![3, 2]),
        // The GUID of the new session is not known, or its hash is under another key.
        (vec![session(101, 9, None, true)], "", vec![]),
        (vec![session(101, 8, Some(2), true)], "", vec![]),
        (vec![session(101, 8, Some(2), false)], "", vec![]),
        // The last line breaks off.
        (vec![session(101, 9, Some(2), true)], "101 @0000", vec![]),
        (vec![session(101, 9, Some(2), true)], "102 @0000", vec![2]),
    ] {
        assert_eq!(guids(&entries, tail), expected.into_iter().map(guid).collect::<Vec<_>>(), "{entries:?} {tail}");
    }
}

#[test]
fn very_many_pending_sessions_become_one_unknown_one_for_each_agent() {
    let entries = [session(101, 9, Some(1), true), end(101, None, 6), session(101, 9, Some(2), false)];
    let unknown = Entry { at: Timestamp(0), ..session(101, 0, None, true) };
    assert_eq!(taken_together(&entries), [end(101, None, 6), unknown]);
}

fn called(number: u32, control_id: i64, called: &str, id: u64, at: u64) -> Entry {
    let id = RecordId { run: 0x9a0b_1c2d_3e4f_5061, number: id };
    let call = CountedCall { number: DialedNumber::new(called), id, at: Timestamp(at) };
    Entry { agent: agent(number), at: Timestamp(at), event: Event::Called(ControlId(control_id), call) }
}

fn returned(number: u32, control_id: i64, id: u64) -> Entry {
    let id = RecordId { run: 0x9a0b_1c2d_3e4f_5061, number: id };
    Entry { agent: agent(number), at: Timestamp(30), event: Event::CallReturned(ControlId(control_id), id) }
}

/// How many calls of agent 101 are counted for 1 (shown at 10) and 2 (shown at 20).
fn counted(entries: &[Entry], run: &str) -> Vec<usize> {
    let mut replay = Replay::default();
    replay.add(content(entries).as_bytes(), run);
    let mut previews = vec![preview(1, 10), preview(2, 20)];
    replay.apply(agent(101), &mut previews);
    previews.iter().map(|preview| preview.calls.iter().count()).collect()
}

#[test]
fn every_call_survives_its_line() {
    for number in ["100", "+49 30 1", "", "a:b !~@", "４９", "1\n2"] {
        let entry = called(101, -7, number, 5, 25);
        assert_eq!(Entry::read(entry.line(0).strip_suffix('\n').unwrap()), Some(entry.clone()), "{}", entry.line(0));
    }
    let entry = returned(101, 0, 5);
    assert_eq!(Entry::read(entry.line(0).trim_end()), Some(entry));
    for broken in ["!7:1-2", "!7:1-2:3", "!7:x:31", "!x:1-2:31", "!7:1-2:zz", "!7:1-2:31:4", "~7", "~7:x", "!", "~"] {
        let text = format!("101 {broken} 5");
        let line = format!("{text} {}", checksum_of(&text));
        assert_eq!(Entry::read(&line), None, "{line}");
    }
}

#[test]
fn calls_count_again_whatever_the_run() {
    for run in [RUN, "another run"] {
        let calls = [called(101, 1, "100", 1, 25), called(101, 1, "100", 1, 25), called(101, 2, "100", 2, 26)];
        assert_eq!(counted(&calls, run), [1, 1]);
        assert_eq!(counted(&[called(101, 1, "100", 1, 25), returned(101, 1, 1)], run), [0, 0]);
        assert_eq!(counted(&[called(102, 1, "100", 1, 25), called(101, 9, "100", 2, 25)], run), [0, 0]);
    }
}

/// The preview of the snapshot was shown after the end of the one that was called.
#[test]
fn calls_of_a_preview_that_has_ended_do_not_count_for_the_next_one() {
    let entries = [called(101, 2, "100", 1, 15), end(101, Some(2), 16), called(101, 2, "100", 2, 25)];
    assert_eq!(counted(&entries, RUN), [0, 1]);
}
