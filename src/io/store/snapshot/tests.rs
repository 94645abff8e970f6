//! Sound files come back whole; anything else comes back as nothing, and is still there afterwards.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::config::{Previews, StoreKind};
use crate::preview::{AgentId, Announcement, Change, ControlId, DialedNumber, ManualClock};
use crate::store::sessions::Ownership;
use crate::telemetry::Metrics;

const TTL: Duration = Duration::from_secs(60);
const SAVED_AT: Timestamp = Timestamp(1_700_000_000_000);

/// A store, and the time at which it is shown previews.
struct Store {
    memory: MemoryStore,
    clock: Arc<ManualClock>,
}

impl std::ops::Deref for Store {
    type Target = MemoryStore;

    fn deref(&self) -> &MemoryStore {
        &self.memory
    }
}

fn store_at(clock: &Arc<ManualClock>) -> Store {
    store_with(clock, 16)
}

fn store_with(clock: &Arc<ManualClock>, per_agent: usize) -> Store {
    let snapshot_interval = Duration::from_secs(10);
    let store = StoreKind::Memory;
    let config = Previews {
        ttl: TTL,
        calls_per_number: 0,
        per_agent,
        max_agents: 100,
        snapshot: None,
        snapshot_interval,
        session_key: None,
        store,
    };
    Store { memory: MemoryStore::new(&config, Arc::new(Metrics::new())), clock: Arc::clone(clock) }
}

fn sessions() -> Sessions {
    Sessions::new(100, TTL)
}

fn empty() -> Store {
    store_at(&Arc::new(ManualClock::new(SAVED_AT)))
}

fn agent(number: u32) -> AgentId {
    AgentId::try_from(number).unwrap()
}

fn show(store: &Store, number: u32, control_id: i64, numbers: &[&str]) {
    let numbers = numbers.iter().map(|n| DialedNumber::new(*n)).collect();
    let shown = Announcement { control_id: ControlId(control_id), numbers, shown: Vec::new() };
    store.apply(agent(number), [Change::Shown(shown)], store.clock.now());
}

fn file(directory: &tempfile::TempDir) -> SnapshotFile {
    SnapshotFile::open(directory.path().join("previews.snapshot"), TTL, 100).unwrap()
}

/// Agent 101 with a preview of 50 s and one of 10 s, agent 102 with one of 10 s; saved at `SAVED_AT`.
fn saved() -> (tempfile::TempDir, SnapshotFile) {
    let directory = tempfile::tempdir().unwrap();
    let snapshot = file(&directory);
    let clock = Arc::new(ManualClock::new(Timestamp(SAVED_AT.0 - 50_000)));
    let store = store_at(&clock);
    show(&store, 101, 7, &["1001", "1002"]);
    clock.advance(Duration::from_secs(40));
    show(&store, 101, -8, &["+49\"\\3\u{1}"]);
    show(&store, 102, 0, &[]);
    clock.advance(Duration::from_secs(10));
    let saved = snapshot.save_store(&store, &*clock, || Ok(0), KeptSessions::default).unwrap();
    assert_eq!((saved.at, saved.left_out, saved.put_aside), (SAVED_AT, 0, None));
    (directory, snapshot)
}

/// Agent, control ID, numbers, age at `now`.
type Known = Vec<(u32, i64, Vec<String>, u64)>;

fn known(store: &MemoryStore, now: Timestamp) -> Known {
    let mut known = Known::new();
    for (agent, previews) in store.agents() {
        for preview in previews.iter() {
            let numbers = preview.numbers().map(|n| n.reveal().to_owned()).collect();
            let age = now.0 as i64 - preview.announced_at.0 as i64;
            known.push((agent.as_u32(), preview.control_id.0, numbers, u64::try_from(age / 1000).unwrap()));
        }
    }
    known.sort();
    known
}

fn restored_at(snapshot: &SnapshotFile, now: Timestamp) -> (Known, Restored) {
    let store = empty();
    let restored = snapshot.restore_into(&store, &sessions(), now);
    (known(&store, now), restored)
}

fn after(seconds: u64) -> Timestamp {
    Timestamp(SAVED_AT.0 + seconds * 1000)
}

fn odd_number() -> String {
    "+49\"\\3\u{1}".to_owned()
}

