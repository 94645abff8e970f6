//! The parsers of callouts and cancellations: every reader, strict or lenient, in any charset, reads what the gateway
//! has read in the body that is forwarded. The gateway's own spelling stays as
//! it is when it is read again.
#![no_main]

mod readers;

use libfuzzer_sys::fuzz_target;
use previewgate::protocol::{ParsedCallout, ParsedCancel, parse_callout, parse_cancel};
use readers::each_reading;

fn callout(body: &[u8]) {
    let Ok(ParsedCallout { callout, rewritten }) = parse_callout(body) else { return };
    let forwarded = rewritten.as_deref().unwrap_or(body);
    assert!(forwarded.is_ascii());
    let value: serde_json::Value = serde_json::from_slice(forwarded).expect("accepted, but not JSON");
    assert_eq!(value["called"].as_str(), Some(callout.called.reveal()));
    let id = value["callcontrolid"].to_string();
    assert_eq!(id.trim_matches('"'), callout.control_id.to_string());
    each_reading(forwarded, |text, reading| {
        let (called, id) = (text("called"), text("callcontrolid"));
        // A reader who knows no escapes may miss a name that is spelled with some.
        let expected = Some(Some(callout.called.reveal().to_owned()));
        assert!(called == expected || called == Some(None), "{called:?} in {reading}");
        let expected = Some(Some(callout.control_id.to_string()));
        assert!(id == expected || id == Some(None), "{id:?} in {reading}");
    });
    let again = parse_callout(forwarded).expect("the forwarded spelling is refused");
    assert_eq!(again.callout, callout);
    assert!(again.rewritten.is_none_or(|rewritten| rewritten == forwarded), "rewritten again");
}

fn cancellation(body: &[u8]) {
    let ParsedCancel::One { control_id, rewritten } = parse_cancel(body) else { return };
    let forwarded = rewritten.as_deref().unwrap_or(body);
    assert!(forwarded.is_ascii());
    each_reading(forwarded, |text, reading| {
        let id = text("callcontrolid");
        let expected = Some(Some(control_id.to_string()));
        assert!(id == expected || id == Some(None), "{id:?} in {reading}");
    });
    let ParsedCancel::One { control_id: again, rewritten } = parse_cancel(forwarded) else { panic!("unclear now") };
    assert_eq!(again, control_id);
    assert!(rewritten.is_none_or(|rewritten| rewritten == forwarded), "rewritten again");
}

fuzz_target!(|body: &[u8]| {
    callout(body);
    cancellation(body);
});
