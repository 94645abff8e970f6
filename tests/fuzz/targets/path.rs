//! The classifier: what Tomcat's own reading makes a previewCallout is judged or refused, whatever the method. A poll, a
//! sign-in, a sign-out or a cancellation to Tomcat is one here too, of the same agent, or it is refused.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use libfuzzer_sys::fuzz_target;
use previewgate::preview::AgentId;
use previewgate::protocol::{Classified, ClassifyRules, Guard, OperationName, RequestHead, classify};

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

/// What a request means to the server that is read so: nothing if the gateway may pass it on without a look.
fn meaning(method: &Method, read: &str) -> Option<(OperationName, Option<AgentId>)> {
    let segments: Vec<&str> = read.strip_prefix("agentgateway/resource/")?.split('/').collect();
    let (name, id) = match (method.as_str(), segments.as_slice()) {
        ("PUT", ["voicecall", id, "previewcallout"]) => (OperationName::PreviewCallout, id),
        ("PUT", ["voicecall", id, "cancelpreviewcallout"]) => (OperationName::CancelPreviewCallout, id),
        ("GET", ["agentevent", "allagentevent"]) => return Some((OperationName::GetAllAgentEvents, None)),
        ("GET", ["agentevent", id]) => (OperationName::GetAgentEvent, id),
        ("PUT", ["onlineagent", "loginbyaccount"]) => return Some((OperationName::LoginByAccount, None)),
        ("PUT", ["onlineagent", id]) => (OperationName::Login, id),
        ("PUT", ["onlineagent", id, "forcelogin"]) => (OperationName::ForceLogin, id),
        ("PUT", ["onlineagent", id, "loginex"]) => (OperationName::LoginEx, id),
        ("DELETE", ["onlineagent", id, "logout"]) => (OperationName::Logout, id),
        ("DELETE", ["onlineagent", id, "forcelogout"]) => (OperationName::ForceLogout, id),
        ("POST", ["qualitycontrol", _, "forcelogout", id]) => (OperationName::ForceLogout, id),
        _ => return None,
    };
    Some((name, Some(id.parse().ok()?)))
}

fn is_callout(read: &str) -> bool {
    read.starts_with("agentgateway/resource/voicecall/") && read.ends_with("/previewcallout")
}

fn classified(method: &Method, target: &Uri, headers: &HeaderMap) -> Classified {
    let head = RequestHead { method, uri: target, headers, has_body: true };
    classify(&head, ClassifyRules { path_prefixes: &["/agentgateway/".to_owned()], push: false })
}

fuzz_target!(|path: &str| {
    let read = as_tomcat_reads(path).unwrap_or_default();
    // As an override field of another request.
    if let Ok(value) = HeaderValue::from_str(path) {
        let answer = Uri::from_static("/agentgateway/resource/voicecall/101/answer");
        let headers = [(HeaderName::from_static("x-original-url"), value)].into_iter().collect();
        let found = classified(&Method::PUT, &answer, &headers);
        assert!(found.objection.is_some() || !is_callout(&read), "{path} overrides as {found:?}");
    }
    let Ok(uri) = Uri::try_from(path) else { return };
    if uri.path() != path {
        return;
    }
    for method in [Method::PUT, Method::GET, Method::POST, Method::DELETE] {
        let found = classified(&method, &uri, &HeaderMap::new());
        if is_callout(&read) {
            assert!(matches!(found.guard, Guard::Callout(_)) || found.objection.is_some(), "{path} passed as {found:?}");
        }
        // What changes the previews is seen as such, for the agent whom the server finds there, or it is refused.
        if let Some(meant) = meaning(&method, &read)
            && found.objection.is_none()
        {
            assert_eq!((found.operation.name(), found.operation.agent()), meant, "{method} {path}: {found:?}");
        }
    }
});
