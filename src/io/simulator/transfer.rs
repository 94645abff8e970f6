//! All other resources below `/agentgateway/`: downloads and uploads of any size, and echoes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::answer::{Answer, Body};
use super::request::Request;

/// `…/download?bytes=N[&chunked=1]`, `…/echo`, and for all others (uploads too) the number of bytes that came.
pub(super) fn answer(request: &Request) -> Answer {
    match request.resource.segments().last() {
        Some(&"download") => download(request),
        Some(&"echo") => echo(request),
        _ => Answer::success(json!({"result": {"bytes": request.body_length}})),
    }
}

fn download(request: &Request) -> Answer {
    let length = request.resource.parameter("bytes").and_then(|text| text.parse().ok()).unwrap_or(0);
    let chunked = request.resource.parameter("chunked") == Some("1");
    Answer { status: 200, headers: Vec::new(), body: Body::Generated { length, chunked } }
        .with("Content-Type", "application/octet-stream")
        .with("Content-Disposition", "attachment; filename=\"download.bin\"")
}

fn echo(request: &Request) -> Answer {
    let mut headers: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for (name, value) in &request.head.headers {
        headers.entry(name).or_default().push(String::from_utf8_lossy(value));
    }
    let result: Value = json!({
        "method": request.head.method,
        "path": request.head.target,
        "headers": headers,
        "body": String::from_utf8_lossy(&request.body),
    });
    Answer::success(json!({"result": result}))
}
