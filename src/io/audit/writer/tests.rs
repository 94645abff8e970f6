//! The writer on a disk that fails when a test wants.

use std::collections::VecDeque;
use std::sync::{Mutex, mpsc};
use std::thread;

use super::disk::SegmentFile;
use super::waiters::Unconfirmed;
use super::*;
use crate::audit::record::{Header, Store};
use crate::preview::ManualClock;

const PATIENCE: Duration = Duration::from_secs(60);
const START: Timestamp = Timestamp(1_795_579_200_000);

/// What a write or a sync does next; with an empty script it succeeds.
enum Step {
    Fail(ErrorKind),
    /// Takes only so many bytes.
    Short(usize),
    /// Says that it began, and goes on when it is told to.
    Stall(mpsc::Sender<()>, mpsc::Receiver<()>),
}

#[derive(Default)]
struct Disk {
    files: Vec<(SegmentName, Vec<u8>)>,
    writes: VecDeque<Step>,
    syncs: VecDeque<Step>,
    creates: VecDeque<ErrorKind>,
    /// The next write of nothing but a checkpoint fails.
    fail_checkpoint: bool,
    synced: usize,
    /// Syncs for announcements.
    anchor_syncs: VecDeque<Step>,
    gone: bool,
    /// No file can be removed.
    keeps_files: bool,
}

#[derive(Clone, Default)]
struct TestStorage(Arc<Mutex<Disk>>);

struct TestFile {
    disk: TestStorage,
    name: SegmentName,
}

impl Storage for TestStorage {
    fn recover(&mut self) -> io::Result<disk::Recovered> {
        Ok(disk::Recovered { instance: "1a2b3c4d".to_owned(), latest: None, end: None })
    }

    fn create(&mut self, name: &SegmentName) -> io::Result<Box<dyn SegmentFile>> {
        let mut disk = self.0.lock().unwrap();
        if let Some(kind) = disk.creates.pop_front() {
            return Err(kind.into());
        }
        assert!(disk.files.iter().all(|(known, _)| known < name));
        disk.files.push((name.clone(), Vec::new()));
        disk.gone = false;
        Ok(Box::new(TestFile { disk: self.clone(), name: name.clone() }))
    }

    fn remove(&mut self, name: &SegmentName) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        if disk.keeps_files {
            return Err(ErrorKind::ReadOnlyFilesystem.into());
        }
        disk.files.retain(|(known, _)| known != name);
        Ok(())
    }

    fn prune(&mut self, _: Timestamp, _: Duration) {}
}

impl SegmentFile for TestFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let step = {
            let mut disk = self.disk.0.lock().unwrap();
            if disk.fail_checkpoint && kinds_of(bytes) == ["checkpoint"] {
                disk.fail_checkpoint = false;
                return Err(ErrorKind::StorageFull.into());
            }
            disk.writes.pop_front()
        };
        let taken = match step {
            Some(Step::Fail(kind)) => return Err(kind.into()),
            Some(Step::Short(most)) => most.min(bytes.len()),
            Some(Step::Stall(began, go_on)) => {
                began.send(()).unwrap();
                go_on.recv().unwrap();
                bytes.len()
            }
            None => bytes.len(),
        };
        let mut disk = self.disk.0.lock().unwrap();
        let (_, content) = disk.files.iter_mut().find(|(name, _)| *name == self.name).unwrap();
        content.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.disk.0.lock().unwrap();
        disk.synced += 1;
        match disk.syncs.pop_front() {
            Some(Step::Fail(kind)) => Err(kind.into()),
            _ => Ok(()),
        }
    }

    fn is_there(&mut self) -> io::Result<bool> {
        Ok(!self.disk.0.lock().unwrap().gone)
    }

    fn later_sync(&self) -> io::Result<disk::LaterSync> {
        let disk = self.disk.clone();
        Ok(Box::new(move || {
            let step = disk.0.lock().unwrap().anchor_syncs.pop_front();
            match step {
                Some(Step::Fail(kind)) => Err(kind.into()),
                Some(Step::Stall(began, go_on)) => {
                    began.send(()).unwrap();
                    // The test may end without telling it.
                    go_on.recv().map_err(|_| ErrorKind::Other.into())
                }
                Some(Step::Short(_)) | None => Ok(()),
            }
        }))
    }
}

