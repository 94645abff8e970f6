//! A disk that stands still, as the gateway notices it.

use super::*;
use crate::config::Durability;
use crate::preview::SystemClock;

const TIMEOUT: Duration = Duration::from_millis(20);

fn settings(directory: &Path) -> Settings {
    let (_, key) = Signer::generate().unwrap();
    let signing_key = directory.join("audit.key");
    std::fs::write(&signing_key, key).unwrap();
    let day = Duration::from_secs(24 * 60 * 60);
    Settings {
        directory: directory.join("audit"),
        signing_key,
        number_keys: directory.join("numbers"),
        writer: WriterSettings {
            durability: Durability::Written,
            checkpoint_interval: day,
            segment: day,
            segment_bytes: 1 << 20,
            retention: day,
        },
        recipient: None,
        exit: day,
    }
}

fn facts(number: u64, at: Timestamp) -> DecisionFacts<'static> {
    DecisionFacts {
        id: RecordId { run: 1, number },
        agent: None,
        verdict: Verdict::Forwarded,
        reason: Reason::Ok,
        tenant: None,
        mode: "enforce",
        allowed_by: None,
        called: None,
        control_id: None,
        previews: None,
        at,
        rule: TIMEOUT.into(),
        judged_by: None,
        client: None,
        certificate: None,
        guid: None,
        session_match: None,
        unconfirmed: false,
        request_id: "r",
        trace_id: None,
    }
}

/// A writer that does not run is a disk that stands still.
#[tokio::test]
async fn a_disk_that_stands_still_is_waited_for_once_and_forgotten_when_it_moves_again() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock::new());
    let settings = settings(directory.path());
    let (audit, writer) = Audit::prepare(&settings, clock.clone()).unwrap();
    let first = audit.decision(&facts(1, clock.now()), TIMEOUT).await;
    assert_eq!(first.unwrap_err().id, Some(RecordId { run: 1, number: 1 }), "its record may still be written");
    assert!(audit.is_failing());
    assert_eq!((audit.status().open_decisions, audit.status().chain), (1, None));
    audit.outcome(RecordId { run: 1, number: 1 }, &OutcomeFacts { result: "not_sent", ..OutcomeFacts::default() });
    assert_eq!(audit.status().open_decisions, 0);
    // The failure is known: nothing waits, and nothing is recorded, although the timeout is long.
    let second = audit.decision(&facts(2, clock.now()), Duration::from_secs(3600)).await;
    assert_eq!(second.unwrap_err().id, None);

    let thread = thread::spawn(move || writer.run());
    let recovered = async {
        while audit.is_failing() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), recovered).await.expect("the writer recovers");
    let third = audit.decision(&facts(3, clock.now()), Duration::from_secs(3600)).await.unwrap();
    let status = audit.status();
    let chain = status.chain.unwrap();
    assert_eq!((status.open_decisions, chain.seq), (1, third.seq.unwrap()));
    assert!(chain.checkpoint.is_some_and(|checkpoint| checkpoint.seq < chain.seq), "the segment begins with one");
    drop(AuditGuard { queue: Arc::clone(&audit.queue), thread: Some(thread), exit: settings.exit });
    let segment = std::fs::read_dir(&settings.directory).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    let text = std::fs::read_to_string(segment.unwrap()).unwrap();
    assert_eq!(text.matches("\"kind\":\"decision\"").count(), 2, "{text}");
    let line = text.lines().nth(usize::try_from(third.seq.unwrap()).unwrap() - 1).unwrap();
    assert!(line.contains("0000000000000001-3"), "{line}");
}

#[test]
fn a_number_is_masked_as_in_the_log() {
    let long = ["1".repeat(MAX_NUMBER - 1), "1".repeat(MAX_NUMBER), "1".repeat(MAX_NUMBER + 1)];
    let numbers = ["", "1", "1234", "12345", "05712345678", "+49 (0)30", "é1234", "1234é", "12\n45", "123\u{7f}5"];
    for number in numbers.into_iter().chain(long.iter().map(String::as_str)) {
        let expected = sanitized(DialedNumber::new(number).masked(), MAX_NUMBER).to_string();
        assert_eq!(masked(&DialedNumber::new(number)), expected, "{number:?}");
    }
}
