//! A second verifier, in Python and written from `docs/audit.md`, must agree with `audit verify`.

use std::path::{Path, PathBuf};
use std::process::Command;

use previewgate::audit::verify::{Request, Result as Proof, verify};

use crate::gateway::{Site, three_days};

/// What is missing here to run it, if something is.
fn missing() -> Option<&'static str> {
    let is_there = |program: &str, argument: &str| Command::new(program).arg(argument).output().is_ok();
    if !is_there("python3", "--version") {
        Some("python3")
    } else if !is_there("openssl", "version") {
        Some("openssl")
    } else {
        None
    }
}

#[allow(clippy::print_stderr, reason = "the output must name what was not tested")]
fn skipped() -> bool {
    let Some(program) = missing() else { return false };
    assert!(std::env::var("CI").is_ok_and(|ci| ci == "true").eq(&false), "CI must have {program}");
    eprintln!("SKIPPED: {program} is not installed");
    true
}

/// Whether each verifier finds the directories broken; ours and theirs must agree.
#[track_caller]
fn is_broken(site: &Site, directories: &[PathBuf]) -> bool {
    let ours = verify(&Request { directories, keys: &site.keys, anchor: None }).unwrap();
    let ours = ours.result() == Proof::Broken;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/audit/verify.py");
    let mut command = Command::new("python3");
    let output = command.arg(script).arg(site.path("audit.key.pub")).args(directories).output().unwrap();
    let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!printed.contains("Traceback") || ours, "{printed}");
    assert_eq!(output.status.code(), Some(i32::from(ours)), "{printed}");
    ours
}

#[test]
fn the_verifier_in_python_agrees_on_good_and_on_broken_directories() {
    if skipped() {
        return;
    }
    let site = Site::new();
    three_days(&site, "a");
    assert!(!is_broken(&site, &[site.path("a")]));
    let segments: Vec<PathBuf> = std::fs::read_dir(site.path("a"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    let copy = site.path("copy");
    std::fs::create_dir(&copy).unwrap();
    let (mut broken, mut sound) = (0, 0);
    for segment in &segments {
        let original = std::fs::read(segment).unwrap();
        let lines: Vec<&[u8]> = original.split_inclusive(|byte| *byte == b'\n').collect();
        for (kind, index) in (0..6).zip([0, 1, 3, lines.len() / 2, lines.len() - 2, lines.len() - 1]) {
            let mut changed: Vec<Vec<u8>> = lines.iter().map(|line| line.to_vec()).collect();
            match kind {
                0 => drop(changed.remove(index)),
                1 => changed.insert(index, lines[index].to_vec()),
                2 => changed.swap(index, index - 1),
                3 => changed[index][90] ^= 1,
                4 => changed.truncate(index),
                _ => changed[index].truncate(20),
            }
            for other in &segments {
                std::fs::copy(other, copy.join(other.file_name().unwrap())).unwrap();
            }
            std::fs::write(copy.join(segment.file_name().unwrap()), changed.concat()).unwrap();
            if is_broken(&site, std::slice::from_ref(&copy)) { broken += 1 } else { sound += 1 }
        }
    }
    // Only the end of the last segment can go without a trace, as long as no anchor is at hand.
    assert_eq!(sound, 2, "of {}", broken + sound);
}

#[test]
fn both_verifiers_find_a_callout_that_was_never_shown() {
    use previewgate::preview::{Callout, ControlId, DialedNumber, Reason, Verdict};
    if skipped() {
        return;
    }
    let site = Site::new();
    let mut gateway = site.gateway("a");
    gateway.show(101, 7, &["88881001"]);
    let callout = Callout { called: DialedNumber::new("88889999"), control_id: ControlId(7) };
    let decision = gateway.record(101, &callout, &gateway.previews(101), Verdict::Forwarded, Reason::Ok);
    gateway.answer(101, decision, "1");
    gateway.stop();
    assert!(is_broken(&site, &[site.path("a")]));
}