#[test]
fn what_was_saved_comes_back_with_its_age() {
    let (_directory, snapshot) = saved();
    let (known, restored) = restored_at(&snapshot, after(5));
    let numbers = vec!["1001".to_owned(), "1002".to_owned()];
    assert_eq!(known, [(101, -8, vec![odd_number()], 15), (101, 7, numbers, 55), (102, 0, vec![], 15)]);
    let Restored::Previews { previews: 3, expired: 0, passed_over: 0, age, .. } = restored else {
        panic!("{restored:?}")
    };
    assert_eq!(age, Duration::from_secs(5));
}

#[test]
fn each_number_comes_back_with_its_own_age() {
    let directory = tempfile::tempdir().unwrap();
    let snapshot = file(&directory);
    let clock = Arc::new(ManualClock::new(Timestamp(SAVED_AT.0 - 50_000)));
    let store = store_at(&clock);
    show(&store, 101, 7, &["1001"]);
    clock.advance(Duration::from_secs(40));
    show(&store, 101, 7, &["1002"]);
    clock.advance(Duration::from_secs(10));
    snapshot.save_store(&store, &*clock, || Ok(0), KeptSessions::default).unwrap();
    for now in [after(5), Timestamp(SAVED_AT.0 - 3_600_000)] {
        let store = empty();
        snapshot.restore_into(&store, &sessions(), now);
        let (_, previews) = &store.agents()[0];
        let ages: Vec<_> = previews.find(ControlId(7)).unwrap().numbers.iter().map(|n| now.since(n.shown_at)).collect();
        let down = if now > SAVED_AT { 5 } else { 0 };
        assert_eq!(ages, [Duration::from_secs(50 + down), Duration::from_secs(10 + down)]);
    }
}

#[test]
fn the_format_of_version_1_is_read() {
    let content = "previewgate-snapshot 1 1700000000000\n\
                   {\"agent\":101,\"previews\":[{\"control_id\":7,\"announced_at\":1699999990000,\"numbers\":[\"1001\"]}]}\n";
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content.as_bytes());
    let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let directory = tempfile::tempdir().unwrap();
    let snapshot = file(&directory);
    fs::write(snapshot.path(), format!("{content}end 1 {digest}\n")).unwrap();
    let (known, _) = restored_at(&snapshot, SAVED_AT);
    assert_eq!(known, [(101, 7, vec!["1001".to_owned()], 10)]);
    assert_eq!(
        snapshot.save_store(&empty(), &ManualClock::new(SAVED_AT), || Ok(0), KeptSessions::default).unwrap().put_aside,
        None
    );
}

#[test]
fn the_format_of_version_2_is_read_with_the_journal_that_continues_it() {
    let content = "previewgate-snapshot 2 1700000000000 0123456789abcdef 1\n\
                   {\"agent\":101,\"previews\":[{\"control_id\":7,\"announced_at\":1699999990000,\"numbers\":[\"1001\"],\
                   \"shown_at\":[1699999990000]}]}\n";
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content.as_bytes());
    let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    for (ended, expected) in [(false, 1), (true, 0)] {
        let directory = tempfile::tempdir().unwrap();
        let snapshot = file(&directory);
        fs::write(snapshot.path(), format!("{content}end 1 {digest}\n")).unwrap();
        if ended {
            let line = "101 7 1700000000500 ";
            let check = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, line.trim_end().as_bytes());
            let check: String = check.as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect();
            let journal = with_suffix(snapshot.path(), ".journal.1");
            fs::write(journal, format!("previewgate-journal 1 0123456789abcdef\n{line}{check}\n")).unwrap();
        }
        assert_eq!(restored_at(&snapshot, SAVED_AT).0.len(), expected);
    }
}

