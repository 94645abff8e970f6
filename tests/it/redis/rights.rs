//! Users of Redis with fewer rights than the documented ones.

use std::fs;

use crate::support::{Kind, RedisServer, eventually};

use super::{RedisLab, Shared};

const RIGHTS: [&str; 7] = ["+hmget", "+hget", "+hset", "+hdel", "+pexpire", "+eval", "+time"];

/// Settings of a gateway whose user may only do this.
fn user(server: &RedisServer, name: &str, rights: &[&str]) -> String {
    let password = server.directory.path().join(format!("{name}.password"));
    fs::write(&password, "narrow\n").unwrap();
    let mut user = redis::cmd("ACL");
    user.arg("SETUSER").arg(name).arg("on").arg(">narrow").arg(&["~previewgate:*", "+ping"]).arg(rights);
    user.exec(&mut server.client()).unwrap();
    format!("username = \"{name}\"\npassword_file = \"{}\"", password.display())
}

/// An operator who has not read the release notes: the user may not publish and subscribe.
#[tokio::test]
async fn rights_that_are_missing_are_named_and_reads_still_show_everything() {
    let Some(server) = RedisServer::start(Kind::Plain) else { return };
    let settings = user(&server, "narrow", &RIGHTS);
    let lab = RedisLab::with(server, &[&settings, &settings]).await;
    let (one, other) = (&lab.gateways[0], &lab.gateways[1]);
    let log = one.logged().to_string();
    assert!(log.contains("too few rights") && log.contains("publish") && log.contains("subscribe"), "{log}");
    lab.shown(one, 101, 7, "100").await;
    assert_eq!(other.call(101, 7, "100").await.verdict(), "ok");
    lab.released(other, 101).await;
    assert_eq!(one.call(101, 7, "100").await.verdict(), "unknown_preview");
}

/// Whichever right is missing: the log names it, events arrive, and nothing is forwarded that was not shown.
#[tokio::test]
async fn each_right_that_is_missing_is_named_in_the_log() {
    let Some(server) = RedisServer::start(Kind::Plain) else { return };
    let without = |missing: &&str| {
        let rights: Vec<_> =
            RIGHTS.into_iter().filter(|right| right != missing).chain(["&*", "+publish", "+subscribe"]).collect();
        user(&server, &format!("without-{}", &missing[1..]), &rights)
    };
    let settings: Vec<_> = RIGHTS.iter().map(without).map(|lines| format!("{lines}\nstart_timeout = \"0s\"")).collect();
    let settings: Vec<_> = settings.iter().map(String::as_str).collect();
    let lab = RedisLab::unconnected(server, &settings).await;
    for (number, (right, gateway)) in (101..).zip(RIGHTS.iter().zip(&lab.gateways)) {
        let command = &right[1..];
        // Redis's own words of a script that the user may not run, the reason why Redis cannot be used, or a warning.
        let (may_not, warning) = (format!("may not use {command}:"), format!("\"commands\":\"{command}\""));
        let names = |line: &str| {
            let refused = line.contains("cannot be used") && line.contains("'eval'");
            line.contains(&may_not) || line.contains(&warning) || (command == "eval" && refused)
        };
        eventually(format!("{command} to be named"), || gateway.logged().lines().any(names)).await;
        lab.shown(gateway, number, 7, "100").await;
        assert_eq!(gateway.call(number, 7, "100").await.verdict(), "ok", "{command}");
        assert_ne!(gateway.call(number, 7, "200").await.verdict(), "ok", "{command}");
    }
}
