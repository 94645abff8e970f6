//! Certificates that are expired, not valid yet, or expire soon: at the start, at a reload, and when a file changes.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use previewgate::simulator::{Authority, SelfSigned};

use crate::support::{API, CapturedLog, Gateway, MovableClock, Request, Setup, Site, Wire, eventually, leaf, trusting};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const SERVER_TLS: &str = "[listener.tls]\ncertificate = \"own.crt\"\nprivate_key = \"own.key\"\n";

fn expired() -> Range<SystemTime> {
    SystemTime::now() - DAY * 100..SystemTime::now() - DAY
}

fn coming() -> Range<SystemTime> {
    SystemTime::now() + DAY..SystemTime::now() + DAY * 100
}

fn days(count: u32) -> Range<SystemTime> {
    SystemTime::now() - DAY..SystemTime::now() + DAY * count
}

fn write(site: &Site, identity: &SelfSigned) {
    site.write("own.crt", &identity.certificate);
    site.write("own.key", &identity.private_key);
}

fn issue(authority: &Authority, period: Range<SystemTime>) -> SelfSigned {
    authority.issue_valid(&["127.0.0.1"], period).unwrap()
}

fn count(log: &CapturedLog, words: &str) -> usize {
    log.text().lines().filter(|line| line.contains("own.crt") && line.contains(words)).count()
}

/// The certificate that a new client sees. The client does not look at its validity.
async fn shown(gateway: &Gateway, authority: &Authority) -> Vec<u8> {
    Wire::encrypted(gateway.address, trusting(&authority.pem(), None)).await.unwrap().certificate
}

#[tokio::test]
async fn a_gateway_starts_with_any_certificate_and_says_what_is_wrong_with_it() {
    let authority = Authority::new().unwrap();
    for (period, words) in [
        (expired(), "the certificate has expired"),
        (coming(), "the certificate is not valid yet"),
        (days(29), "the certificate expires soon"),
    ] {
        let site = Setup::plain().site().await;
        write(&site, &issue(&authority, period));
        let gateway = site.start(SERVER_TLS);
        let log = gateway.log.clone();
        eventually("the warning", || log.text().contains(words)).await;
        let log = gateway.close().await;
        assert_eq!(count(&log, words), 1, "{}", log.text());
        assert!(log.text().contains("listener.tls.certificate"), "{}", log.text());
    }
    let site = Setup::plain().site().await;
    write(&site, &issue(&authority, days(31)));
    let log = site.start(SERVER_TLS).close().await;
    assert_eq!(count(&log, "certificate"), 0, "{}", log.text());
}

#[tokio::test]
async fn a_valid_certificate_is_never_replaced_by_one_that_is_not() {
    let authority = Authority::new().unwrap();
    let good = issue(&authority, days(60));
    for bad in [expired(), coming()] {
        let site = Setup::plain().site().await;
        write(&site, &good);
        let gateway = site.start(SERVER_TLS);
        write(&site, &issue(&authority, bad));
        gateway.check_certificate_files();
        // The check at the start may have found one half of the pair.
        let refusals = || gateway.logged().matches("new certificates cannot be used yet").count();
        let once = refusals();
        assert!((1..=2).contains(&once), "{once}");
        gateway.check_certificate_files();
        gateway.check_certificate_files();
        assert_eq!(shown(&gateway, &authority).await, leaf(&good));
        assert_eq!(refusals(), once);

        // A reload with other changes is refused whole.
        site.configure(&format!("validation.mode = \"monitor\"\n{SERVER_TLS}"));
        let refusal = gateway.reload().unwrap_err().to_string();
        assert!(refusal.contains("listener.tls.certificate") && refusal.contains("own.crt"), "{refusal}");
        assert_eq!(gateway.metric("previewgate_validation_mode{mode=\"enforce\"}"), 1.0);
        assert_eq!(shown(&gateway, &authority).await, leaf(&good));

        let next = issue(&authority, days(10));
        write(&site, &next);
        gateway.check_certificate_files();
        assert_eq!(shown(&gateway, &authority).await, leaf(&next), "valid, if not for long");
        assert!(gateway.logged().contains("the certificate expires soon"));
        gateway.reload().unwrap();
    }
}

#[tokio::test]
async fn a_certificate_that_becomes_valid_is_put_in_force_then() {
    let authority = Authority::new().unwrap();
    let site = Setup::plain().site().await;
    write(&site, &issue(&authority, days(60)));
    let gateway = site.start(SERVER_TLS);
    let next = issue(&authority, SystemTime::now() + Duration::from_secs(3)..SystemTime::now() + DAY);
    write(&site, &next);
    gateway.check_certificate_files();
    assert!(gateway.logged().contains("not valid yet"));
    let log = gateway.log.clone();
    eventually("the certificate to be put in force", || {
        gateway.check_certificate_files();
        log.text().contains("certificates reloaded")
    })
    .await;
    assert_eq!(shown(&gateway, &authority).await, leaf(&next));
}

