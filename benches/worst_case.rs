//! What one message can cost at most: nothing that a client sends may take more than about 1 ms of CPU, because everybody
//! else on its worker waits.
//!
//! Whole requests go through a gateway that is alone on its thread. The CPU time of that thread is measured, so that other
//! work on the machine does not count. Heads are as long as `limits.head_size` allows, bodies as long as
//! `limits.callout_body` allows, both at their defaults.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark stops where it fails"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use gateway::{API, Gateway, request};
use previewgate::protocol::parse_events;
use rustix::time::{ClockId, clock_gettime};
use tokio::io::DuplexStream;

#[path = "../tests/allocations/gateway.rs"]
mod gateway;

/// Bytes of a head that are free for the hostile part.
const HEAD: usize = 30 * 1024;
/// Bytes of a body that are free for the hostile part.
const BODY: usize = 64 * 1024 - 100;

/// The CPU time of the present thread.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
    }

    fn end(&self, start: Duration) -> Duration {
        self.start().saturating_sub(start)
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

type Group<'a> = BenchmarkGroup<'a, CpuTime>;

/// A piece of text, and what it is hostile to.
const PIECES: [(&str, &str); 12] = [
    ("letters", "a"),
    ("segments", "a/"),
    ("escaped letters", "%61/"),
    ("escapes of escapes", "%2525"),
    ("long compatibility forms", "%uFDFA"),
    ("the same in UTF-8", "%EF%B7%BA"),
    ("numbers in brackets", "%E2%91%BD"),
    ("marks", "%CC%81"),
    ("overlong forms", "%C1%81"),
    ("guarded words", "onlineagen%74/"),
    ("parameters", ";a=b&"),
    ("keys", "calle=&"),
];

/// Pieces that only a header field can hold.
const RAW: [(&str, &[u8]); 4] = [
    ("raw compatibility forms", "\u{fdfa}".as_bytes()),
    ("raw brackets", "\u{247d}".as_bytes()),
    ("raw marks", "\u{301}".as_bytes()),
    ("raw overlong forms", b"\xc1\x81"),
];

fn repeated(piece: impl AsRef<[u8]>, bytes: usize) -> Vec<u8> {
    let piece = piece.as_ref();
    piece.repeat(bytes / piece.len())
}

/// Sends a request again and again. It must leave its connection open.
fn measure(group: &mut Group<'_>, gateway: &Gateway, name: &str, request: &Arc<[u8]>) {
    let mut client = None;
    group.bench_function(name, |b| b.iter(|| answered(gateway, &mut client, name, request)));
}

/// The same with a connection for each request, for those that end it.
fn measure_with_connection(group: &mut Group<'_>, gateway: &Gateway, name: &str, request: &Arc<[u8]>) {
    let name = format!("{name}, on a connection of its own");
    group.bench_function(&name, |b| b.iter(|| answered(gateway, &mut None, &name, request)));
}

/// Without an answer nothing would have been measured.
fn answered(gateway: &Gateway, client: &mut Option<DuplexStream>, name: &str, request: &Arc<[u8]>) {
    let answer = gateway.exchange(client, request, 1);
    assert!(answer.starts_with("HTTP/1.1 "), "{name}: {answer}");
}

fn heads(group: &mut Group<'_>, gateway: &Gateway) {
    let callout = format!("{API}/voicecall/101/previewCallout");
    let json = "Content-Type: application/json\r\n";
    let body = br#"{"called":"1","callcontrolid":1}"#;
    measure(group, gateway, "an ordinary callout", &request("PUT", &callout, json, body));
    for (name, piece) in PIECES {
        let text = String::from_utf8(repeated(piece, HEAD)).unwrap();
        let path = request("GET", &format!("{API}/{text}"), "", b"");
        measure(group, gateway, &format!("path of 30 KiB: {name}"), &path);
        let query = request("PUT", &format!("{callout}?{text}"), json, body);
        measure(group, gateway, &format!("query of 30 KiB: {name}"), &query);
    }
    let pieces = PIECES.map(|(name, piece)| (name, piece.as_bytes()));
    for (name, piece) in pieces.into_iter().chain(RAW) {
        let one = field_lines("X-Original-URL", piece, 1);
        measure(group, gateway, &format!("override field of 30 KiB: {name}"), &with_fields("answer", &one));
        let many = field_lines("X-Rewrite-URL", piece, 90);
        measure(group, gateway, &format!("90 override fields of 30 KiB: {name}"), &with_fields("answer", &many));
    }
    for (field, piece) in [
        ("Content-Type", "application/json;a=b"),
        ("Content-Type", ";"),
        ("Content-Type", ";a=\"b\""),
        ("Content-Type", "form"),
        ("Accept-Encoding", ","),
        ("Accept-Encoding", "gzip;"),
        ("Accept-Encoding", "gzip,"),
        ("Connection", "a,"),
        ("Connection", ","),
        ("Connection", "Guid,"),
        ("Upgrade", "websocke"),
        ("Origin", "a"),
        ("X-Forwarded-For", "1,"),
        ("Cookie", "a=b;"),
        ("X-Request-Id", "a"),
    ] {
        let one = field_lines(field, piece.as_bytes(), 1);
        measure(group, gateway, &format!("{field} of 30 KiB: {piece}"), &with_fields("previewCallout", &one));
        measure(group, gateway, &format!("poll, {field} of 30 KiB: {piece}"), &poll_with(&one));
    }
    for field in ["Accept-Encoding", "Connection", "X-Forwarded-For", "X-Original-URL", "Origin", "Cookie"] {
        let many = field_lines(field, b"a,b", 90);
        measure(group, gateway, &format!("90 times {field}: a,b"), &poll_with(&many));
    }
    let names: Vec<u8> = (0..90).flat_map(|n| format!("X-{n}{}: a\r\n", "a".repeat(300)).into_bytes()).collect();
    measure(group, gateway, "90 unknown fields with names of 300 B", &poll_with(&names));
    let named: Vec<u8> = (0..4000).flat_map(|n| format!("x{n},").into_bytes()).collect();
    let named = [b"Connection: ".as_slice(), &named, b"\r\n"].concat();
    measure(group, gateway, "Connection with 4000 names", &poll_with(&named));
}

/// `count` fields of this name that share the space of a head.
fn field_lines(name: &str, piece: &[u8], count: usize) -> Vec<u8> {
    let value = repeated(piece, HEAD / count - name.len() - 4);
    [name.as_bytes(), b": ", &value, b"\r\n"].concat().repeat(count)
}

fn with_fields(action: &str, fields: &[u8]) -> Arc<[u8]> {
    let plain = request("PUT", &format!("{API}/voicecall/101/{action}"), "X-HERE: 1\r\n", b"{}");
    replaced(&plain, fields)
}

fn poll_with(fields: &[u8]) -> Arc<[u8]> {
    replaced(&request("GET", &format!("{API}/agentevent/103"), "X-HERE: 1\r\n", b""), fields)
}

fn replaced(plain: &[u8], fields: &[u8]) -> Arc<[u8]> {
    let place = plain.windows(11).position(|line| line == b"X-HERE: 1\r\n").unwrap();
    [&plain[..place], fields, &plain[place + 11..]].concat().into()
}

/// Members that fill a body, and what they are hostile to.
fn members() -> Vec<(&'static str, Vec<u8>)> {
    let text = |piece: &str| [b"\"x\":\"", repeated(piece, BODY - 60).as_slice(), b"\","].concat();
    let keys: String = (0..6500).map(|key| format!("\"{key:x}\":0,")).collect();
    let marks: String = (0..240).map(|n| format!("\"{n}{}\":0,", "\u{301}".repeat(120))).collect();
    let forms: String = (0..300).map(|n| format!("\"{n}{}\":0,", "\u{fdfa}".repeat(70))).collect();
    let nested = format!("\"x\":{}0{},", "{\"x\":".repeat(100), "}".repeat(100));
    let lists = format!("\"x\":[{}0],", "[0],".repeat((BODY - 80) / 4));
    vec![
        ("many keys", keys.into_bytes()),
        ("marks in keys", marks.into_bytes()),
        ("compatibility forms in keys", forms.into_bytes()),
        ("text in UTF-8", text("王")),
        ("text beyond the BMP", text("𝔠")),
        ("escaped text", text("\\u738b")),
        ("escaped quotes", text("\\\"")),
        ("escaped quotes and letters", text("\\\"called")),
        ("backslashes", text("\\\\")),
        ("padding", text("\\u0000")),
        ("one long number", [b"\"x\":", repeated("1", BODY - 60).as_slice(), b","].concat()),
        ("one long fraction", [b"\"x\":0.", repeated("1", BODY - 60).as_slice(), b"e9,"].concat()),
        ("nested objects", repeated(nested, BODY - 60)),
        ("lists", lists.into_bytes()),
        ("blanks", repeated(" ", BODY - 60)),
    ]
}

fn bodies(group: &mut Group<'_>, gateway: &Gateway) {
    let json = "Content-Type: application/json\r\n";
    for (name, members) in members() {
        for (kind, path, last) in [
            ("callout", "voicecall/101/previewCallout", r#""called":"1","callcontrolid":1"#),
            ("cancel", "voicecall/101/cancelPreviewCallout", r#""callcontrolid":1"#),
            ("sign-in", "onlineagent/101", r#""phonenum":"1""#),
        ] {
            for bom in ["", "\u{feff}"] {
                let body = [bom.as_bytes(), b"{", &members, last.as_bytes(), b"}"].concat();
                let mark = if bom.is_empty() { "" } else { ", with a BOM" };
                let request = request("PUT", &format!("{API}/{path}"), json, &body);
                measure(group, gateway, &format!("{kind} of 64 KiB: {name}{mark}"), &request);
            }
        }
    }
    pieces(group, gateway);
}

/// Bodies in as many pieces as are read, and in more. Of the latter the rest stays unread, which ends the connection.
fn pieces(group: &mut Group<'_>, gateway: &Gateway) {
    measure(group, gateway, "callout of 1 KiB in chunks of one byte", &in_chunks(1000, 1));
    measure(group, gateway, "callout of 64 KiB in chunks of 43 bytes", &in_chunks(BODY, 43));
    measure_with_connection(group, gateway, "an ordinary callout", &in_chunks(10, 10));
    measure_with_connection(group, gateway, "callout of 32 KiB in chunks of one byte", &in_chunks(BODY / 2, 1));
    measure_with_connection(group, gateway, "callout of 64 KiB in chunks of 13 bytes", &in_chunks(BODY, 13));
    measure_with_connection(group, gateway, "callout of 64 KiB in chunks of 6 bytes", &in_chunks(BODY, 6));
}

/// A callout with so many blanks, in chunks of `size` bytes.
fn in_chunks(blanks: usize, size: usize) -> Arc<[u8]> {
    let head = format!(
        "PUT {API}/voicecall/101/previewCallout HTTP/1.1\r\nHost: a\r\nGuid: a\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    );
    let chunk = format!("{size:x}\r\n{}\r\n", " ".repeat(size));
    let body = r#"{"called":"1","callcontrolid":1}"#;
    let last = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    [head.as_bytes(), &chunk.as_bytes().repeat(blanks / size), last.as_bytes()].concat().into()
}

fn requests(c: &mut Criterion<CpuTime>) {
    let gateway = Gateway::start("", "");
    let mut group = c.benchmark_group("worst case");
    heads(&mut group, &gateway);
    bodies(&mut group, &gateway);
    group.finish();
}

/// The platform's answers are trusted more than clients, and bounded too: one of `limits.event_body`, 1 MiB.
fn events(c: &mut Criterion<CpuTime>) {
    const SIZE: usize = 1 << 20;
    let mut group = c.benchmark_group("worst events");
    let event = |content: &str| {
        format!(
            r#"{{"eventType":"AgentEvent_Preview_CallOut_Ex","workNo":"101","content":{{"controlid":1,{content}}}}}"#
        )
    };
    let envelope = |event: &str| format!(r#"{{"retcode":"0","event":{event}}}"#).into_bytes();
    let text = |name: &str, piece: &str| event(&format!("\"{name}\":\"{}\"", piece.repeat(SIZE / piece.len())));
    let small = event("\"dialeddigits\":\"1\"");
    for (name, body) in [
        ("numbers", envelope(&text("dialeddigits", "1234567,"))),
        ("commas", envelope(&text("dialeddigits", ","))),
        ("escaped numbers", envelope(&text("dialeddigits", "\\u0031,"))),
        ("text", envelope(&text("callData", "x"))),
        ("escaped text", envelope(&text("callData", "\\u738b"))),
        ("events", envelope(&format!("[{}{small}]", format!("{small},").repeat(SIZE / small.len())))),
        ("brackets", envelope(&"[".repeat(SIZE))),
        ("members", envelope(&event(&format!("{}\"b\":1", "\"a\":1,".repeat(SIZE / 6))))),
    ] {
        group.bench_function(format!("answer of 1 MiB: {name}"), |b| b.iter(|| parse_events(black_box(&body))));
    }
    group.finish();
}

criterion_group! {
    name = worst_case;
    config = Criterion::default()
        .with_measurement(CpuTime)
        .sample_size(10)
        .warm_up_time(Duration::from_millis(30))
        .measurement_time(Duration::from_millis(100));
    targets = requests, events
}
criterion_main!(worst_case);