struct Running {
    disk: TestStorage,
    queue: Arc<Queue>,
    clock: Arc<ManualClock>,
    thread: Option<thread::JoinHandle<()>>,
    /// The sequence numbers of the checkpoints that were announced.
    announced: mpsc::Receiver<u64>,
    _keys: tempfile::TempDir,
}

impl Running {
    /// Waits until records are written again.
    fn recovers(&self) {
        let begun = Instant::now();
        while self.queue.is_failing() {
            assert!(begun.elapsed() < PATIENCE, "the writer does not recover");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn start(durability: Durability, segment_bytes: u64) -> Self {
        Self::start_on(TestStorage::default(), durability, segment_bytes)
    }

    fn start_on(disk: TestStorage, durability: Durability, segment_bytes: u64) -> Self {
        Self::start_with(disk, WriterSettings { durability, segment_bytes, ..settings() })
    }

    fn start_with(disk: TestStorage, settings: WriterSettings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let keys = Arc::new(NumberKeys::open(directory.path(), START).unwrap());
        let (signer, _) = Signer::generate().unwrap();
        let (queue, clock) = (Arc::new(Queue::bounded(4096)), Arc::new(ManualClock::new(START)));
        let storage = Box::new(disk.clone());
        let mut writer =
            Writer::with_storage(storage, Arc::new(signer), keys, clock.clone(), settings, Arc::clone(&queue));
        let (announce, announced) = mpsc::channel();
        writer.announcer = Announcer::new(move |checkpoint| _ = announce.send(checkpoint.sealed.seq));
        let _ = writer.open_first();
        let thread = Some(thread::spawn(move || writer.run()));
        Self { disk, queue, clock, thread, announced, _keys: directory }
    }

    fn record(&self, since: u64) -> bool {
        self.queue.push(self.clock.now(), &store(since))
    }

    fn record_and_wait(&self, since: u64) -> u64 {
        self.waiting(since).unwrap()
    }

    /// Records something, and waits until that is written or given up.
    fn waiting(&self, since: u64) -> Result<u64, Unconfirmed> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.queue.push_and_wait(self.clock.now(), &store(since)).unwrap())
    }

    fn script(&self, steps: impl IntoIterator<Item = Step>) {
        self.disk.0.lock().unwrap().writes.extend(steps);
    }

    /// Ends the writer.
    fn ended(mut self) -> Self {
        assert!(self.queue.close(PATIENCE));
        self.thread.take().unwrap().join().unwrap();
        self
    }

    /// Ends the writer; returns the files, each with its lines.
    fn end(self) -> Vec<Vec<String>> {
        let ended = self.ended();
        let disk = ended.disk.0.lock().unwrap();
        let lines = |content: &[u8]| std::str::from_utf8(content).unwrap().lines().map(str::to_owned).collect();
        disk.files.iter().map(|(_, content)| lines(content)).collect()
    }
}

fn settings() -> WriterSettings {
    WriterSettings {
        durability: Durability::Written,
        checkpoint_interval: Duration::from_secs(3600),
        segment: Duration::from_secs(24 * 3600),
        segment_bytes: u64::MAX,
        retention: Duration::from_secs(3600),
    }
}

fn store(since: u64) -> Record<'static> {
    Record::Store(Store { state: "lost".into(), since: Timestamp(since) })
}

