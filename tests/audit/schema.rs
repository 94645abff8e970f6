//! Every line that the gateway writes fits the published schema, and nothing else does.

use std::collections::BTreeSet;

use previewgate::audit::record::Kind;
use previewgate::preview::Timestamp;

use crate::gateway::{Site, three_days};

fn schema() -> serde_json::Value {
    let run = assert_cmd::Command::cargo_bin("previewgate").unwrap().args(["schema", "audit"]).assert().success();
    serde_json::from_slice(&run.get_output().stdout).unwrap()
}

#[test]
fn every_kind_has_its_place_in_the_schema() {
    let schema = schema();
    let kinds: BTreeSet<&str> = schema["oneOf"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| record["properties"]["kind"]["const"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, Kind::ALL.iter().map(|kind| kind.as_str()).collect());
}

#[test]
fn every_line_fits_the_schema_and_no_changed_one_does() {
    let site = Site::new();
    three_days(&site, "a");
    let mut gateway = site.gateway("a");
    gateway.show(101, 7, &[]);
    gateway.audit.store(true, Timestamp(0));
    gateway.audit.ended(crate::gateway::id(101), None, &[], "signed_out");
    gateway.audit.refusals(Timestamp(0), Some("192.0.2.1"), &[(previewgate::preview::Reason::MissingGuid, 3)]);
    gateway.stop();
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let mut kinds = BTreeSet::new();
    for entry in std::fs::read_dir(site.path("a")).unwrap() {
        for line in std::fs::read_to_string(entry.unwrap().path()).unwrap().lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            let errors: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
            assert!(validator.is_valid(&value), "{line}\n{errors:?}");
            kinds.insert(value["kind"].as_str().unwrap().to_owned());
            for change in [("seq", "1".into()), ("prev", "0".into()), ("kind", "other".into()), ("more", 1.into())] {
                let mut changed = value.clone();
                changed[change.0] = change.1;
                assert!(!validator.is_valid(&changed), "{changed}");
            }
        }
    }
    // `lost` needs a disk that fails: the writer's own tests make one.
    let expected: BTreeSet<String> =
        Kind::ALL.iter().filter(|kind| **kind != Kind::Lost).map(ToString::to_string).collect();
    assert_eq!(kinds, expected);
    let lost = serde_json::json!({"seq": 1, "prev": "0".repeat(64), "at": "2026-11-25T00:00:00.000Z", "kind": "lost",
        "since": "2026-11-25T00:00:00.000Z", "records": {"shown": 3}});
    assert!(validator.is_valid(&lost));
}