#[tokio::test]
async fn a_gateway_with_an_expired_certificate_can_be_reloaded() {
    let authority = Authority::new().unwrap();
    let site = Setup::plain().site().await;
    write(&site, &issue(&authority, expired()));
    let gateway = site.start(SERVER_TLS);
    site.configure(&format!("validation.mode = \"monitor\"\n{SERVER_TLS}"));
    gateway.reload().unwrap();
    assert_eq!(gateway.metric("previewgate_validation_mode{mode=\"monitor\"}"), 1.0);
    let next = issue(&authority, days(60));
    write(&site, &next);
    gateway.check_certificate_files();
    assert_eq!(shown(&gateway, &authority).await, leaf(&next));
}

#[tokio::test]
async fn an_authority_that_is_expired_does_not_replace_one_that_is_not() {
    let [good, other] = [(); 2].map(|()| Authority::new().unwrap());
    let dead = Authority::valid(expired()).unwrap();
    for (key, file) in [("listener.tls.client_ca", "ca.crt"), ("upstream.tls.ca", "upstream-ca.crt")] {
        let site = Setup::mutual().site().await;
        site.write(file, good.pem());
        let gateway = site.start("");
        site.write(file, dead.pem());
        gateway.check_certificate_files();
        let refusal = gateway.reload().unwrap_err().to_string();
        assert!(refusal.contains(key) && refusal.contains(file), "{refusal}");
        // One that is still good is enough.
        site.write(file, dead.pem() + &other.pem());
        gateway.reload().unwrap();
        assert!(gateway.logged().contains("(certificate 1 of 2): the certificate has expired"));
    }
}

#[tokio::test]
async fn the_certificate_of_an_endpoint_has_a_metric_and_a_warning() {
    let authority = Authority::new().unwrap();
    let upstream = issue(&authority, days(20));
    let tls = upstream.server_config().unwrap();
    let setup = Setup::encrypted().simulator(|simulator| simulator.tls = Some(tls));
    let (bound, site) = setup.settings("upstream.probe.kind = \"none\"").bind().await;
    let gateway = bound.start();
    site.write("upstream-ca.crt", authority.pem());
    gateway.reload().unwrap();
    let series = format!(
        "previewgate_upstream_certificate_not_after_timestamp_seconds{{endpoint=\"https://{}\"}}",
        site.upstream_address()
    );
    let role = "previewgate_certificate_not_after_timestamp_seconds{role=\"upstream\"}";
    assert_eq!((gateway.metric(&series), gateway.metric(role)), (0.0, 0.0));
    for _ in 0..2 {
        gateway.send(&Request::get(format!("{API}/x")).header("Connection", "close")).await.passed();
    }
    let end = SystemTime::now() + DAY * 20;
    let end = end.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    for series in [&*series, role] {
        assert!((gateway.metric(series) - end).abs() < 600.0, "{series}: {}", gateway.metric(series));
    }
    let address = site.upstream_address();
    let log = gateway.close().await.text();
    let says = format!("endpoint https://{address}: the certificate expires soon");
    assert_eq!(log.matches(&says).count(), 1, "{log}");
}

/// By the clock of the gateway: a machine that slept for a night says it in the morning.
#[tokio::test]
async fn once_a_day_the_log_says_which_certificates_end_soon() {
    let authority = Authority::new().unwrap();
    let clock = Arc::new(MovableClock::default());
    let (bound, site) = Setup::encrypted().clock(clock.clone()).bind().await;
    let gateway = bound.start();
    let own = issue(&authority, days(33));
    site.write("server.crt", &own.certificate);
    site.write("server.key", &own.private_key);
    gateway.check_certificate_files();
    assert_eq!(gateway.logged().matches("certificates reloaded").count(), 1);
    let mut said = (0, 0);
    for (step, soon, expired) in [
        (DAY, false, false),
        (DAY * 2 - DAY / 24, false, false),
        // 29 days are left.
        (DAY + DAY / 24, true, false),
        (DAY - DAY / 24, false, false),
        (DAY / 24, true, false),
        // A gateway whose files were not replaced for a week.
        (DAY * 7, true, false),
        (DAY * 22, false, true),
        (DAY / 2, false, false),
        (DAY / 2, false, true),
    ] {
        clock.advance(step);
        for _ in 0..3 {
            gateway.check_certificate_files();
        }
        said = (said.0 + usize::from(soon), said.1 + usize::from(expired));
        let log = gateway.logged();
        let lines =
            |words: &str| log.lines().filter(|line| line.contains("server.crt") && line.contains(words)).count();
        assert_eq!((lines("the certificate expires soon"), lines("the certificate has expired")), said, "{log}");
    }
}
