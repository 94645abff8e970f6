//! The callout parser: what it accepts, a forgiving reader reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use previewgate::protocol::callout::parse_cancelled;
use previewgate::protocol::parse_callout;

fuzz_target!(|body: &[u8]| {
    let _ = parse_cancelled(body);
    if let Ok(callout) = parse_callout(body) {
        let value: serde_json::Value = serde_json::from_slice(body).expect("accepted, but not JSON");
        assert_eq!(value["called"].as_str(), Some(callout.called.reveal()));
        let id = value["callcontrolid"].to_string();
        assert_eq!(id.trim_matches('"'), callout.control_id.to_string());
    }
});