#[test]
fn sessions_come_back_with_those_of_agents_without_previews() {
    let (directory, snapshot) = saved();
    let before = sessions();
    snapshot.restore_into(&empty(), &before, SAVED_AT);
    before.begin(agent(101), Some(b"own.node"));
    before.begin(agent(555), Some(b"other"));
    let clock = ManualClock::new(SAVED_AT);
    let store = empty();
    show(&store, 101, 7, &["1001"]);
    snapshot.save_store(&store, &clock, || Ok(0), || before.kept()).unwrap();
    drop(snapshot);
    let ownership = |sessions: &Sessions, guid: &[u8], number| sessions.ownership(guid, agent(number), SAVED_AT);
    let (snapshot, after) = (file(&directory), sessions());
    let restored = snapshot.restore_into(&empty(), &after, SAVED_AT);
    assert!(matches!(restored, Restored::Previews { previews: 1, expired: 0, .. }), "{restored:?}");
    assert_eq!(ownership(&after, b"own.node", 101), Ownership::Own);
    assert_eq!(ownership(&after, b"other", 101), Ownership::Other(agent(555)));
    assert_eq!(ownership(&after, b"invented", 101), Ownership::NotOwn);
    assert!(!String::from_utf8_lossy(&fs::read(snapshot.path()).unwrap()).contains("own.node"));
    // Under another key, nothing is known.
    fs::write(with_suffix(snapshot.path(), ".key"), [1; 32]).unwrap();
    drop(snapshot);
    let (snapshot, after) = (file(&directory), sessions());
    let restored = snapshot.restore_into(&empty(), &after, SAVED_AT);
    assert!(matches!(restored, Restored::Previews { previews: 1, .. }), "{restored:?}");
    assert_eq!(ownership(&after, b"own.node", 101), Ownership::Unknown);
}

#[test]
fn what_expired_meanwhile_is_not_alive() {
    let (_directory, snapshot) = saved();
    for (seconds, expected) in [(10, 3), (11, 2), (50, 2), (51, 0), (1_000_000, 0)] {
        let (known, restored) = restored_at(&snapshot, after(seconds));
        let alive = known.iter().filter(|(.., age)| *age <= TTL.as_secs()).count();
        // The clock may be wrong: what has expired by it stays, and is judged by its age.
        assert_eq!((alive, known.len()), (expected, 3), "{seconds}");
        assert!(matches!(restored, Restored::Previews { expired, .. } if expired == 3 - expected), "{restored:?}");
    }
}

#[test]
fn a_clock_that_was_set_back_prolongs_no_life() {
    let (_directory, snapshot) = saved();
    let same_age_as_saved = |now| {
        let ages: Vec<_> = restored_at(&snapshot, now).0.into_iter().map(|(.., age)| age).collect();
        assert_eq!(ages, [10, 50, 10], "{now:?}");
    };
    same_age_as_saved(Timestamp(SAVED_AT.0 - 1));
    same_age_as_saved(Timestamp(SAVED_AT.0 - 3_600_000));
    // A machine without a battery begins in 1970: an age that does not fit there is not shortened.
    assert_eq!(restored_at(&snapshot, Timestamp(20_000)).0.len(), 2);
    assert_eq!(restored_at(&snapshot, Timestamp(0)).0, []);
}

#[test]
fn only_the_owner_can_read_it_and_nothing_else_is_left_behind() {
    let (directory, snapshot) = saved();
    let mode = fs::metadata(snapshot.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(snapshot);
    // What a crash in the middle of a save left behind is removed by the next start.
    fs::write(directory.path().join("previews.snapshot.tmp.0123456789abcdef"), "half").unwrap();
    let snapshot = file(&directory);
    snapshot.save_store(&empty(), &ManualClock::new(SAVED_AT), || Ok(0), KeptSessions::default).unwrap();
    assert_eq!(fs::metadata(snapshot.path()).unwrap().permissions().mode() & 0o777, 0o600);
    let mut names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["previews.snapshot", "previews.snapshot.key", "previews.snapshot.lock"]);
}

#[test]
fn a_first_start_has_nothing_to_restore() {
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(restored_at(&file(&directory), SAVED_AT), (known, Restored::Nothing) if known.is_empty()));
}

