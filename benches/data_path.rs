//! What one request costs before and after the sockets, piece by piece.
//!
//! Read them as ratios within one run: against the JSON parser that everybody uses (`serde_json::Value` of the same
//! bytes), which is the least that any validating proxy would have to do.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a benchmark stops where it fails")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use previewgate::downstream::framing::Framer;
use previewgate::preview::{AgentPreviews, Announcement, Bounds, Change, ControlId, DialedNumber, Timestamp, decide};
use previewgate::protocol::sign_in::{push_addresses, with_addresses};
use previewgate::protocol::{Classified, ClassifyRules, RequestHead, media_type, parse_callout, parse_events, query};

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

fn classify_with_override(original: &str) -> Classified {
    let prefixes = ["/agentgateway/".to_owned()];
    let uri = "/agentgateway/x".parse().unwrap();
    let name = http::HeaderName::from_static("x-original-url");
    let headers = [(name, http::HeaderValue::from_str(original).unwrap())].into_iter().collect();
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

/// What one client can make the gateway do at most with one request: everybody else on that worker waits for it.
fn hostile_requests(c: &mut Criterion) {
    for (name, piece) in [("letters", "%61/"), ("compatibility forms", "%uFDFA"), ("words", "onlineagen%74/")] {
        let path = format!("/agentgateway/{}", piece.repeat(31 * 1024 / piece.len()));
        c.bench_function(&format!("path: classify 31 KiB of {name}"), |b| {
            b.iter(|| classify(black_box(&path)));
        });
    }
    let keys: Vec<_> = (0..7000).map(|key| format!("\"{key:x}\":0")).collect();
    let body = format!("{{{},\"called\":\"1\",\"callcontrolid\":1}}", keys.join(","));
    c.bench_function("callout with 7000 keys: parse strictly", |b| {
        b.iter(|| parse_callout(black_box(body.as_bytes())).unwrap());
    });
    c.bench_function("callout with 7000 keys: serde_json::Value, for comparison", |b| {
        b.iter(|| serde_json::from_slice::<serde_json::Value>(black_box(body.as_bytes())).unwrap());
    });
}

/// The worst of each kind that one request can hold: nothing may cost more than about a millisecond.
fn worst_cases(c: &mut Criterion) {
    const BODY: usize = 64 * 1024;
    const FIELD: usize = 30 * 1024;
    let mut group = c.benchmark_group("worst case");
    let callout = |member: &str| {
        let members = member.repeat((BODY - 60) / member.len());
        format!("{{{members}\"called\":\"1\",\"callcontrolid\":1}}").into_bytes()
    };
    let keys: String = (0..7000).map(|key| format!("\"{key:x}\":0,")).collect();
    let marks: String = (0..250).map(|n| format!("\"{n}{}\":0,", "\u{301}".repeat(120))).collect();
    let nested = format!("\"x\":{}0{},", "{\"x\":".repeat(100), "}".repeat(100));
    for (name, body) in [
        ("many keys", callout(&keys)),
        ("marks in keys", callout(&marks)),
        ("one long text", callout(&format!("\"x\":\"{}\",", "王".repeat(BODY / 3 - 40)))),
        ("escaped quotes", callout(&format!("\"x\":\"{}\",", "\\\"".repeat(BODY / 2 - 40)))),
        ("nested objects", callout(&nested)),
    ] {
        group.bench_function(format!("callout of 64 KiB: {name}"), |b| b.iter(|| parse_callout(black_box(&body))));
    }
    let sign_in = format!("{{\"pushUrl\":\"http://a\",\"x\":\"{}\"}}", "王".repeat(BODY / 3 - 20)).into_bytes();
    group.bench_function("sign-in of 64 KiB", |b| {
        b.iter(|| {
            let addresses = push_addresses(black_box(&sign_in)).unwrap();
            with_addresses(&sign_in, addresses.iter().map(|address| (address, "http://gate".to_owned())))
        });
    });
    for (name, piece) in [("parameters", ";a=b"), ("semicolons", ";"), ("quotes", ";a=\"b\"")] {
        let value = format!("application/json{}", piece.repeat(FIELD / piece.len()));
        let headers =
            [(http::header::CONTENT_TYPE, http::HeaderValue::from_str(&value).unwrap())].into_iter().collect();
        group.bench_function(format!("content type of 30 KiB: {name}"), |b| {
            b.iter(|| media_type::declares_json(black_box(&headers)));
        });
    }
    for (name, piece) in [("parameters", "a=b&"), ("marks", "%CC%81"), ("escapes", "%2525"), ("ligatures", "%EF%B7%BA")]
    {
        let text = piece.repeat(FIELD / piece.len());
        group.bench_function(format!("query of 30 KiB: {name}"), |b| {
            b.iter(|| query::may_name_a_field(black_box(&text)));
        });
        group.bench_function(format!("override header of 30 KiB: {name}"), |b| {
            b.iter(|| classify_with_override(black_box(&text)));
        });
        let path = format!("/agentgateway/{text}");
        group.bench_function(format!("path of 30 KiB: {name}"), |b| {
            b.iter(|| classify(black_box(&path)));
        });
    }
    group.finish();
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
    targets = requests, hostile_requests, worst_cases, events, decision
}
criterion_main!(data_path);
