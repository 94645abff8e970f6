//! What an attacker might try, and what befalls an honest gateway and may look like it.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::slice::from_ref;
use std::sync::Arc;
use std::time::Duration;

use previewgate::audit::ConfigTrigger;
use previewgate::audit::note::Verifier;
use previewgate::audit::prune::prune;
use previewgate::audit::verify::{Findings, Grade, Log, Request, Result as Proof, Verification, verify};
use previewgate::preview::{Clock, ManualClock, Verdict};

use crate::gateway::{Gateway, START, Site, announcement, three_days};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn verify_with(directories: &[PathBuf], keys: &[Verifier], anchor: Option<&str>) -> Verification {
    let anchor = anchor.map(|text| ("anchor.txt", text));
    verify(&Request { directories, keys, anchor }).unwrap()
}

/// The last signed note of each chain.
fn anchor_of(directory: &Path) -> String {
    let mut findings = Findings::default();
    let directories = [directory.to_owned()];
    let mut log = Log::open(&directories, &[], None, &mut findings).unwrap();
    while log.next(&mut findings).unwrap().is_some() {}
    log.summaries().filter_map(|summary| summary.last_note.clone()).collect()
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

fn work(gateway: &mut Gateway, control_id: i64) {
    gateway.show(101, control_id, &["88881001"]);
    assert_eq!(gateway.call(101, control_id, "88881001", &format!("call-{control_id}")).0, Verdict::Forwarded);
}

#[track_caller]
fn assert_proved(verification: &Verification) {
    assert_eq!((verification.result(), verification.findings.all()), (Proof::Proved, &[][..]));
}

#[track_caller]
fn assert_broken(verification: &Verification, words: &str) {
    let broken: Vec<_> = verification.findings.of(Grade::Broken).map(ToString::to_string).collect();
    assert!(broken.iter().any(|finding| finding.contains(words)), "{words:?} is not in {broken:#?}");
    assert_eq!(verification.result(), Proof::Broken);
}

/// A gateway that ran three days, as files.
fn recorded() -> (Site, PathBuf) {
    let site = Site::new();
    three_days(&site, "a");
    let directory = site.path("a");
    (site, directory)
}

#[test]
fn a_chain_that_is_cut_where_a_gateway_had_stopped_is_found_by_the_anchor_only() {
    let site = Site::new();
    for day in 0..2 {
        let mut gateway = site.gateway("a");
        work(&mut gateway, day);
        gateway.stop();
        site.clock.advance(DAY);
    }
    let directory = site.path("a");
    let anchor = anchor_of(&directory);
    assert_proved(&verify_with(from_ref(&directory), &site.keys, Some(&anchor)));
    std::fs::remove_file(segments(&directory).pop().unwrap()).unwrap();
    assert_proved(&verify_with(from_ref(&directory), &site.keys, None));
    assert_broken(&verify_with(&[directory], &site.keys, Some(&anchor)), "cut off");
}

#[test]
fn other_line_ends_and_bytes_after_the_end_are_found_in_each_segment() {
    let (site, directory) = recorded();
    for segment in segments(&directory) {
        let original = std::fs::read(&segment).unwrap();
        let name = segment.file_name().unwrap().to_str().unwrap();
        let crlf = String::from_utf8(original.clone()).unwrap().replace('\n', "\r\n").into_bytes();
        let last_only = [&original[..original.len() - 1], b"\r\n"].concat();
        for (change, content) in [
            ("CRLF", crlf),
            ("CRLF at the end", last_only),
            ("NUL", [&original[..], b"\0"].concat()),
            ("a page of NUL", [&original[..], &[0; 4096]].concat()),
            ("an empty line", [&original[..], b"\n"].concat()),
            ("blanks", [&original[..], b"  "].concat()),
            ("a byte order mark", [b"\xef\xbb\xbf", &original[..]].concat()),
        ] {
            std::fs::write(&segment, content).unwrap();
            let verification = verify_with(from_ref(&directory), &site.keys, None);
            assert_eq!(verification.result(), Proof::Broken, "{change} in {name}");
            let mut broken = verification.findings.of(Grade::Broken);
            assert!(broken.any(|finding| finding.file == name && finding.seq.is_some()), "{change} in {name}");
        }
        std::fs::write(&segment, original).unwrap();
    }
    assert_proved(&verify_with(&[directory], &site.keys, None));
}

/// File systems may leave zeros at the end of a file after a power failure. The next start names them.
#[test]
fn zeros_that_a_power_failure_leaves_are_no_sign_of_tampering() {
    let (site, directory) = recorded();
    let last = segments(&directory).pop().unwrap();
    let content = std::fs::read_to_string(&last).unwrap();
    let lines: Vec<&str> = content.split_inclusive('\n').collect();
    let cut = lines[..lines.len() - 3].concat();
    std::fs::write(&last, [cut.as_bytes(), &[0; 517]].concat()).unwrap();
    assert_eq!(verify_with(from_ref(&directory), &site.keys, None).result(), Proof::Incomplete);
    let mut gateway = site.gateway("a");
    work(&mut gateway, 900);
    gateway.stop();
    let verification = verify_with(&[directory], &site.keys, None);
    assert_eq!(verification.findings.of(Grade::Broken).next(), None);
    assert_eq!(verification.result(), Proof::Incomplete);
}

#[test]
fn a_segment_may_be_a_link_and_nothing_else_but_a_file() {
    let (site, directory) = recorded();
    let elsewhere = site.path("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let segment = segments(&directory).remove(0);
    let moved = elsewhere.join("moved");
    std::fs::rename(&segment, &moved).unwrap();
    symlink(&moved, &segment).unwrap();
    assert_proved(&verify_with(from_ref(&directory), &site.keys, None));
    // The same directory by two names is one.
    symlink(&directory, site.path("again")).unwrap();
    assert_proved(&verify_with(&[directory.clone(), site.path("again"), directory.join(".")], &site.keys, None));

    let chain = segment.file_name().unwrap().to_str().unwrap().split('.').nth(1).unwrap().to_owned();
    for name in
        [format!("2027-01-01.{chain}.001.jsonl"), format!("2020-01-01.{chain}.001.checkpoint"), format!("{chain}.lock")]
    {
        let path = directory.join(&name);
        let kept = std::fs::read(&path).ok();
        let _ = std::fs::remove_file(&path);
        // Nothing must wait for a pipe.
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert_broken(&verify_with(from_ref(&directory), &site.keys, None), "is not a file");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_broken(&verify_with(from_ref(&directory), &site.keys, None), "is not a file");
        std::fs::remove_dir(&path).unwrap();
        symlink(elsewhere.join("nothing"), &path).unwrap();
        assert_broken(&verify_with(from_ref(&directory), &site.keys, None), "is a link to nothing");
        std::fs::remove_file(&path).unwrap();
        kept.into_iter().for_each(|content| std::fs::write(&path, content).unwrap());
    }
    assert_proved(&verify_with(&[directory], &site.keys, None));
}

#[test]
fn a_link_to_another_segment_is_found() {
    let (site, directory) = recorded();
    let all = segments(&directory);
    std::fs::remove_file(&all[1]).unwrap();
    symlink(&all[0], &all[1]).unwrap();
    let verification = verify_with(&[directory], &site.keys, None);
    let name = all[1].file_name().unwrap().to_str().unwrap();
    assert!(verification.findings.of(Grade::Broken).any(|finding| finding.file == name && finding.seq.is_some()));
}

#[test]
fn a_link_does_not_lead_the_one_who_prunes_to_another_file() {
    let (_site, directory) = recorded();
    let victim = directory.join("victim");
    std::fs::write(&victim, "precious").unwrap();
    for segment in segments(&directory) {
        let name = segment.file_stem().unwrap().to_str().unwrap().to_owned();
        symlink(&victim, directory.join(format!(".{name}.{}.tmp", std::process::id()))).unwrap();
    }
    assert!(prune(&directory, START.after(DAY * 3000), DAY).unwrap() > 0);
    assert_eq!(std::fs::read_to_string(victim).unwrap(), "precious");
}

#[test]
fn a_copy_beside_the_original_changes_nothing_and_a_changed_copy_is_found() {
    let site = Site::new();
    let directory = site.path("a");
    let mut gateway = site.gateway("a");
    work(&mut gateway, 1);
    // A backup while the gateway writes: its last line may be torn.
    copy(&directory, &site.path("backup"));
    let early = segments(&site.path("backup")).remove(0);
    let content = std::fs::read(&early).unwrap();
    std::fs::write(&early, &content[..content.len() - 7]).unwrap();
    work(&mut gateway, 2);
    gateway.stop();
    for directories in [["a", "backup"], ["backup", "a"]] {
        let directories = directories.map(|name| site.path(name));
        assert_proved(&verify_with(&directories, &site.keys, Some(&anchor_of(&directory))));
        let changed =
            String::from_utf8_lossy(&content).replace("\"verdict\":\"forwarded\"", "\"verdict\":\"rejected\"");
        std::fs::write(&early, changed).unwrap();
        assert_broken(&verify_with(&directories, &site.keys, None), "two segments have this name");
        std::fs::write(&early, &content[..content.len() - 7]).unwrap();
    }
}

#[test]
fn two_notes_of_one_segment_must_be_the_same() {
    let (site, directory) = recorded();
    prune(&directory, START.after(DAY * 3000), DAY).unwrap();
    copy(&directory, &site.path("copy"));
    let both = [directory.clone(), site.path("copy")];
    let removed_early = "promised to keep it";
    let broken = |verification: &Verification| verification.findings.count(Grade::Broken);
    let alone = broken(&verify_with(&[directory], &site.keys, None));
    let together = verify_with(&both, &site.keys, None);
    assert_broken(&together, removed_early);
    assert_eq!(broken(&together), alone);
    let note = std::fs::read_dir(site.path("copy")).unwrap().map(|entry| entry.unwrap().path());
    let note = note.into_iter().find(|path| path.extension().is_some_and(|found| found == "checkpoint")).unwrap();
    let text = std::fs::read_to_string(&note).unwrap();
    std::fs::write(&note, text.replace("\nseq ", "\nseq 1")).unwrap();
    assert_broken(&verify_with(&both, &site.keys, None), "two notes have this name");
}

/// Whatever the gateway recorded after the backup is lost, and looks as if it had been cut off.
#[test]
fn a_directory_from_a_backup_that_is_older_than_the_anchor_is_broken() {
    let site = Site::new();
    let directory = site.path("a");
    let mut gateway = site.gateway("a");
    work(&mut gateway, 1);
    gateway.stop();
    copy(&directory, &site.path("backup"));
    let mut gateway = site.gateway("a");
    work(&mut gateway, 2);
    gateway.stop();
    let anchor = anchor_of(&directory);
    assert_proved(&verify_with(from_ref(&directory), &site.keys, Some(&anchor)));
    let restored = site.path("backup");
    assert_broken(&verify_with(from_ref(&restored), &site.keys, Some(&anchor)), "cut off");
    // The gateway goes on with it, further than the anchor.
    let mut gateway = site.gateway("backup");
    (3..8).for_each(|control_id| work(&mut gateway, control_id));
    gateway.stop();
    assert_proved(&verify_with(from_ref(&restored), &site.keys, None));
    assert_broken(&verify_with(from_ref(&restored), &site.keys, Some(&anchor)), "is not the one that the anchor");
    // Beside what was saved of the lost part.
    assert_broken(&verify_with(&[directory, restored], &site.keys, None), "two segments have this name");
}

/// A host that was cloned with its audit directory: two gateways go on with one chain.
#[test]
fn two_gateways_with_one_chain_are_found_together_and_each_is_proved_alone() {
    let site = Site::new();
    let mut gateway = site.gateway("a");
    work(&mut gateway, 1);
    gateway.stop();
    copy(&site.path("a"), &site.path("clone"));
    for (name, days) in [("a", 1), ("clone", 2)] {
        site.clock.advance(DAY * days);
        let mut gateway = site.gateway(name);
        work(&mut gateway, 2);
        gateway.stop();
        assert_proved(&site.verify(&[name]));
    }
    let together = site.verify(&["a", "clone"]);
    assert_broken(&together, "is missing, or is not in its place");
}

/// The clock of a host is set back while its gateway does not run. What a clock that is ahead wrote stays first.
#[test]
fn a_clock_that_is_set_back_between_two_starts_makes_no_honest_log_look_broken() {
    let site = Site::new();
    let set_back = |by: Duration| {
        let earlier = site.clock.now().before(by);
        site.clock.set(earlier);
    };
    for by in [Duration::from_secs(60), DAY * 5, Duration::from_secs(3)] {
        let mut gateway = site.gateway("a");
        gateway.configure(ConfigTrigger::Signal, "monitor");
        gateway.show(101, 7, &["88881001"]);
        site.clock.advance(Duration::from_secs(10));
        assert_eq!(gateway.call(101, 7, "88881001", "1").0, Verdict::Forwarded);
        gateway.stop();
        set_back(by);
        // The previews were kept in a snapshot. The one that was shown before is shown again, called, and released.
        let mut gateway = site.gateway("a");
        let again = gateway.show(101, 7, &["88881001"]);
        site.clock.advance(Duration::from_secs(1));
        assert_eq!(gateway.call(101, 7, "88881001", "2").0, Verdict::Forwarded);
        gateway.audit.ended(crate::gateway::id(101), Some(previewgate::preview::ControlId(7)), &[again], "released");
        gateway.stop();
        let verification = site.verify(&["a"]);
        assert_eq!(verification.findings.all(), [], "{by:?}");
    }
}

#[test]
fn an_end_after_the_clock_was_set_back_does_not_accuse_an_earlier_call() {
    let site = Site::new();
    let mut gateway = site.gateway("a");
    let shown = gateway.show(101, 7, &["88881001"]);
    site.clock.advance(Duration::from_secs(60));
    assert_eq!(gateway.call(101, 7, "88881001", "1").0, Verdict::Forwarded);
    gateway.stop();
    site.clock.set(START.after(Duration::from_secs(30)));
    let gateway = site.gateway("a");
    gateway.audit.ended(crate::gateway::id(101), Some(previewgate::preview::ControlId(7)), &[shown], "released");
    gateway.stop();
    assert_proved(&site.verify(&["a"]));
}

/// The same announcement again by a clock that was set back: the last one counts, as it did for the gateway.
#[test]
fn a_preview_that_is_shown_again_by_an_earlier_clock_is_as_old_as_the_gateway_said() {
    let site = Site::new();
    let mut gateway = site.gateway("a");
    let first = gateway.show(101, 7, &["88881001"]);
    gateway.stop();
    site.clock.set(START.before(Duration::from_secs(60)));
    let mut gateway = site.gateway("a");
    let mut known = announcement(7, &["88881001"]);
    known.shown = vec![first];
    gateway.learn(101, known);
    gateway.show(101, 7, &["88881001"]);
    site.clock.advance(Duration::from_secs(1));
    assert_eq!(gateway.call(101, 7, "88881001", "1").0, Verdict::Forwarded);
    gateway.stop();
    assert_proved(&site.verify(&["a"]));
}

/// After a crash the last lines have no checkpoint. That is a sign of tampering only if they span more time than the gateway
/// leaves lines unsealed: lines of an earlier start, by a clock that was ahead, do not count.
#[test]
fn lines_that_no_checkpoint_covers_are_measured_by_their_own_times() {
    let site = Site::new();
    let mut gateway = site.gateway("a");
    work(&mut gateway, 1);
    gateway.stop();
    site.clock.set(START.before(DAY * 5));
    let mut gateway = site.gateway("a");
    work(&mut gateway, 2);
    crash(&site, gateway);
    let verification = site.verify(&["crashed"]);
    assert_eq!(verification.findings.of(Grade::Broken).next(), None);
    assert_eq!(verification.result(), Proof::Incomplete);
}

/// A host that is suspended for hours and crashes soon after it has resumed.
#[test]
fn lines_from_before_and_after_a_suspension_are_sealed() {
    let site = Site::new();
    // Not over midnight, when a segment ends.
    site.clock.advance(Duration::from_secs(3600));
    let mut gateway = site.gateway("a");
    work(&mut gateway, 1);
    site.clock.advance(Duration::from_secs(12 * 3600));
    gateway.show(101, 2, &["88881001"]);
    work(&mut gateway, 3);
    crash(&site, gateway);
    let verification = site.verify(&["crashed"]);
    assert_eq!(verification.findings.of(Grade::Broken).next(), None);
    assert_eq!(verification.result(), Proof::Incomplete);
}

/// What a gateway leaves that is killed now: its files without what it writes when it stops.
fn crash(site: &Site, gateway: Gateway) {
    copy(&site.path("a"), &site.path("crashed"));
    gateway.stop();
}

/// A decision of the same name would hide that the first one has no outcome.
#[test]
fn the_name_of_a_decision_without_outcome_is_not_used_again() {
    let site = Site::new();
    let clock: Arc<ManualClock> = Arc::clone(&site.clock);
    let mut gateway = site.gateway("a");
    gateway.show(101, 7, &["88881001"]);
    clock.advance(Duration::from_secs(1));
    let (_, first) = gateway.decide(101, 7, "88881001");
    gateway.repeat_id();
    let (_, second) = gateway.decide(101, 7, "88881001");
    assert_eq!(first, second);
    gateway.answer_silently(second, "1");
    gateway.stop();
    assert_broken(&site.verify(&["a"]), "has the name of another decision without outcome");
}
