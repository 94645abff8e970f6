//! Every change of a directory is found, and named by file and sequence number.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use previewgate::audit::note::{Signer, Verifier};
use previewgate::audit::verify::{Grade, Log, Request, Result as Proof, Verification, verify};
use previewgate::audit::{Digest, verify::Findings};

use crate::gateway::{Site, three_days};

/// A directory in memory: the content of each file by its name.
type Files = BTreeMap<String, Vec<u8>>;

fn read(directory: &Path) -> Files {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect()
}

fn write(files: &Files) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(directory.path().join(name), content).unwrap();
    }
    directory
}

fn check(files: &Files, keys: &[Verifier], anchor: Option<&str>) -> Verification {
    let directory = write(files);
    let directories = [directory.path().to_owned()];
    let anchor = anchor.map(|text| ("anchor.txt", text));
    verify(&Request { directories: &directories, keys, anchor }).unwrap()
}

fn lines(content: &[u8]) -> Vec<Vec<u8>> {
    content.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// The last signed note, as `audit anchor` prints it.
fn anchor_of(directory: &Path) -> String {
    let mut findings = Findings::default();
    let directories = [PathBuf::from(directory)];
    let mut log = Log::open(&directories, &[], None, &mut findings).unwrap();
    while log.next(&mut findings).unwrap().is_some() {}
    let note = log.summaries().next().unwrap().last_note.clone();
    note.unwrap()
}

struct Recorded {
    site: Site,
    files: Files,
    anchor: String,
}

impl Recorded {
    fn new() -> Self {
        let site = Site::new();
        three_days(&site, "a");
        let directory = site.path("a");
        Self { files: read(&directory), anchor: anchor_of(&directory), site }
    }

    fn segments(&self) -> Vec<String> {
        self.files.keys().filter(|name| name.ends_with(".jsonl")).cloned().collect()
    }

    /// The sequence number of the first line of a segment.
    fn first_seq(&self, segment: &str) -> u64 {
        let before = self.segments().into_iter().take_while(|name| name != segment);
        1 + before.map(|name| lines(&self.files[&name]).len() as u64).sum::<u64>()
    }

    /// A changed copy must be broken; the finding must name the file and a sequence number next to `seq`.
    #[track_caller]
    fn assert_found(&self, changed: &Files, segment: &str, seq: u64, change: &str) {
        let verification = check(changed, &self.site.keys, Some(&self.anchor));
        let broken: Vec<_> = verification.findings.of(Grade::Broken).collect();
        assert_eq!(verification.result(), Proof::Broken, "{change}");
        let named = broken
            .iter()
            .any(|finding| finding.file == segment && finding.seq.is_some_and(|found| found.abs_diff(seq) <= 1));
        assert!(named, "{change}: {segment} seq {seq} is not named in {broken:#?}");
    }
}

#[test]
fn an_unchanged_directory_is_proved() {
    let recorded = Recorded::new();
    assert!(recorded.segments().len() >= 3, "{:?}", recorded.segments());
    let verification = check(&recorded.files, &recorded.site.keys, Some(&recorded.anchor));
    assert_eq!(verification.findings.all(), []);
    assert_eq!(verification.result(), Proof::Proved);
    let [chain] = &verification.chains[..] else { panic!("{:?}", verification.chains) };
    let (first, last) = chain.lines.unwrap();
    assert_eq!((first, chain.sealed, chain.anchored), (1, Some(last), Some(last - 1)));
    assert_eq!(verification.decisions.derived, 18);
    assert_eq!((verification.decisions.answered, verification.decisions.open), (9, 0));
}

#[test]
fn each_changed_line_is_found() {
    let recorded = Recorded::new();
    for segment in recorded.segments() {
        let original = lines(&recorded.files[&segment]);
        let first = recorded.first_seq(&segment);
        for (index, line) in original.iter().enumerate() {
            let seq = first + index as u64;
            let try_out = |change: &str, changed: Vec<Vec<u8>>| {
                let mut files = recorded.files.clone();
                files.insert(segment.clone(), changed.concat());
                recorded.assert_found(&files, &segment, seq, &format!("{change} line {} of {segment}", index + 1));
            };
            let with = |replacement: Vec<Vec<u8>>| {
                let mut changed = original.clone();
                changed.splice(index..=index, replacement);
                changed
            };
            // A few positions of each line: its header, its middle, its end.
            for position in [2, 9, 40, line.len() / 2, line.len() - 3] {
                let mut altered = line.clone();
                altered[position] ^= 1;
                try_out(&format!("alter byte {position} of"), with(vec![altered]));
            }
            try_out("delete", with(vec![]));
            try_out("duplicate", with(vec![line.clone(), line.clone()]));
            try_out("insert a line before", with(vec![b"{\"seq\":1}\n".to_vec(), line.clone()]));
            let mut forged = line.clone();
            forged.splice(line.len() - 2..line.len() - 2, *b",\"x\":1");
            try_out("insert a similar line after", with(vec![line.clone(), forged]));
            try_out("truncate", with(vec![line[..line.len() / 2].to_vec()]));
            try_out("truncate the file after", original[..index].to_vec());
            try_out("truncate the file within", [&original[..index], &[line[..line.len() - 1].to_vec()]].concat());
            if index + 1 < original.len() {
                let mut swapped = original.clone();
                swapped.swap(index, index + 1);
                try_out("swap", swapped);
            }
        }
    }
}

#[test]
fn each_changed_segment_is_found() {
    let recorded = Recorded::new();
    let segments = recorded.segments();
    for (position, segment) in segments.iter().enumerate() {
        let named = |files: &Files, change: &str| {
            let verification = check(files, &recorded.site.keys, Some(&recorded.anchor));
            assert_eq!(verification.result(), Proof::Broken, "{change} {segment}");
            let mut broken = verification.findings.of(Grade::Broken);
            let found = broken.any(|finding| finding.file == *segment && finding.seq.is_some());
            assert!(found, "{change} {segment}: {:#?}", verification.findings.all());
        };
        let mut files = recorded.files.clone();
        files.remove(segment);
        named(&files, "delete");
        files.insert(segment.clone(), Vec::new());
        named(&files, "empty");
        for (other, other_name) in segments.iter().enumerate().filter(|(other, _)| *other != position) {
            let mut files = recorded.files.clone();
            files.insert(segment.clone(), recorded.files[other_name].clone());
            named(&files, &format!("overwrite with {other}"));
            files.insert(other_name.clone(), recorded.files[segment].clone());
            named(&files, &format!("swap with {other}"));
        }
        let number = segment.replace(".001.jsonl", ".002.jsonl");
        let mut files = recorded.files.clone();
        files.insert(number.clone(), recorded.files[segment].clone());
        let verification = check(&files, &recorded.site.keys, Some(&recorded.anchor));
        assert_eq!(verification.result(), Proof::Broken);
        assert!(verification.findings.of(Grade::Broken).any(|finding| finding.file == number));
        let mut files = recorded.files.clone();
        files.insert("copy.jsonl".to_owned(), recorded.files[segment].clone());
        let verification = check(&files, &recorded.site.keys, Some(&recorded.anchor));
        assert!(verification.findings.of(Grade::Broken).any(|finding| finding.file == "copy.jsonl"));
    }
}

/// Makes the whole chain again after a change, as somebody could who has the directory but not the signing key.
fn rebuild(files: &Files, change: impl Fn(&str) -> Option<String>, seal: impl Fn(&str) -> String) -> Files {
    let mut rebuilt = Files::new();
    let (mut seq, mut head) = (0_u64, Digest::ZERO);
    let mut end = (String::new(), 0, Digest::ZERO);
    for (name, content) in files.iter().filter(|(name, _)| name.ends_with(".jsonl")) {
        let mut new = Vec::new();
        for line in lines(content) {
            let text = String::from_utf8(line).unwrap();
            let Some(text) = change(text.trim_end()) else { continue };
            let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
            if value["kind"] == "open" && value["before"].is_object() {
                value["before"]["seq"] = end.1.into();
                value["before"]["head"] = end.2.to_string().into();
            }
            if value["kind"] == "checkpoint" {
                value["note"] = seal(value["note"].as_str().unwrap()).into();
            }
            seq += 1;
            value["seq"] = seq.into();
            value["prev"] = head.to_string().into();
            let line = value.to_string();
            head = Digest::of(line.as_bytes());
            new.extend_from_slice(format!("{line}\n").as_bytes());
        }
        end = (name.clone(), seq, head);
        rebuilt.insert(name.clone(), new);
    }
    rebuilt
}

#[test]
fn a_chain_that_was_made_again_without_the_signing_key_is_found_by_its_checkpoints() {
    let recorded = Recorded::new();
    let change = |line: &str| Some(line.replace("88889999", "88881001").replace("\"rejected\"", "\"forwarded\""));
    let keep = |note: &str| note.to_owned();
    let rebuilt = rebuild(&recorded.files, change, keep);
    let verification = check(&rebuilt, &recorded.site.keys, None);
    let first = &recorded.segments()[0];
    assert_eq!(verification.result(), Proof::Broken);
    let finding = verification.findings.of(Grade::Broken).next().unwrap();
    assert_eq!((&finding.file, finding.seq), (first, Some(2)), "{finding}");
    // Without checkpoints at all.
    let bare = |line: &str| (!line.contains("\"kind\":\"checkpoint\"")).then(|| line.to_owned());
    let verification = check(&rebuild(&recorded.files, bare, keep), &recorded.site.keys, None);
    assert_eq!(verification.result(), Proof::Broken);
}

#[test]
fn a_log_that_another_key_signed_is_broken() {
    let recorded = Recorded::new();
    let (other, _) = Signer::generate().unwrap();
    let verification = check(&recorded.files, &[other.verifier().clone()], None);
    assert_eq!(verification.result(), Proof::Broken);
    let both = [other.verifier().clone(), recorded.site.keys[0].clone()];
    assert_eq!(check(&recorded.files, &both, None).result(), Proof::Proved);
}

#[test]
fn a_cut_tail_is_incomplete_without_an_anchor_and_broken_with_one() {
    let recorded = Recorded::new();
    let last = recorded.segments().pop().unwrap();
    let original = lines(&recorded.files[&last]);
    let mut files = recorded.files.clone();
    files.insert(last.clone(), original[..original.len() - 4].concat());
    assert_eq!(check(&files, &recorded.site.keys, None).result(), Proof::Incomplete);
    let verification = check(&files, &recorded.site.keys, Some(&recorded.anchor));
    let finding = verification.findings.of(Grade::Broken).next().unwrap();
    assert!(finding.file == last && finding.message.contains("cut off"), "{finding}");
    // The last segments as a whole.
    for keep in 1..recorded.segments().len() {
        let mut files = recorded.files.clone();
        recorded.segments().iter().skip(keep).for_each(|segment| drop(files.remove(segment)));
        assert_eq!(check(&files, &recorded.site.keys, None).result(), Proof::Incomplete);
        assert_eq!(check(&files, &recorded.site.keys, Some(&recorded.anchor)).result(), Proof::Broken);
    }
    // The chain as a whole.
    let nothing = Files::new();
    assert_eq!(check(&nothing, &recorded.site.keys, None).result(), Proof::Nothing);
    assert_eq!(check(&nothing, &recorded.site.keys, Some(&recorded.anchor)).result(), Proof::Broken);
}

#[test]
fn an_anchor_must_be_signed_and_fit() {
    let recorded = Recorded::new();
    let keys = &recorded.site.keys;
    for anchor in ["", "no note", &recorded.anchor.replace("seq ", "seq 1")] {
        assert_eq!(check(&recorded.files, keys, Some(anchor)).result(), Proof::Broken, "{anchor:?}");
    }
    // A log that was made again with the signing key: only an anchor can tell.
    let again = Recorded::new();
    let verification = check(&again.files, &again.site.keys, Some(&recorded.anchor));
    assert_eq!(verification.result(), Proof::Broken);
}
