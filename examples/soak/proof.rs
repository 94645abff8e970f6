//! At the end: the audit log is verified, and compared with what arrived at the platform.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use previewgate::audit::note::Signer;
use previewgate::audit::verify::{Request, Result as Proof, verify};
use serde_json::Value;

use crate::ledger::Ledger;

/// Verifies the log; every callout that arrived must have a decision, and every one that was answered must have arrived.
pub(crate) fn check(ledger: &Ledger, (directory, key): &(PathBuf, PathBuf)) {
    let keys = [Signer::read(key).unwrap().verifier().clone()];
    let directories = [directory.clone()];
    let verification = verify(&Request { directories: &directories, keys: &keys, anchor: None }).unwrap();
    for finding in verification.findings.all().iter().take(20) {
        println!("AUDIT: {finding}");
    }
    if verification.result() != Proof::Proved {
        ledger.wrong(&format!("the audit log is not proved: {:?}", verification.result()));
    }
    let decisions = &verification.decisions;
    let forwarded = forwarded(directory);
    let arrived = ledger.arrivals();
    for serial in arrived.iter().filter(|serial| !forwarded.contains_key(serial)) {
        ledger.wrong(&format!("callout {serial} arrived without a decision"));
    }
    let answered = forwarded.iter().filter(|(_, result)| *result == "answered").map(|(serial, _)| *serial);
    for serial in answered.filter(|serial| !arrived.contains(serial)) {
        ledger.wrong(&format!("callout {serial} was answered, and did not arrive"));
    }
    for (serial, _) in forwarded.iter().filter(|(serial, result)| *result == "not_sent" && arrived.contains(serial)) {
        ledger.wrong(&format!("callout {serial} was recorded as not sent, and arrived"));
    }
    let missing =
        |wanted| forwarded.iter().filter(|(serial, result)| *result == wanted && !arrived.contains(serial)).count();
    let (not_sent, failed) = (missing("not_sent"), missing("failed"));
    let sum = arrived.len() + not_sent + failed;
    if sum != forwarded.len() {
        ledger.wrong(&format!("{} callouts were forwarded, and {sum} are accounted for", forwarded.len()));
    }
    println!(
        "audit: {:?}; {} decisions, {} derived again; {} forwarded {} {} arrived + {not_sent} not sent + {failed} failed on the \
         way; {} without outcome",
        verification.result(),
        decisions.by_reason.values().sum::<u64>(),
        decisions.derived,
        forwarded.len(),
        if sum == forwarded.len() { "=" } else { "!=" },
        arrived.len(),
        decisions.open,
    );
}

/// The callouts that were decided to be forwarded, by their serial number, each with the result.
fn forwarded(directory: &Path) -> HashMap<u64, String> {
    let (mut serials, mut forwarded) = (HashMap::new(), HashMap::new());
    let mut segments: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    segments.sort();
    for segment in segments {
        for line in fs::read_to_string(segment).unwrap().lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            match record["kind"].as_str().unwrap() {
                "decision" if record["verdict"] != "rejected" => {
                    let serial = record["request_id"].as_str().unwrap().strip_prefix("soak-").unwrap().parse().unwrap();
                    serials.insert(record["id"].as_str().unwrap().to_owned(), serial);
                    forwarded.insert(serial, "open".to_owned());
                }
                "outcome" => {
                    let serial = serials[record["decision"].as_str().unwrap()];
                    forwarded.insert(serial, record["result"].as_str().unwrap().to_owned());
                }
                _ => {}
            }
        }
    }
    forwarded
}
