//! The commands as a person runs them: what they print, and their exit codes.

use std::path::{Path, PathBuf};

use assert_cmd::Command;

use crate::gateway::{Site, three_days};

/// Runs `previewgate audit …`; returns the exit code and everything that it printed.
pub(crate) fn audit(arguments: &[&str]) -> (i32, String) {
    run(arguments, "")
}

pub(crate) fn run(arguments: &[&str], input: &str) -> (i32, String) {
    let mut command = Command::cargo_bin("previewgate").unwrap();
    let output = command.arg("audit").args(arguments).write_stdin(input).output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(printed).unwrap())
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn last_segment(directory: &Path) -> PathBuf {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl")).max().unwrap()
}

#[test]
fn verify_has_an_exit_code_for_each_result() {
    let site = Site::new();
    three_days(&site, "a");
    let (directory, key) = (text(&site.path("a")), text(&site.path("audit.key.pub")));
    let verify = |more: &[&str]| audit(&[&["verify", &directory, "--public-key", &key], more].concat());
    let (code, printed) = verify(&[]);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("18 derived again with the same verdict"), "{printed}");
    assert!(printed.contains("  unsealed  none\n  anchored  none\n"), "{printed}");
    assert!(printed.ends_with("from what the agent was shown\n"), "{printed}");

    let (code, anchor) = audit(&["anchor", &directory]);
    assert_eq!(code, 0, "{anchor}");
    let file = site.path("anchor.txt");
    std::fs::write(&file, anchor).unwrap();
    let (code, printed) = verify(&["--anchor", &text(&file)]);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("anchored  seq 1 to "), "{printed}");

    let segment = last_segment(&site.path("a"));
    let content = std::fs::read(&segment).unwrap();
    std::fs::write(&segment, &content[..content.len() - 3]).unwrap();
    let (code, printed) = verify(&[]);
    assert_eq!(code, 3, "{printed}");
    assert!(printed.contains("incomplete: "), "{printed}");
    let (code, printed) = verify(&["--anchor", &text(&file)]);
    assert_eq!(code, 1, "{printed}");
    let name = segment.file_name().unwrap().to_str().unwrap();
    assert!(printed.contains(&format!("broken: {name} seq ")), "{printed}");

    let nothing = site.path("nothing");
    std::fs::create_dir(&nothing).unwrap();
    assert_eq!(audit(&["verify", &text(&nothing), "--public-key", &key]).0, 4);
    assert_eq!(audit(&["verify", &text(&site.path("absent")), "--public-key", &key]).0, 4);
    assert_eq!(audit(&["verify", &directory]).0, 2);
    let private = text(&site.path("audit.key"));
    assert_eq!(audit(&["verify", &directory, "--public-key", &private]).0, 2);
}

#[test]
fn a_running_gateway_is_verified_while_it_writes() {
    let site = Site::new();
    let mut gateway = site.gateway("a");
    gateway.show(101, 7, &["88881001"]);
    gateway.call(101, 7, "88881001", "1");
    gateway.decide(101, 7, "88881002");
    let (directory, key) = (text(&site.path("a")), text(&site.path("audit.key.pub")));
    let (code, printed) = audit(&["verify", &directory, "--public-key", &key]);
    assert!(matches!(code, 0 | 3) && printed.contains(", being written\n"), "{code} {printed}");
    gateway.stop();
    let (code, printed) = audit(&["verify", &directory, "--public-key", &key]);
    assert!(code == 0 && !printed.contains("being written"), "{code} {printed}");
}

#[test]
fn keygen_makes_keys_and_never_overwrites_one() {
    let site = Site::new();
    let (key, numbers) = (site.path("new.key"), site.path("new-numbers"));
    let arguments = ["keygen", "--signing-key", &text(&key), "--number-keys", &text(&numbers), "--months", "3"];
    let (code, printed) = audit(&arguments);
    assert_eq!(code, 0, "{printed}");
    assert_eq!(std::fs::read_to_string(site.path("new.key.pub")).unwrap(), printed);
    assert_eq!(std::fs::read_dir(&numbers).unwrap().count(), 3);
    assert_eq!(audit(&["public-key", &text(&key)]), (0, printed));
    let before = std::fs::read(&key).unwrap();
    assert_eq!(audit(&arguments).0, 1);
    assert_eq!(std::fs::read(&key).unwrap(), before);
    assert_eq!(audit(&["keygen"]).0, 2);
}

