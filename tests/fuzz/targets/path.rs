//! The classifier: what Tomcat's own reading makes a previewCallout is judged or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use previewgate::protocol::{ClassifyRules, Guard, RequestHead, classify};

/// What Tomcat does to a path: drop `;parameters`, decode once, fold `//`, `/./` and `/../`.
fn as_tomcat_reads(path: &str) -> Option<String> {
    let without: Vec<&str> = path.split('/').map(|s| s.split(';').next().unwrap_or_default()).collect();
    let mut decoded = Vec::new();
    let mut bytes = without.join("/").into_bytes().into_iter();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            decoded.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    let decoded = String::from_utf8(decoded).ok()?;
    let mut segments = Vec::new();
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    Some(segments.join("/").to_ascii_lowercase())
}

fuzz_target!(|path: &str| {
    let Ok(uri) = http::Uri::try_from(path) else { return };
    if uri.path() != path {
        return;
    }
    let headers = http::HeaderMap::new();
    let head = RequestHead { method: &http::Method::PUT, uri: &uri, headers: &headers, has_body: true };
    let prefixes = ["/agentgateway/".to_owned()];
    let classified = classify(&head, ClassifyRules { path_prefixes: &prefixes, push: false });
    let read = as_tomcat_reads(path).unwrap_or_default();
    let means_callout = read.starts_with("agentgateway/resource/voicecall/") && read.ends_with("/previewcallout");
    if means_callout {
        let guarded = matches!(classified.guard, Guard::Callout(_)) || classified.objection.is_some();
        assert!(guarded, "{path} passed as {classified:?}");
    }
});
