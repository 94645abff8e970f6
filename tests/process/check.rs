//! `previewgate check` as an operator uses it.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use assert_cmd::Command;
use previewgate::simulator::Authority;
use serde_json::Value;

use crate::support::{Port, Setup, Site};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

struct Outcome {
    code: i32,
    out: String,
    err: String,
}

async fn check(file: &Path, options: &[&str]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_previewgate"));
    command.arg("check").arg("--config").arg(file).args(options);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    Outcome { code: output.status.code().unwrap(), out, err }
}

async fn site() -> Site {
    Setup::encrypted().site().await
}

#[tokio::test]
async fn success_says_ok() {
    let site = site().await;
    for options in [&[][..], &["--online"], &["--skip-files"]] {
        let Outcome { code, out, err } = check(&site.config_file(), options).await;
        assert_eq!(code, 0, "{options:?}: {err}");
        assert!(err.lines().last().unwrap().contains("previewgate.toml: ok"), "{options:?}: {err}");
        assert!(out.contains("\n[listener]\n"), "{out}");
    }
}

#[tokio::test]
async fn strict_makes_warnings_fail() {
    let site = site().await;
    site.configure("validation.mode = \"monitor\"");
    let Outcome { code, err, .. } = check(&site.config_file(), &[]).await;
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("warning: validation.mode") && err.contains("previewgate.toml: ok, "), "{err}");
    let Outcome { code, out, err } = check(&site.config_file(), &["--strict"]).await;
    assert_eq!((code, out.as_str()), (78, ""), "{err}");
    assert!(err.contains("--strict") && !err.contains(": ok"), "{err}");
}

#[tokio::test]
async fn certificates_that_end_are_warnings() {
    let site = site().await;
    let authority = Authority::new().unwrap();
    let now = SystemTime::now();
    for (period, words) in [
        (now - DAY * 9..now - DAY, "has expired"),
        (now + DAY..now + DAY * 90, "is not valid yet"),
        (now - DAY..now + DAY * 20, "expires soon"),
    ] {
        let identity = authority.issue_valid(&["127.0.0.1"], period).unwrap();
        site.write("server.crt", &identity.certificate);
        site.write("server.key", &identity.private_key);
        let Outcome { code, err, .. } = check(&site.config_file(), &[]).await;
        assert_eq!(code, 0, "{err}");
        let expected = format!("listener.tls.certificate {}", site.path("server.crt").display());
        let told: Vec<_> = err.lines().filter(|line| line.contains(&expected)).collect();
        assert!(told.len() == 1 && told[0].contains(words), "{err}");
        assert_eq!(check(&site.config_file(), &["--strict"]).await.code, 78);
    }
}

#[tokio::test]
async fn json_has_problems_warnings_and_the_configuration() {
    let site = site().await;
    let json = async |options: &[&str]| {
        let Outcome { code, out, err } = check(&site.config_file(), &[&["--format", "json"], options].concat()).await;
        assert_eq!(err, "");
        (code, serde_json::from_str::<Value>(&out).unwrap())
    };
    let (code, good) = json(&["--online"]).await;
    assert_eq!((code, &good["ok"]), (0, &true.into()), "{good}");
    assert_eq!(good["online"][0]["target"], format!("https://{}", site.upstream_address()));
    assert!(good["configuration"].as_str().unwrap().contains("[upstream]"), "{good}");

    site.configure("validation.mode = \"monitor\"");
    let (code, warned) = json(&["--strict"]).await;
    assert_eq!((code, &warned["ok"]), (78, &false.into()), "{warned}");
    let warnings = warned["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|warning| warning.as_str().unwrap().starts_with("validation.mode")), "{warned}");

    site.configure("validation.mood = \"monitor\"\nlog.level = 3");
    let (code, bad) = json(&[]).await;
    assert_eq!((code, &bad["ok"], &bad["configuration"]), (78, &false.into(), &Value::Null), "{bad}");
    let keys: Vec<_> = bad["problems"].as_array().unwrap().iter().map(|problem| problem["key"].clone()).collect();
    assert!(keys.contains(&"validation.mood".into()) && keys.contains(&"log.level".into()), "{bad}");
}

#[tokio::test]
async fn online_says_which_endpoint_fails_and_why() {
    let site = site().await;
    let (dead, live) = (Port::reserve(), site.upstream_address());
    let endpoints = |others: &str| format!("upstream.endpoints = [\"https://{live}\"{others}]");
    site.configure(&endpoints(&format!(", \"https://{}\"", dead.address)));
    let Outcome { code, err, .. } = check(&site.config_file(), &["--online"]).await;
    assert_eq!(code, 1, "{err}");
    let line = |address: std::net::SocketAddr| {
        err.lines().find(|line| line.starts_with(&format!("online: https://{address}: "))).unwrap().to_owned()
    };
    assert!(line(live).contains(": ok, certificate valid until "), "{err}");
    assert!(line(dead.address).contains("refused"), "{err}");
    assert!(!err.contains("previewgate.toml: ok"), "{err}");

    // Its certificate is of an authority that the gateway does not trust.
    site.configure(&endpoints(""));
    site.write("upstream-ca.crt", Authority::new().unwrap().pem());
    let Outcome { code, err, .. } = check(&site.config_file(), &["--online"]).await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains(&format!("online: https://{live}: tls at ")), "{err}");
    assert_eq!(check(&site.config_file(), &[]).await.code, 0, "offline it is good");
}

