//! The callout parser: what it accepts, a forgiving reader reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use previewgate::protocol::{ParsedCallout, parse_callout, parse_cancel};

fuzz_target!(|body: &[u8]| {
    let _ = parse_cancel(body);
    if let Ok(ParsedCallout { callout, rewritten }) = parse_callout(body) {
        let forwarded = rewritten.as_deref().unwrap_or(body);
        assert!(forwarded.is_ascii());
        let value: serde_json::Value = serde_json::from_slice(forwarded).expect("accepted, but not JSON");
        assert_eq!(value["called"].as_str(), Some(callout.called.reveal()));
        let id = value["callcontrolid"].to_string();
        assert_eq!(id.trim_matches('"'), callout.control_id.to_string());
    }
});