fn kinds(lines: &[String]) -> Vec<&str> {
    lines.iter().map(|line| serde_json::from_str::<Header<'_>>(line).map_or("torn", |header| header.kind)).collect()
}

fn kinds_of(content: &[u8]) -> Vec<String> {
    let lines: Vec<_> = String::from_utf8_lossy(content).lines().map(str::to_owned).collect();
    kinds(&lines).into_iter().map(str::to_owned).collect()
}

/// The lines that count are one chain.
fn assert_chained(segments: &[&[String]]) {
    let (mut seq, mut head) = (0, Digest::ZERO);
    for line in segments.iter().copied().flatten() {
        let header: Header<'_> = serde_json::from_str(line).unwrap();
        assert_eq!((header.seq, header.prev), (seq + 1, head), "{line}");
        (seq, head) = (header.seq, Digest::of(line.as_bytes()));
    }
}

#[test]
fn records_are_chained_in_order_and_the_segment_is_closed_and_sealed() {
    let running = Running::start(Durability::Written, u64::MAX);
    assert_eq!(running.record_and_wait(1), 3, "after the open record and its checkpoint");
    assert!(running.record(2));
    let [lines] = &running.end()[..] else { panic!() };
    assert_eq!(kinds(lines), ["open", "checkpoint", "store", "store", "close", "checkpoint"]);
    assert_chained(&[lines]);
}

#[test]
fn synced_means_that_the_disk_has_it_before_the_callout_goes_on() {
    let running = Running::start(Durability::Synced, u64::MAX);
    let before = running.disk.0.lock().unwrap().synced;
    running.record_and_wait(1);
    assert_eq!(running.disk.0.lock().unwrap().synced, before + 1);
    running.end();
}

#[test]
fn a_full_disk_is_written_on_where_it_stopped_and_no_record_is_lost_or_written_twice() {
    let running = Running::start(Durability::Written, u64::MAX);
    running.script([
        Step::Short(40),
        Step::Fail(ErrorKind::StorageFull),
        Step::Short(1),
        Step::Fail(ErrorKind::StorageFull),
    ]);
    assert_eq!(running.record_and_wait(1), 3);
    assert!(!running.queue.is_failing(), "written again");
    let [lines] = &running.end()[..] else { panic!() };
    assert_eq!(kinds(lines), ["open", "checkpoint", "store", "close", "checkpoint"]);
    assert_chained(&[lines]);
}

#[test]
fn a_failed_disk_is_left_behind_and_the_next_segment_says_which_bytes_do_not_count() {
    for (write, sync) in [(Some(Step::Fail(ErrorKind::Other)), None), (None, Some(Step::Fail(ErrorKind::Other)))] {
        let running = Running::start(Durability::Synced, u64::MAX);
        running.script(write.map(|failure| vec![Step::Short(40), failure]).into_iter().flatten());
        running.disk.0.lock().unwrap().syncs.extend(sync);
        assert_eq!(running.record_and_wait(1), 5, "after the records that open the new segment");
        let [old, new] = &running.end()[..] else { panic!() };
        let open: Open<'_> = serde_json::from_str(&new[0]).unwrap();
        assert_eq!(
            (&*open.cause, kinds(new)),
            ("recovery", vec!["open", "checkpoint", "store", "close", "checkpoint"])
        );
        let before = open.before.unwrap();
        assert_eq!((before.seq, before.closed), (2, false));
        let uncounted: String = old[2..].iter().map(|line| line.to_owned()).collect();
        let tail = before.tail.unwrap();
        // The line feed is part of it when the whole line was written.
        assert!(tail.bytes as usize - uncounted.len() <= 1, "{tail:?} {uncounted}");
        assert_chained(&[&old[..2], new]);
    }
}

#[test]
fn a_removed_file_is_noticed_before_a_callout_goes_on() {
    let running = Running::start(Durability::Written, u64::MAX);
    running.disk.0.lock().unwrap().gone = true;
    running.disk.0.lock().unwrap().creates.push_back(ErrorKind::NotFound);
    assert_eq!(running.record_and_wait(1), 5);
    assert_eq!(running.end().len(), 2);
}

#[test]
fn a_start_that_fails_is_made_up_for() {
    let disk = TestStorage::default();
    disk.0.lock().unwrap().creates.push_back(ErrorKind::PermissionDenied);
    let running = Running::start_on(disk, Durability::Written, u64::MAX);
    assert_eq!(running.record_and_wait(1), 3);
    assert!(!running.queue.is_failing());
    running.end();
}

#[test]
fn a_disk_that_stands_still_stops_nobody_and_what_finds_no_room_is_recorded_as_lost() {
    let running = Running::start(Durability::Written, u64::MAX);
    let ((began, beginning), (go_on, gate)) = (mpsc::channel(), mpsc::channel());
    running.script([Step::Stall(began, gate)]);
    running.record(0);
    beginning.recv().unwrap();
    let taken = (1..1000).filter(|n| running.record(*n)).count();
    assert!((10..100).contains(&taken), "{taken}");
    go_on.send(()).unwrap();
    let [lines] = &running.end()[..] else { panic!() };
    assert_chained(&[lines]);
    let lost = lines.iter().find(|line| line.contains("\"kind\":\"lost\"")).unwrap();
    let lost: Lost = serde_json::from_str(lost).unwrap();
    assert_eq!(lost.records["store"], 999 - taken as u64);
}

#[test]
fn rotation_by_size_and_by_day_loses_nothing() {
    let running = Running::start(Durability::Written, 4000);
    for n in 0..100 {
        running.record_and_wait(n);
    }
    running.clock.advance(Duration::from_secs(24 * 3600));
    running.record_and_wait(100);
    let segments = running.end();
    assert!(segments.len() > 3);
    assert_chained(&segments.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let stores: usize = segments.iter().map(|lines| kinds(lines).iter().filter(|kind| **kind == "store").count()).sum();
    assert_eq!(stores, 101);
    for lines in &segments {
        let kinds = kinds(lines);
        assert_eq!((kinds[0], &kinds[kinds.len() - 2..]), ("open", &["close", "checkpoint"][..]));
    }
    let cause = |lines: &Vec<String>| serde_json::from_str::<Open<'_>>(&lines[0]).unwrap().cause.into_owned();
    let causes: Vec<_> = segments.iter().map(cause).collect();
    assert!(causes[0] == "start" && causes[1..].iter().all(|cause| cause == "rotation"), "{causes:?}");
}

/// A segment that was begun after a failure fails too, and cannot be removed. Its lines are written again: the next segment
/// must say that they do not count.
#[test]
fn a_segment_that_cannot_be_removed_is_named_by_the_next_one() {
    let running = Running::start(Durability::Synced, u64::MAX);
    running.record_and_wait(1);
    running.disk.0.lock().unwrap().keeps_files = true;
    let fails = std::iter::repeat_with(|| Step::Fail(ErrorKind::Other)).take(2);
    running.disk.0.lock().unwrap().syncs.extend(fails);
    running.record_and_wait(2);
    let [first, second, third] = &running.end()[..] else { panic!() };
    assert_eq!(kinds(second), ["open", "checkpoint", "store"]);
    assert_eq!(kinds(third), ["open", "checkpoint", "store", "close", "checkpoint"]);
    let before = serde_json::from_str::<Open<'_>>(&third[0]).unwrap().before.unwrap();
    assert!(before.segment.ends_with(".002") && before.tail.is_some(), "{before:?}");
    assert_chained(&[&first[..3], &second[..2], third]);
}

/// Callouts may be refused after such a failure, so the writer cannot wait for the next record.
#[test]
fn after_a_checkpoint_that_failed_a_segment_is_begun_without_another_record() {
    let checkpoint_interval = Duration::from_millis(10);
    let running = Running::start_with(TestStorage::default(), WriterSettings { checkpoint_interval, ..settings() });
    running.disk.0.lock().unwrap().fail_checkpoint = true;
    // A record that came when a checkpoint was due has one already.
    let unsealed = |since: &u64| {
        running.record_and_wait(*since);
        kinds_of(&running.disk.0.lock().unwrap().files[0].1).last().is_some_and(|kind| kind == "store")
    };
    assert!((1..).find(unsealed).is_some());
    let begun = || running.disk.0.lock().unwrap().files.get(1).is_some_and(|(_, content)| !content.is_empty());
    let deadline = Instant::now() + PATIENCE;
    while !begun() {
        assert!(Instant::now() < deadline, "no segment without a record");
        thread::sleep(Duration::from_millis(1));
    }
    let [old, new] = &running.end()[..] else { panic!() };
    assert_eq!((kinds(old).last(), &kinds(new)[..2]), (Some(&"store"), &["open", "checkpoint"][..]));
    assert_chained(&[old, new]);
}

#[test]
fn a_segment_that_cannot_be_opened_at_first_loses_no_record() {
    let running = Running::start_on(TestStorage::default(), Durability::Written, 2000);
    // The close of the segment, which is due by its size, and two attempts to open the next one.
    let pad = |n| running.record_and_wait(n);
    (0..8).for_each(|n| _ = pad(n));
    running.disk.0.lock().unwrap().creates.extend([ErrorKind::StorageFull, ErrorKind::StorageFull]);
    (8..30).for_each(|n| _ = pad(n));
    assert!(!running.queue.is_failing());
    assert!(running.disk.0.lock().unwrap().creates.is_empty(), "both attempts were made");
    let segments = running.end();
    assert_chained(&segments.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let stores = segments.iter().flat_map(|lines| kinds(lines)).filter(|kind| *kind == "store").count();
    assert_eq!(stores, 30);
}

#[test]
fn callouts_that_wait_learn_soon_that_the_disk_fails() {
    let running = Running::start(Durability::Written, u64::MAX);
    let fails = std::iter::repeat_with(|| Step::Fail(ErrorKind::StorageFull));
    running.script(fails.take(5));
    assert!(running.waiting(1).is_err(), "not confirmed");
    // Its record is written all the same.
    running.recovers();
    let [lines] = &running.end()[..] else { panic!() };
    assert_eq!(kinds(lines), ["open", "checkpoint", "store", "close", "checkpoint"]);
}

#[test]
fn a_disk_that_fails_for_long_is_not_filled_with_segments() {
    let running = Running::start(Durability::Synced, u64::MAX);
    running.record_and_wait(1);
    // Each attempt fails when the lines are written to the disk: the room is promised, and then not there.
    let fails = std::iter::repeat_with(|| Step::Fail(ErrorKind::StorageFull)).take(6);
    running.disk.0.lock().unwrap().syncs.extend(fails);
    assert!(running.waiting(2).is_err(), "not confirmed");
    running.recovers();
    let names: Vec<_> = running.disk.0.lock().unwrap().files.iter().map(|(name, _)| name.number).collect();
    assert_eq!(names, [1, 7], "the first, and the one that could be written; five were begun and are gone");
    let [old, new] = &running.end()[..] else { panic!() };
    assert_eq!(kinds(new), ["open", "checkpoint", "store", "close", "checkpoint"]);
    assert_chained(&[&old[..3], new]);
}

/// An anchor must not name lines that a power failure may take away, and no callout may wait for the disk because of it.
#[test]
fn a_checkpoint_is_announced_when_the_disk_has_it_and_callouts_go_on_meanwhile() {
    let disk = TestStorage::default();
    let ((began, beginning), (go_on, gate)) = (mpsc::channel(), mpsc::channel());
    disk.0.lock().unwrap().anchor_syncs.extend([Step::Stall(began, gate), Step::Fail(ErrorKind::Other)]);
    let running =
        Running::start_with(disk, WriterSettings { checkpoint_interval: Duration::from_millis(5), ..settings() });
    // The checkpoint at the beginning of the segment. The disk stands still for it.
    beginning.recv_timeout(PATIENCE).unwrap();
    let checkpoints = || running.queue.chain.now().and_then(|now| now.checkpoint).unwrap().seq;
    let first = checkpoints();
    let deadline = Instant::now() + PATIENCE;
    for since in 0.. {
        running.record_and_wait(since);
        if checkpoints() > first + 10 {
            break;
        }
        assert!(Instant::now() < deadline, "no checkpoints");
    }
    assert!(!running.queue.is_failing());
    assert_eq!(running.announced.try_recv(), Err(mpsc::TryRecvError::Empty), "the disk does not have them yet");
    go_on.send(()).unwrap();
    assert_eq!(running.announced.recv_timeout(PATIENCE), Ok(first));
    // The next one fails, so it is not announced, but a later one is. Those between were replaced.
    let deadline = Instant::now() + PATIENCE;
    let next = loop {
        running.record_and_wait(0);
        if let Ok(next) = running.announced.try_recv() {
            break next;
        }
        assert!(Instant::now() < deadline, "no announcement");
    };
    assert!(next > first + 10, "{next}");
    let (disk, queue) = (running.disk.clone(), Arc::clone(&running.queue));
    assert!(disk.0.lock().unwrap().anchor_syncs.is_empty());
    running.end();
    let Some(progress) = queue.chain.now() else { panic!() };
    assert_eq!(progress.checkpoint.unwrap().seq + 1, progress.seq, "closed and sealed");
}

#[test]
fn the_last_checkpoint_is_on_the_disk_and_announced_when_the_writer_ends() {
    let running = Running::start(Durability::Written, u64::MAX);
    running.record_and_wait(1);
    let (queue, before) = (Arc::clone(&running.queue), running.disk.0.lock().unwrap().synced);
    let Running { announced, .. } = running.ended();
    let sealed = queue.chain.now().unwrap().checkpoint.unwrap().seq;
    assert!(announced.iter().any(|seq| seq == sealed));
    assert_eq!(before, 0, "callouts wait for no disk");
}
