//! Who may write a chain.

use super::*;
use crate::audit::segment::SegmentName;

fn name(instance: &str, number: u32) -> SegmentName {
    SegmentName { day: "2026-11-30".to_owned(), number, instance: instance.to_owned() }
}

/// A gateway that has begun a segment with one line.
fn gateway(path: &Path) -> (Directory, String, Box<dyn SegmentFile>) {
    let mut directory = Directory::new(path);
    let instance = directory.recover().unwrap().instance;
    let mut segment = directory.create(&name(&instance, 1)).unwrap();
    let line =
        format!("{{\"seq\":1,\"prev\":\"{}\",\"at\":\"2026-11-30T00:00:00.000Z\",\"kind\":\"open\"}}\n", Digest::ZERO);
    segment.write(line.as_bytes()).unwrap();
    (directory, instance, segment)
}

#[test]
fn a_chain_is_not_taken_from_a_gateway_whose_lock_file_was_removed() {
    let path = tempfile::tempdir().unwrap();
    let (running, instance, segment) = gateway(path.path());
    let lock = path.path().join(format!("{instance}.lock"));
    fs::remove_file(&lock).unwrap();
    // Another one may have begun and left such a file again.
    for lock_is_there in [false, true] {
        assert_eq!(lock.exists(), lock_is_there);
        let mut other = Directory::new(path.path());
        assert_ne!(other.recover().unwrap().instance, instance, "the chain is being written");
        // What is kept must not be removed either.
        let later = Timestamp(4_000_000_000_000);
        other.prune(later, Duration::from_secs(1));
        assert!(path.path().join(name(&instance, 1).file()).exists());
    }
    drop((running, segment));
    let mut next = Directory::new(path.path());
    // The chains that the others began are free too, and have no line.
    let mut claimed = Vec::new();
    while let Ok(recovered) = next.recover() {
        claimed.push((recovered.instance.clone(), recovered.end.map(|end| end.seq)));
        if recovered.instance == instance {
            break;
        }
        assert!(claimed.len() < 10, "{claimed:?}");
        let held = std::mem::replace(&mut next, Directory::new(path.path()));
        std::mem::forget(held);
    }
    assert_eq!(claimed.last(), Some(&(instance, Some(1))), "it goes on where the gateway ended");
}

#[test]
fn a_gateway_whose_lock_file_was_removed_goes_on_with_its_chain() {
    let path = tempfile::tempdir().unwrap();
    let (mut running, instance, segment) = gateway(path.path());
    fs::remove_file(path.path().join(format!("{instance}.lock"))).unwrap();
    drop(segment);
    let _second = running.create(&name(&instance, 2)).unwrap();
    let mut other = Directory::new(path.path());
    assert_ne!(other.recover().unwrap().instance, instance, "both are locked again");
}

/// The thread that waits for the disk has the file for longer than the writer.
#[test]
fn a_chain_is_free_when_its_segment_is_closed_although_a_sync_is_due() {
    let path = tempfile::tempdir().unwrap();
    let (running, instance, segment) = gateway(path.path());
    let sync = segment.later_sync().unwrap();
    drop((running, segment));
    assert_eq!(Directory::new(path.path()).recover().unwrap().instance, instance);
    sync().unwrap();
}
