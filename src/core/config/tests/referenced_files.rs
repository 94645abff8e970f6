//! Files that the configuration names.

use super::redis::redis;
use super::*;

struct Pem {
    certificate: String,
    key: String,
}

fn pem() -> Pem {
    let certified = rcgen::generate_simple_self_signed(["gateway.example".to_owned()]).unwrap();
    Pem { certificate: certified.cert.pem(), key: certified.signing_key.serialize_pem() }
}

/// The problems of `[listener.tls]` with these files, and a configuration file beside them.
fn with_files(certificate: &str, key: &str, ca: Option<&str>) -> Vec<Problem> {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| fs::write(directory.path().join(name), content).unwrap();
    write("server.crt", certificate);
    write("server.key", key);
    let mut text = document("listener.tls", "certificate = \"server.crt\"\nprivate_key = \"server.key\"");
    if let Some(ca) = ca {
        write("ca.crt", ca);
        text.push_str("client_ca = \"ca.crt\"\n");
    }
    write("gateway.toml", &text);
    load(&directory.path().join("gateway.toml"), Files::Check).map_or_else(|error| error.problems, |_| Vec::new())
}

fn assert_single(found: &[Problem], key: &str, message: &str) {
    assert!(found.len() == 1 && found[0].key == key && found[0].message.contains(message), "{found:#?}");
}

#[test]
fn a_matching_pair_loads() {
    let pem = pem();
    assert_eq!(with_files(&pem.certificate, &pem.key, Some(&pem.certificate)), []);
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    assert_single(&with_files(&pem().certificate, &pem().key, None), "listener.tls.private_key", "is not the private");
}

#[test]
fn each_file_must_have_the_right_content() {
    let Pem { certificate, key } = pem();
    let broken = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    assert_single(&with_files(&key, &key, None), "listener.tls.certificate", "without a readable PEM certificate");
    assert_single(&with_files("", &key, None), "listener.tls.certificate", "without a readable PEM certificate");
    assert_single(&with_files(&certificate, &certificate, None), "listener.tls.private_key", "PEM private key");
    assert_single(&with_files(&certificate, encrypted, None), "listener.tls.private_key", "encrypted");
    assert_single(&with_files(broken, &key, None), "listener.tls.certificate", "cannot be used");
    assert_single(&with_files(&certificate, &key, Some(broken)), "listener.tls.client_ca", "trusted as a CA");
}

#[test]
fn an_absent_file_is_a_problem_and_its_name_may_be_a_secret() {
    let check = |line: &str| parse(&document("log", line), Path::new("/nowhere"), Files::Check).unwrap_err();
    let error = check("hash_key = \"hunter2\"");
    assert_single(&error.problems, "log.hash_key", "cannot be read");
    assert!(error.to_string().contains("/nowhere") && !error.to_string().contains("hunter2"), "{error}");
    assert_single(&check("hash_key = \"/\"").problems, "log.hash_key", "not a regular file");
    assert_single(&check("hash_key = \"/dev/zero\"").problems, "log.hash_key", "not a regular file");
}

#[test]
fn an_absent_file_is_named_by_its_path_unless_that_may_be_the_secret() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("tls")).unwrap();
    let check = |line: &str| parse(&document("log", line), directory.path(), Files::Check).unwrap_err().to_string();
    for path in ["hash.key", "tls/hash", "tls/missing/hash.pem", "./hash"] {
        let error = check(&format!("hash_key = \"{path}\""));
        assert!(error.contains(&directory.path().join(path).display().to_string()), "{error}");
    }
    for secret in ["hunter2", "aGVsbG8/d29ybGQ="] {
        let error = check(&format!("hash_key = \"{secret}\""));
        assert!(!error.contains(secret), "{error}");
    }
}

#[test]
fn a_pasted_secret_is_not_shown() {
    let text =
        document("listener.tls", "certificate = \"\"\"-----BEGIN PRIVATE KEY-----\nhunter2\"\"\"\nprivate_key = \"k\"");
    let error = skip(&text).unwrap_err();
    assert_single(&error.problems, "listener.tls.certificate", "is not a path");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn a_snapshot_is_a_file_that_may_not_exist_yet() {
    let check = |line: &str| parse(&document("previews", line), Path::new("/nowhere"), Files::Check);
    let config = check("snapshot = \"previews.snapshot\"").unwrap();
    assert_eq!(config.previews.snapshot.unwrap(), Path::new("/nowhere/previews.snapshot"));
    for other in ["/tmp", "/dev/null", ".."] {
        let error = check(&format!("snapshot = {other:?}")).unwrap_err();
        assert_single(&error.problems, "previews.snapshot", "not a regular file");
    }
}

#[test]
fn paths_are_absolute_even_beside_a_file_named_without_directory() {
    let config = parse(&document("log", "hash_key = \"hash.key\""), Path::new(""), Files::Skip).unwrap();
    assert!(config.log.hash_key.unwrap().is_absolute());
}

#[test]
fn a_short_hash_key_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("hash.key"), "fifteen bytes..").unwrap();
    let error = parse(&document("log", "hash_key = \"hash.key\""), directory.path(), Files::Check).unwrap_err();
    assert_single(&error.problems, "log.hash_key", "less than 16 bytes");
    assert_eq!(error.problems[0].value.as_deref(), Some("\"hash.key\""));
}

#[test]
fn a_password_file_holds_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let check = |content: &str| {
        fs::write(directory.path().join("redis.password"), content).unwrap();
        parse(&redis("redis://h", "password_file = \"redis.password\""), directory.path(), Files::Check)
    };
    for good in ["hunter2", "hunter2\n", "hunter 2\r\n"] {
        assert!(check(good).is_ok(), "{good:?}");
    }
    for bad in ["", "\n", "two\nlines\n", "\u{0}"] {
        assert_single(&check(bad).unwrap_err().problems, "previews.store.password_file", "without a password");
    }
    let text = redis("redis://h", "password_file = \"hunter2\"");
    let absent = parse(&text, Path::new("/nowhere"), Files::Check).unwrap_err();
    assert!(!absent.to_string().contains("hunter2"), "{absent}");
}

#[test]
fn the_configuration_file_itself_must_be_readable() {
    let error = load(Path::new("/nowhere/gateway.toml"), Files::Check).unwrap_err();
    assert!(error.to_string().starts_with("/nowhere/gateway.toml: 1 problem\n"), "{error}");
    assert!(error.problems[0].message.contains("cannot be read"));
}
