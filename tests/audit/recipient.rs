//! Numbers for an auditor: who has the private key reads them, and nobody else does.

use crate::commands::{audit, text};
use crate::gateway::Site;

#[test]
fn the_auditor_reads_the_numbers_and_the_log_does_not_show_them() {
    let mut site = Site::new();
    site.recipient = true;
    let key = text(&site.path("auditor.key"));
    assert_eq!(audit(&["keygen", "--recipient", &key]).0, 0);
    let mut gateway = site.gateway("a");
    gateway.show(101, 7, &["88881001", "88881002"]);
    let (_, forwarded) = gateway.call(101, 7, "88881002", "1");
    let (_, refused) = gateway.call(101, 7, "77772003", "2");
    gateway.stop();
    assert_eq!(site.verify(&["a"]).result(), previewgate::audit::verify::Result::Proved);
    for entry in std::fs::read_dir(site.path("a")).unwrap() {
        let content = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for number in ["88881001", "88881002", "77772003"] {
            assert!(!content.contains(number), "{number}");
        }
    }
    let directory = text(&site.path("a"));
    let show = |id: &previewgate::preview::RecordId, key: &str| {
        let (code, printed) = audit(&["show", &directory, "--id", &id.to_string(), "--private-key", key]);
        assert_eq!(code, 0, "{printed}");
        printed
    };
    let printed = show(&forwarded, &key);
    assert!(printed.contains("numbers: 88881001, 88881002\n") && printed.contains("number: 88881002\n"), "{printed}");
    let printed = show(&refused, &key);
    assert!(printed.contains("number: 77772003\n"), "{printed}");
    let (code, table) = audit(&["decrypt", &directory, "--private-key", &key]);
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|row| row.split(',').collect()).collect();
    let numbers: Vec<_> = rows.iter().map(|row| (row[1], row[3], row[5])).collect();
    let expected = [
        ("shown", "101", "88881001"),
        ("shown", "101", "88881002"),
        ("decision", "101", "88881002"),
        ("decision", "101", "77772003"),
    ];
    assert_eq!((code, numbers), (0, expected.to_vec()), "{table}");
    let (_, of_another_day) = audit(&["decrypt", &directory, "--private-key", &key, "--day", "2026-12-05"]);
    assert!(!of_another_day.contains("8888") && !of_another_day.contains("7777"), "{of_another_day}");
    let other = text(&site.path("other.key"));
    audit(&["keygen", "--recipient", &other]);
    let printed = show(&refused, &other);
    assert!(printed.contains("not encrypted to this key") && !printed.contains("77772003"), "{printed}");
    let (code, printed) = audit(&["decrypt", &directory, "--private-key", &other]);
    assert!(code == 1 && printed.contains("2 records cannot be read"), "{printed}");
    let signing = text(&site.path("audit.key"));
    assert_eq!(audit(&["show", &directory, "--id", &refused.to_string(), "--private-key", &signing]).0, 1);
}

#[test]
fn a_log_without_numbers_for_an_auditor_says_so() {
    let site = Site::new();
    let key = text(&site.path("auditor.key"));
    assert_eq!(audit(&["keygen", "--recipient", &key]).0, 0);
    let mut gateway = site.gateway("a");
    gateway.show(101, 7, &["88881001"]);
    gateway.stop();
    let (code, printed) = audit(&["decrypt", &text(&site.path("a")), "--private-key", &key]);
    assert!(code == 1 && printed.contains("audit.recipient was not set"), "{printed}");
}