#[test]
fn what_is_no_snapshot_is_put_aside_and_never_overwritten() {
    for (number, content) in [&b""[..], b"\n", b"hello", b"{}\n", b"\xff\xfe\n", &[0; 4_000_000]].iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let snapshot = file(&directory);
        fs::write(snapshot.path(), content).unwrap();
        let (known, restored) = restored_at(&snapshot, SAVED_AT);
        let Restored::Refused { fault: SnapshotFault::Foreign, put_aside: Ok(aside) } = restored else {
            panic!("{number}: {restored:?}")
        };
        assert_eq!((known, &fs::read(aside).unwrap()[..]), (vec![], *content), "{number}");
        snapshot.save_store(&empty(), &ManualClock::new(SAVED_AT), || Ok(0), KeptSessions::default).unwrap();
        assert!(matches!(restored_at(&snapshot, SAVED_AT).1, Restored::Previews { .. }));
    }
}

#[test]
fn a_newer_version_is_put_aside() {
    let (_directory, snapshot) = saved();
    let newer = fs::read_to_string(snapshot.path()).unwrap().replacen("snapshot 3 ", "snapshot 4 anything ", 1);
    fs::write(snapshot.path(), &newer).unwrap();
    let (known, restored) = restored_at(&snapshot, SAVED_AT);
    let Restored::Refused { fault: SnapshotFault::Version, put_aside: Ok(aside) } = restored else {
        panic!("{restored:?}")
    };
    assert_eq!((known, fs::read_to_string(&aside).unwrap()), (vec![], newer));
    assert_eq!(aside, with_suffix(snapshot.path(), ".refused"));
}

#[test]
fn a_foreign_file_that_comes_later_is_put_aside_too_as_long_as_there_is_room() {
    let (directory, snapshot) = saved();
    for number in 0..MAX_REFUSED {
        fs::write(snapshot.path(), format!("foreign {number}")).unwrap();
        let saved =
            snapshot.save_store(&empty(), &ManualClock::new(SAVED_AT), || Ok(0), KeptSessions::default).unwrap();
        assert_eq!(fs::read_to_string(saved.put_aside.unwrap()).unwrap(), format!("foreign {number}"));
    }
    fs::write(snapshot.path(), "one too many").unwrap();
    snapshot.save_store(&empty(), &ManualClock::new(SAVED_AT), || Ok(0), KeptSessions::default).unwrap_err();
    assert_eq!(fs::read_to_string(snapshot.path()).unwrap(), "one too many");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), MAX_REFUSED + 3);
}

/// Its first line alone looks sound: it must be remembered that it was refused.
#[test]
fn a_damaged_snapshot_that_cannot_be_put_aside_is_not_overwritten() {
    let (_directory, snapshot) = saved();
    let damaged = fs::read_to_string(snapshot.path()).unwrap().replace("1001", "1003");
    fs::write(snapshot.path(), &damaged).unwrap();
    for suffix in std::iter::once(".refused".to_owned()).chain((1..MAX_REFUSED).map(|n| format!(".refused.{n}"))) {
        fs::write(with_suffix(snapshot.path(), &suffix), "").unwrap();
    }
    let (known, restored) = restored_at(&snapshot, SAVED_AT);
    assert!(matches!(restored, Restored::Refused { put_aside: Err(_), .. }) && known.is_empty());
    snapshot.save_store(&empty(), &ManualClock::new(SAVED_AT), || Ok(0), KeptSessions::default).unwrap_err();
    assert_eq!(fs::read_to_string(snapshot.path()).unwrap(), damaged);
    fs::remove_file(with_suffix(snapshot.path(), ".refused")).unwrap();
    let aside = snapshot
        .save_store(&empty(), &ManualClock::new(SAVED_AT), || Ok(0), KeptSessions::default)
        .unwrap()
        .put_aside
        .unwrap();
    assert_eq!(fs::read_to_string(aside).unwrap(), damaged);
}

#[test]
fn a_directory_that_cannot_be_written_is_an_error_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(SAVED_AT);
    let missing = SnapshotFile::open(directory.path().join("missing/previews.snapshot"), TTL, 100).unwrap();
    assert!(matches!(restored_at(&missing, SAVED_AT).1, Restored::Nothing));
    assert_eq!(
        missing.save_store(&empty(), &clock, || Ok(0), KeptSessions::default).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
    // Neither may a directory or a device at its place be replaced. (Permissions do not stop a test run by root.)
    let taken = SnapshotFile::open(directory.path().join("taken"), TTL, 100).unwrap();
    fs::create_dir(taken.path()).unwrap();
    assert!(matches!(restored_at(&taken, SAVED_AT).1, Restored::Refused { put_aside: Err(_), .. }));
    taken.save_store(&empty(), &clock, || Ok(0), KeptSessions::default).unwrap_err();
    assert!(taken.path().is_dir());
    let full = SnapshotFile::open(PathBuf::from("/proc/previews.snapshot"), TTL, 100).unwrap();
    full.save_store(&empty(), &clock, || Ok(0), KeptSessions::default).unwrap_err();
}

