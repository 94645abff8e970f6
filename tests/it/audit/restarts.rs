//! Previews that outlive a process keep their references to the audit log.

use previewgate::audit::verify::{Grade, Result as Proof};

use crate::support::{AUDIT, AuditRecords, Lab, Setup};

const SNAPSHOT: &str = "previews.snapshot = \"previews\"";

/// A gateway with a snapshot whose agent 101 was shown a preview before its restart, and calls after it.
async fn called_after_a_restart(audit: &str) -> Lab {
    let lab = Setup::plain().lenient().audited().settings(SNAPSHOT).start().await;
    let agent = lab.agent(101).await;
    agent.shown(7, "05712345").await;
    agent.shown(7, "05712346").await;
    std::fs::create_dir(lab.site.path("audit-2")).unwrap();
    let lab = lab.restart_with(&format!("{audit}\n{SNAPSHOT}")).await;
    let agent = lab.agent_from_elsewhere(101);
    for (number, verdict) in [("05712345", "ok"), ("05712346", "ok"), ("05712347", "number_not_in_preview")] {
        assert_eq!(agent.call(7, number).await.verdict(), verdict, "{number}");
    }
    lab
}

#[tokio::test]
async fn a_decision_names_what_was_shown_before_the_restart() {
    let Lab { gateway, site } = called_after_a_restart(AUDIT).await;
    gateway.close().await;
    let records = AuditRecords::read(&site.path("audit"));
    let shown: Vec<_> = records.of("shown").iter().map(|shown| shown["id"].clone()).collect();
    assert_eq!((records.of("open").len(), shown.len()), (2, 2));
    for decision in records.of("decision") {
        assert_eq!(decision["previews"][0]["shown"].as_array().unwrap(), &shown);
    }
    let verification = site.verify(&["audit"]);
    assert_eq!((verification.result(), verification.findings.all()), (Proof::Proved, &[][..]));
    assert_eq!((verification.decisions.derived, verification.decisions.unknown), (3, 0));
}

#[tokio::test]
async fn without_the_segments_of_before_the_verifier_says_where_they_may_be() {
    let audit = AUDIT.replace("\"audit\"", "\"audit-2\"");
    let Lab { gateway, site } = called_after_a_restart(&audit).await;
    gateway.close().await;
    assert_eq!(site.verify(&["audit", "audit-2"]).result(), Proof::Proved);
    let alone = site.verify(&["audit-2"]);
    assert_eq!((alone.result(), alone.decisions.unknown), (Proof::Incomplete, 3));
    let finding = alone.findings.of(Grade::Incomplete).next().unwrap();
    assert!(finding.message.ends_with("another gateway recorded it, or this one in another directory"), "{finding}");
}