#[test]
fn a_number_is_found_by_its_hashes() {
    let site = Site::new();
    three_days(&site, "a");
    let numbers = text(&site.path("numbers"));
    let (code, printed) = run(&["hash", "--number-keys", &numbers], "88889999\n");
    assert_eq!(code, 0, "{printed}");
    let log: String = std::fs::read_dir(site.path("a"))
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    let hashes: Vec<&str> = printed.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(hashes.len(), 2, "November and December: {printed}");
    assert!(hashes.iter().all(|hash| log.contains(hash)), "{printed}");
    assert_eq!(run(&["hash", "--number-keys", &numbers], "\n").0, 2);

    // Everything that was asked for about a number, in both months, for whoever asks what was done with it.
    let directory = text(&site.path("a"));
    let stories = |number: &str| run(&["show", &directory, "--number-keys", &numbers], number);
    let (code, printed) = stories("88889999\n");
    assert_eq!(code, 0, "{printed}");
    assert_eq!(printed.matches("asks for a call to ******99").count(), 6, "{printed}");
    assert!(!printed.contains("asks for a call to ******02"), "{printed}");
    let (code, printed) = stories("88889998");
    assert!(code == 1 && printed.contains("nothing is recorded about it"), "{printed}");
    // With the key of a month, its callouts cannot be found any more; the log still verifies.
    std::fs::remove_file(site.path("numbers").join("2026-12.key")).unwrap();
    let (code, printed) = stories("88889999\n");
    assert_eq!((code, printed.matches("asks for a call to ******99").count()), (0, 2), "{printed}");
    assert!(printed.contains("audit log: verified"), "{printed}");
}

#[test]
fn old_segments_are_pruned_when_their_time_is_over_and_the_rest_still_verifies() {
    let mut site = Site::new();
    // The clock of the site is in the future; the command goes by the real one.
    site.retention = std::time::Duration::from_secs(60);
    three_days(&site, "a");
    let (directory, key) = (text(&site.path("a")), text(&site.path("audit.key.pub")));
    let checkpoints = || {
        let names = std::fs::read_dir(site.path("a")).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().ends_with(".checkpoint")).count()
    };
    assert_eq!(checkpoints(), 2, "the gateway removed what was over");
    let (code, printed) = audit(&["verify", &directory, "--public-key", &key]);
    assert!(code == 0 && printed.contains("2 pruned"), "{code} {printed}");
    let name = std::fs::read_dir(site.path("a"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "checkpoint"))
        .max()
        .unwrap();
    std::fs::remove_file(name).unwrap();
    let (code, printed) = audit(&["verify", &directory, "--public-key", &key]);
    assert!(code == 1 && printed.contains("is missing"), "{code} {printed}");
}

#[test]
fn a_segment_is_not_pruned_before_its_time() {
    let site = Site::new();
    three_days(&site, "a");
    let (directory, key) = (text(&site.path("a")), text(&site.path("audit.key.pub")));
    let (code, printed) = audit(&["prune", &directory, "--older-than", "1d"]);
    assert!(code == 2 && printed.contains("promises to keep its segments for 1825 days"), "{code} {printed}");
    assert_eq!(audit(&["prune", &directory, "--older-than", "5y"]), (0, "0 segments removed\n".to_owned()));
    // Somebody removes a segment as if it had been pruned.
    let directory_path = site.path("a");
    previewgate::audit::prune::prune(
        &directory_path,
        previewgate::preview::Timestamp(u64::MAX / 2),
        std::time::Duration::ZERO,
    )
    .unwrap();
    let (code, printed) = audit(&["verify", &directory, "--public-key", &key]);
    assert!(code == 1 && printed.contains("promised to keep it for 1825 days"), "{code} {printed}");
}