#[test]
fn the_agents_with_the_newest_previews_are_restored_first() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(SAVED_AT));
    let store = store_at(&clock);
    for number in [103, 101, 104, 102] {
        show(&store, number, 1, &["1"]);
        clock.advance(Duration::from_secs(1));
    }
    let small = SnapshotFile::open(directory.path().join("s"), TTL, 2).unwrap();
    small.save_store(&store, &*clock, || Ok(0), KeptSessions::default).unwrap();
    let (known, restored) = restored_at(&small, clock.now());
    assert_eq!(known.iter().map(|(agent, ..)| *agent).collect::<Vec<_>>(), [102, 104]);
    assert!(matches!(restored, Restored::Previews { passed_over: 2, .. }), "{restored:?}");
}

#[test]
fn an_agent_too_long_for_one_line_is_left_out_and_the_rest_is_good() {
    let directory = tempfile::tempdir().unwrap();
    let snapshot = file(&directory);
    let store = store_with(&Arc::new(ManualClock::new(SAVED_AT)), 1024);
    let numbers: Vec<String> = (0..100).map(|n| format!("{n:064}")).collect();
    let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
    (0..300).for_each(|control_id| show(&store, 101, control_id, &numbers));
    show(&store, 102, 1, &["1"]);
    assert_eq!(
        snapshot.save_store(&store, &ManualClock::new(SAVED_AT), || Ok(0), KeptSessions::default).unwrap().left_out,
        1
    );
    assert_eq!(restored_at(&snapshot, SAVED_AT).0.len(), 1);
}

/// Either all is as it was saved, or nothing is known: never another number, agent, control ID or time.
fn restored_rightly_or_refused(damaged: &[u8], sound: &[u8]) {
    let content = format::read(damaged, 100);
    if damaged == sound {
        assert!(content.is_ok());
    } else {
        content.unwrap_err();
    }
}

#[test]
fn damaged_at_any_byte_or_truncated_at_any_length_it_is_refused() {
    let (_directory, snapshot) = saved();
    let sound = fs::read(snapshot.path()).unwrap();
    restored_rightly_or_refused(&sound, &sound);
    for position in 0..sound.len() {
        restored_rightly_or_refused(&sound[..position], &sound);
        for byte in [0, b'\n', b' ', b'0', b'1', b'"', 0xff, sound[position] ^ 1, sound[position] ^ 0x20] {
            let mut damaged = sound.clone();
            damaged[position] = byte;
            restored_rightly_or_refused(&damaged, &sound);
        }
        let without = [&sound[..position], &sound[position + 1..]].concat();
        restored_rightly_or_refused(&without, &sound);
    }
}

proptest! {
    #[test]
    fn any_damage_is_found(cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let (_directory, snapshot) = saved();
        let sound = fs::read(snapshot.path()).unwrap();
        let mut damaged = sound.clone();
        for (index, byte) in cuts {
            let position = index.index(damaged.len());
            if byte % 3 == 0 { damaged.insert(position, byte) } else { damaged[position] = byte }
        }
        restored_rightly_or_refused(&damaged, &sound);
    }

    #[test]
    fn any_previews_come_back(
        shown in prop::collection::vec((101..105_u32, any::<i64>(), prop::collection::vec("\\PC{0,20}", 0..4)), 0..12),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let (snapshot, store) = (file(&directory), empty());
        for (agent, control_id, numbers) in &shown {
            let numbers: Vec<_> = numbers.iter().map(String::as_str).collect();
            show(&store, *agent, *control_id, &numbers);
        }
        snapshot.save_store(&store, &ManualClock::new(SAVED_AT), || Ok(0), KeptSessions::default).unwrap();
        prop_assert_eq!(restored_at(&snapshot, SAVED_AT).0, known(&store, SAVED_AT));
    }
}
