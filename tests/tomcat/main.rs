//! No unjudged callout gets through: a corpus of requests passes the gateway to a real Tomcat with forgiving layers.
//!
//! For every hostile request: if it reached the application and could be a `previewCallout` for *any* of its layers and
//! mappers, then its number was shown. Every behaving request arrives unchanged. See `corpus` and `app/`.
//!
//! `PREVIEWGATE_COMPARE=1` sends the same through nginx and HAProxy as well and prints the table.

// A test may fail loudly; clippy takes only the functions marked as tests for one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::string_slice)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod corpus;
mod monitored;
mod proxies;
mod push;
mod send;
#[path = "../support/mod.rs"]
mod support;
mod tomcat;
mod verdict;
mod wire;

use corpus::{Case, corpus, forged_pushes};
use proxies::{Gate, Proxy};
use push::Pushes;
use send::{Shows, send};
use support::{Kind, RedisServer};
use tomcat::{Tomcat, Version};
use verdict::{Counts, Outcome, enforced};
use wire::Target;

#[test]
fn nothing_slips_past_to_tomcat_9() {
    nothing_slips_past(Version::Nine);
}

#[test]
fn nothing_slips_past_to_tomcat_10() {
    nothing_slips_past(Version::Ten);
}

fn nothing_slips_past(version: Version) {
    let Some(tomcat) = Tomcat::start(version) else { return };
    let all = corpus();
    assert!(all.len() >= 4000, "{}", all.len());
    let cases: Vec<_> = all.iter().collect();
    let plain = Gate::start(tomcat.lenient, "");
    let sent = send(&tomcat, &plain.target, &Shows::Poll(&plain.target), &cases);
    // For other requests the setting makes no difference.
    let with_encoded: Vec<_> = all.iter().filter(|case| case.has_encoded_target()).collect();
    assert!(with_encoded.len() > 500, "{}", with_encoded.len());
    let passing = polled(&tomcat, &Gate::start(tomcat.passing, "").target, &with_encoded);
    // A Tomcat with its default settings refuses characters that a URI cannot have.
    let is_uri = |case: &&Case| case.is_hostile() || !case.bytes.contains(&b'|');
    let some: Vec<_> = all.iter().step_by(9).filter(is_uri).collect();
    let over_tls = polled(&tomcat, &Gate::start_with_tls(tomcat.standard).target, &some);
    let mut ways =
        vec![("plain HTTP", enforced(&cases, &sent)), ("encoded slashes as they are", passing), ("over TLS", over_tls)];
    // How an agent gets previews makes no difference to Tomcat: once is enough.
    if version == Version::Ten {
        ways.push(("previews by push", by_push(&tomcat, &all)));
    }
    for (way, outcome) in ways {
        report(version, way, &outcome);
        outcome.assert_clean();
    }
    monitored::assert_explained(&tomcat, &cases, &sent);
}

/// An application that reads bodies in the default charset of its JVM.
#[test]
fn nothing_slips_past_with_any_default_charset() {
    for charset in ["GB18030", "Big5", "Shift_JIS"] {
        let Some(tomcat) = Tomcat::start_with_charset(Version::Nine, charset) else { return };
        let all = corpus();
        let behaves = |case: &Case| case.reads_bodies() && !case.is_hostile();
        let cases: Vec<_> = all.iter().filter(|case| case.depends_on_charset() || behaves(case)).collect();
        assert!(cases.len() > 500, "{}", cases.len());
        let outcome = polled(&tomcat, &Gate::start(tomcat.lenient, "").target, &cases);
        report(Version::Nine, charset, &outcome);
        outcome.assert_clean();
    }
}

/// Through one of two gateways that share a Redis; agents are shown their previews through the other one.
#[test]
fn nothing_slips_past_with_previews_in_redis() {
    let (Some(tomcat), Some(redis)) = (Tomcat::start(Version::Ten), RedisServer::start(Kind::Plain)) else { return };
    let all = corpus();
    // All cases that change the stored previews, and some of the others.
    let counts = |case: &&Case| !polls(case) && (case.ends_session_of.is_some() || case.number.is_multiple_of(3));
    let some: Vec<_> = all.iter().filter(counts).collect();
    let settings = redis.settings();
    let [showing, judging] = [(); 2].map(|()| Gate::start(tomcat.lenient, &settings));
    for gate in [&showing, &judging] {
        gate.until_connected();
    }
    let sent = send(&tomcat, &judging.target, &Shows::Poll(&showing.target), &some);
    let outcome = enforced(&some, &sent);
    report(Version::Ten, "previews in Redis", &outcome);
    outcome.assert_clean();
}

fn polled(tomcat: &Tomcat, target: &Target, cases: &[&Case]) -> Outcome {
    enforced(cases, &send(tomcat, target, &Shows::Poll(target), cases))
}

/// Agents get their previews by push alone, and clients forge pushes.
fn by_push(tomcat: &Tomcat, all: &[Case]) -> Outcome {
    let gate = Gate::start_with_push(tomcat.lenient);
    let pushes = Pushes::new(tomcat, &gate.target);
    let forged = forged_pushes(all.len(), &pushes.address_of(STRANGER));
    let counts = |case: &&Case| !polls(case) && (case.ends_session_of.is_some() || case.number % 4 == 1);
    // The behaving requests come last, so that changes by the forged ones would show.
    let (behaving, hostile): (Vec<_>, Vec<_>) = all.iter().filter(counts).partition(|case| !case.is_hostile());
    let cases: Vec<_> = forged.iter().chain(hostile).chain(behaving).collect();
    enforced(&cases, &send(tomcat, &gate.target, &Shows::Push(&pushes), &cases))
}

/// Whether a case would itself show an agent a preview.
fn polls(case: &Case) -> bool {
    case.bytes.windows(10).any(|window| window == b"agentevent")
}

/// An agent whose push address has been stolen.
const STRANGER: u32 = 104;

fn report(version: Version, way: &str, outcome: &Outcome) {
    let sent: usize = outcome.classes.values().map(|counts| counts.sent).sum();
    println!("Tomcat {version:?}, {way}: {sent} requests\n{}", outcome.table());
}

#[test]
fn compared_with_transparent_proxies() {
    if std::env::var_os("PREVIEWGATE_COMPARE").is_none() {
        return;
    }
    let Some(tomcat) = Tomcat::start(Version::Nine) else { return };
    let all = corpus();
    let cases: Vec<_> = all.iter().collect();
    let nginx = polled(&tomcat, &Proxy::nginx(tomcat.lenient).target, &cases);
    let haproxy = polled(&tomcat, &Proxy::haproxy(tomcat.lenient).target, &cases);
    let previewgate = polled(&tomcat, &Gate::start(tomcat.lenient, "").target, &cases);
    println!("| class | requests | nginx | HAProxy | previewgate |\n|---|---:|---:|---:|---:|");
    for (class, counts) in &nginx.classes {
        let of = |outcome: &Outcome| outcome.classes.get(class).map_or(0, Counts::bad);
        println!("| {class} | {} | {} | {} | {} |", counts.sent, of(&nginx), of(&haproxy), of(&previewgate));
    }
}