#[tokio::test]
async fn online_connects_to_redis() {
    let site = Setup::plain().site().await;
    let absent = Port::reserve();
    site.configure(&format!("[previews.store]\nkind = \"redis\"\nurl = \"redis://{}\"", absent.address));
    let Outcome { code, err, .. } = check(&site.config_file(), &["--online"]).await;
    assert_eq!(code, 1, "{err}");
    let line = err.lines().find(|line| line.starts_with(&format!("online: redis {}: ", absent.address))).unwrap();
    assert!(line.contains("refused"), "{err}");
}

#[tokio::test]
async fn a_missing_snapshot_directory_is_found() {
    let site = site().await;
    site.configure("previews.snapshot = \"state/previews\"");
    let Outcome { code, err, .. } = check(&site.config_file(), &[]).await;
    assert_eq!(code, 78, "{err}");
    let directory = site.path("state");
    assert!(err.contains("previews.snapshot") && err.contains(&directory.display().to_string()), "{err}");
    std::fs::create_dir(directory).unwrap();
    assert_eq!(check(&site.config_file(), &[]).await.code, 0);
}

#[tokio::test]
async fn root_learns_what_the_user_of_the_service_cannot_read() {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return;
    }
    let site = site().await;
    let mode = |name: &str, mode: u32| {
        std::fs::set_permissions(site.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("", 0o755);
    for (name, _) in [("server.key", 0), ("server.crt", 0), ("upstream-ca.crt", 0), ("previewgate.toml", 0)] {
        mode(name, 0o644);
    }
    let Outcome { code, err, .. } = check(&site.config_file(), &["--user", "nobody"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(!err.contains("nobody"), "{err}");
    mode("server.key", 0o600);
    let Outcome { code, err, .. } = check(&site.config_file(), &["--user", "nobody"]).await;
    assert_eq!(code, 0, "{err}");
    let key = site.path("server.key");
    let expected = format!("listener.tls.private_key {}: the user nobody cannot read", key.display());
    assert!(err.contains(&expected) && err.contains("previewgate.toml: ok, "), "{err}");
    mode("", 0o700);
    let err = check(&site.config_file(), &["--user", "nobody"]).await.err;
    assert!(err.contains("cannot enter the directory"), "{err}");
    let err = check(&site.config_file(), &["--user", "nobody-of-this-name"]).await.err;
    assert!(err.contains("there is no such user"), "{err}");
}

#[tokio::test]
async fn root_learns_that_the_user_of_the_service_cannot_write_the_audit_log() {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return;
    }
    const NOBODY: u32 = 65_534;
    let site = Setup::plain().audited().site().await;
    let mode = |name: &str, mode: u32| {
        std::fs::set_permissions(site.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let give = |name: &str| std::os::unix::fs::chown(site.path(name), Some(NOBODY), Some(NOBODY)).unwrap();
    mode("", 0o755);
    mode("previewgate.toml", 0o644);
    mode("audit", 0o700);
    let warned = async || check(&site.config_file(), &["--user", "nobody"]).await;
    let about =
        |key: &str, name: &str, what: &str| format!("{key} {}: the user nobody {what}", site.path(name).display());
    let Outcome { code, err, .. } = warned().await;
    assert_eq!(code, 0, "{err}");
    for expected in [
        about("audit.directory", "audit", "cannot write in this directory"),
        // The gateway would make it.
        about("audit.number_keys", "", "cannot write in this directory").replace("/: the", ": the"),
        about("audit.signing_key", "audit.key", "cannot read this file"),
    ] {
        assert!(err.contains(&expected), "{expected}: {err}");
    }
    std::fs::create_dir(site.path("audit-numbers")).unwrap();
    mode("audit-numbers", 0o700);
    ["audit", "audit.key", "audit-numbers"].into_iter().for_each(give);
    let Outcome { err, .. } = warned().await;
    assert!(!err.contains("nobody"), "{err}");
    // Made by a start by hand.
    for name in ["audit/1a2b3c4d.lock", "audit-numbers/2026-11.key"] {
        std::fs::write(site.path(name), "").unwrap();
        mode(name, 0o600);
    }
    let Outcome { err, .. } = warned().await;
    for (key, name) in [("audit.directory", "audit/1a2b3c4d.lock"), ("audit.number_keys", "audit-numbers/2026-11.key")]
    {
        assert!(err.contains(&about(key, name, "cannot use this file")), "{err}");
    }
    std::fs::remove_dir_all(site.path("audit")).unwrap();
    let Outcome { code, err, .. } = warned().await;
    assert!(code == 78 && err.contains("audit.directory") && err.contains("install -d -m 700"), "{err}");
}

#[tokio::test]
async fn a_gateway_that_enforces_without_an_audit_log_is_a_warning() {
    let site = site().await;
    let warns =
        async || check(&site.config_file(), &[]).await.err.contains("warning: audit: not set; nothing can be proved");
    assert!(warns().await);
    site.configure("validation.mode = \"monitor\"");
    assert!(!warns().await, "nothing is enforced");
    let site = Setup::plain().audited().site().await;
    let err = check(&site.config_file(), &[]).await.err;
    assert!(!err.contains("warning: audit"), "{err}");
}
