//! `[audit]`: its directories, its key, and what must be kept apart.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// A directory with everything that `[audit]` needs; `line` replaces or adds a key.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.path("records")).unwrap();
        place.write_key(&rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem(), 0o600);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write_key(&self, content: &str, mode: u32) {
        fs::write(self.path("audit.key"), content).unwrap();
        self.set_mode("audit.key", mode);
    }

    fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn load(&self, replaced: &str) -> Result<Config, Problems> {
        let mut lines = vec!["directory = \"records/\"", "signing_key = \"audit.key\"", "number_keys = \"numbers\""];
        let name = replaced.split(' ').next().unwrap();
        lines.retain(|line| !line.starts_with(&format!("{name} ")));
        lines.push(replaced);
        parse(&document("audit", &lines.join("\n")), self.0.path(), Files::Check)
    }

    fn problem(&self, replaced: &str) -> Problem {
        let problems = self.load(replaced).unwrap_err().problems;
        assert_eq!(problems.len(), 1, "{replaced}: {problems:#?}");
        problems.into_iter().next().unwrap()
    }
}

#[test]
fn the_defaults_are_those_of_the_documentation() {
    let place = Place::new();
    let audit = place.load("").unwrap().audit.unwrap();
    assert_eq!(audit.directory, place.path("records"));
    assert_eq!((audit.durability, audit.on_failure), (Durability::Written, OnAuditFailure::Refuse));
    assert_eq!(audit.timeout.as_secs(), 1);
    assert_eq!((audit.segment_size, audit.retention.as_secs()), (256 << 20, 5 * 31_557_600));
    assert_eq!(audit.evidence, None);
}

#[test]
fn a_directory_must_exist_and_belong_to_the_gateway() {
    let place = Place::new();
    for (line, message) in [
        ("directory = \"absent\"", "cannot be used: No such file"),
        ("directory = \"audit.key\"", "is not a directory"),
        ("number_keys = \"absent/numbers\"", "cannot be used: No such file"),
        ("number_keys = \"audit.key\"", "is not a directory"),
    ] {
        let problem = place.problem(line);
        assert!(problem.message.contains(message), "{line}: {problem:?}");
    }
    place.set_mode("records", 0o777);
    assert!(place.problem("").message.contains("every user"), "records");
    place.set_mode("records", 0o755);
    fs::create_dir(place.path("numbers")).unwrap();
    place.set_mode("numbers", 0o755);
    let problem = place.problem("");
    assert!(problem.key == "audit.number_keys" && problem.message.contains("every user"), "{problem:?}");
    place.set_mode("numbers", 0o750);
    place.load("").unwrap();
}

#[test]
fn the_signing_key_is_an_ed25519_key_that_others_cannot_read() {
    let place = Place::new();
    assert!(place.problem("signing_key = \"absent.key\"").message.contains("cannot be read"));
    let ecdsa = rcgen::KeyPair::generate().unwrap().serialize_pem();
    for other in ["", "hunter2", &ecdsa] {
        place.write_key(other, 0o600);
        let problem = place.problem("");
        assert!(problem.message.contains("Ed25519") && !problem.message.contains("hunter2"), "{problem:?}");
    }
    place.write_key(&rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem(), 0o644);
    assert!(place.problem("").message.contains("every user"));
}

#[test]
fn keys_are_kept_apart_from_the_records() {
    let place = Place::new();
    fs::copy(place.path("audit.key"), place.path("records/audit.key")).unwrap();
    for line in
        ["signing_key = \"records/audit.key\"", "number_keys = \"records/numbers\"", "number_keys = \"records\""]
    {
        place.set_mode("records", 0o700);
        let problem = place.problem(line);
        assert!(line.starts_with(problem.key.strip_prefix("audit.").unwrap()), "{problem:?}");
        assert!(problem.message.contains("is inside audit.directory"), "{problem:?}");
    }
}

#[test]
fn evidence_names_members_of_call_data() {
    let place = Place::new();
    let evidence = place.load("evidence = [\"callData:/a/b\", \"hash:callData:/c\"]").unwrap().audit.unwrap().evidence;
    let kept: Vec<_> = evidence.unwrap().into_iter().map(|member| (member.pointer, member.hashed)).collect();
    assert_eq!(kept, [("/a/b".to_owned(), false), ("/c".to_owned(), true)]);
    for bad in ["callData", "callData:", "callData:/", "callData:a", "consentId", "hash:/a", ""] {
        let problem = place.problem(&format!("evidence = [{bad:?}]"));
        assert!(problem.message.contains("does not name a member"), "{bad}: {problem:?}");
    }
}
