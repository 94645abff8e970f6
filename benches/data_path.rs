//! What one request costs before and after the sockets, piece by piece.
//!
//! Read them as ratios within one run: against the JSON parser that everybody uses (`serde_json::Value` of the same
//! bytes), which is the least that any validating proxy would have to do. `worst_case` has the hostile ones.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a benchmark stops where it fails")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use previewgate::downstream::framing::Framer;
use previewgate::preview::{AgentPreviews, Announcement, Bounds, Change, ControlId, DialedNumber, Timestamp, decide};
use previewgate::protocol::{Classified, ClassifyRules, RequestHead, parse_callout, parse_events};

const CALLOUT: &[u8] = br#"{"called":"88889039","callcontrolid":"11776"}"#;
const PATH: &str = "/agentgateway/resource/voicecall/20000/previewCallout";

fn event(call_data: usize) -> Vec<u8> {
    format!(
        r#"{{"message":"","retcode":"0","event":{{"eventType":"AgentEvent_Preview_CallOut_Ex","workNo":"20000","content":{{"controlid":"11776","dialeddigits":"88889037,88889038,88889039","callData":"{}"}}}}}}"#,
        "x".repeat(call_data)
    )
    .into_bytes()
}

fn head() -> Vec<u8> {
    format!(
        "PUT {PATH} HTTP/1.1\r\nHost: gate\r\nGuid: 7c9d2a5e-4c51-4d2f-9a51-0c6a5d1b0e77.AgentGateway1\r\n\
         Content-Type: application/json; charset=UTF-8\r\nAccept: application/json\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

fn classify(path: &str) -> Classified {
    let prefixes = ["/agentgateway/".to_owned()];
    let (uri, headers) = (path.parse().unwrap(), http::HeaderMap::new());
    let head = RequestHead { method: &http::Method::PUT, uri: &uri, headers: &headers, has_body: true };
    previewgate::protocol::classify(&head, ClassifyRules { path_prefixes: &prefixes, push: false })
}

fn requests(c: &mut Criterion) {
    let head = head();
    c.bench_function("head: framing and checks", |b| {
        b.iter(|| Framer::new(32 * 1024).advance(black_box(&head)).unwrap());
    });
    c.bench_function("path: parse and classify, plain", |b| {
        b.iter(|| classify(black_box(PATH)));
    });
    let odd = "/agentgateway/resource/voicecall/20000/seconddial/%23";
    c.bench_function("path: parse and classify, percent-encoded", |b| {
        b.iter(|| classify(black_box(odd)));
    });
    c.bench_function("callout: parse strictly", |b| b.iter(|| parse_callout(black_box(CALLOUT)).unwrap()));
    c.bench_function("callout: serde_json::Value, for comparison", |b| {
        b.iter(|| serde_json::from_slice::<serde_json::Value>(black_box(CALLOUT)).unwrap());
    });
}

fn events(c: &mut Criterion) {
    for (name, size) in [("100 B", 100), ("16 KiB", 16 * 1024)] {
        let body = event(size);
        c.bench_function(&format!("event with {name} of callData: parse"), |b| {
            b.iter(|| parse_events(black_box(&body)).unwrap());
        });
        c.bench_function(&format!("event with {name} of callData: serde_json::Value, for comparison"), |b| {
            b.iter(|| serde_json::from_slice::<serde_json::Value>(black_box(&body)).unwrap());
        });
    }
}

fn decision(c: &mut Criterion) {
    let mut previews = AgentPreviews::default();
    for id in 0..16 {
        let numbers = (0..8).map(|n| DialedNumber::new(format!("8888{id:02}{n:02}"))).collect();
        let shown = Change::Shown(Announcement { control_id: ControlId(id), numbers, shown: Vec::new() });
        previews.apply(shown, Timestamp(0), Bounds { per_agent: 16 });
    }
    let callout = parse_callout(br#"{"called":"88881507","callcontrolid":15}"#).unwrap().callout;
    c.bench_function("decide: the last of 16 previews with 8 numbers", |b| {
        b.iter(|| decide(black_box(&callout), &previews, Timestamp(1000), Duration::from_secs(60)).unwrap());
    });
}

criterion_group! {
    name = data_path;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = requests, events, decision
}
criterion_main!(data_path);
