//! A request from a file, as it would have arrived: through the framing of the live path.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri};
use serde::Deserialize;

use super::error::Error;
use crate::config::Config;
use crate::downstream::framing::{Fault, Framer, HeadFault, MAX_FIELDS};

/// The bytes of a request, and what had to be assumed to get them.
pub(super) struct Asked {
    pub(super) bytes: Vec<u8>,
    pub(super) assumptions: Vec<String>,
}

/// A request whose head is sound.
pub(super) struct Arrived {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    /// Nothing if it never ends.
    pub(super) body: Option<Vec<u8>>,
    /// Bytes of the file that belong to no request.
    pub(super) left_over: usize,
}

/// Makes the bytes of a request from a file: raw HTTP, or the body of a callout alone.
pub(super) fn read(file: Vec<u8>, agent: Option<&str>, config: &Config) -> Result<Asked, Error> {
    let body_alone = agent.is_some() || file.trim_ascii_start().starts_with(b"{");
    if body_alone { around_body(&file, agent, config) } else { Ok(raw(file)) }
}

fn around_body(body: &[u8], agent: Option<&str>, config: &Config) -> Result<Asked, Error> {
    let agent = agent.map(str::to_owned).or_else(|| named_agent(body)).ok_or(Error::NoAgent)?;
    let prefix = config.upstream.path_prefixes.first().map_or("/", String::as_str);
    let mut bytes = format!(
        "PUT {prefix}resource/voicecall/{agent}/previewCallout HTTP/1.1\r\nHost: explain\r\nGuid: assumed\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    let assumption = "the file holds a body alone: path, Guid and Content-Type are taken to be as documented";
    Ok(Asked { bytes, assumptions: vec![assumption.to_owned()] })
}

/// The member `agent` of a body, which is not the vendor's and does no harm there.
fn named_agent(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Members {
        agent: serde_json::Value,
    }

    match serde_json::from_slice::<Members>(body).ok()?.agent {
        serde_json::Value::String(text) => Some(text),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The request in a file, with two changes undone that a captured request suffers in an editor: LF line ends, and a body
/// without a length.
fn raw(file: Vec<u8>) -> Asked {
    let mut assumptions = Vec::new();
    let mut bytes = file;
    if !bytes.contains(&b'\r') {
        bytes = with_line_ends(&bytes);
        assumptions.push("the head has LF line ends: taken for CR LF".to_owned());
    }
    if let Some((head, body)) = split_head(&bytes)
        && !body.is_empty()
        && !has_length(head)
    {
        assumptions
            .push(format!("neither Content-Length nor Transfer-Encoding: taken for Content-Length: {}", body.len()));
        let line = format!("\r\nContent-Length: {}\r\n\r\n", body.len());
        bytes = [head, line.as_bytes(), body].concat();
    }
    Asked { bytes, assumptions }
}

fn with_line_ends(file: &[u8]) -> Vec<u8> {
    let end = file.windows(2).position(|pair| pair == b"\n\n").map_or(file.len(), |at| at + 2);
    let (head, body) = file.split_at_checked(end).unwrap_or((file, &[]));
    let mut bytes = Vec::new();
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        bytes.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(body);
    bytes
}

/// The head without its empty line, and what follows.
fn split_head(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some((bytes.get(..end)?, bytes.get(end + 4..)?))
}

fn has_length(head: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    head.contains("\ncontent-length") || head.contains("\ntransfer-encoding")
}

/// Lets the bytes pass the framing of the live path, as far as they do.
pub(super) fn arrive(bytes: &[u8], config: &Config) -> Result<Arrived, Fault> {
    let mut framer = Framer::new(config.limits.head_size);
    let mut passed = framer.advance(bytes)?.bytes;
    if !framer.in_head() {
        // The head of a body with a fault passes alone: the next step finds the fault.
        passed += framer.advance(bytes.get(passed..).unwrap_or_default())?.bytes;
    }
    // A head that does not end is an error: more bytes will not come.
    let message = bytes.get(..passed).filter(|passed| !passed.is_empty()).ok_or(Fault::Head(HeadFault::Timeout))?;
    let (head, body) = split_head(message).ok_or(Fault::Head(HeadFault::LineEnd))?;
    let (method, uri, headers) = head_of(head).ok_or(Fault::Head(HeadFault::RequestLine))?;
    let body = if headers.contains_key(header::TRANSFER_ENCODING) { without_chunks(body) } else { body.to_vec() };
    let body = framer.in_head().then_some(body);
    Ok(Arrived { method, uri, headers, body, left_over: bytes.len() - passed })
}

/// What hyper makes of a head that the framer has let through.
fn head_of(head: &[u8]) -> Option<(Method, Uri, HeaderMap)> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut fields);
    let complete = [head, b"\r\n\r\n"].concat();
    parsed.parse(&complete).ok()?;
    let method = parsed.method?.parse().ok()?;
    let uri = parsed.path?.parse::<Uri>().ok()?;
    let mut headers = HeaderMap::new();
    for field in parsed.headers.iter() {
        headers.append(field.name.parse::<HeaderName>().ok()?, HeaderValue::from_bytes(field.value).ok()?);
    }
    Some((method, uri, headers))
}

/// The content of a chunked body that the framer has found to be sound.
fn without_chunks(body: &[u8]) -> Vec<u8> {
    let (mut content, mut rest) = (Vec::new(), body);
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let size = rest.get(..end).and_then(|line| std::str::from_utf8(line).ok());
        let size = size.and_then(|digits| usize::from_str_radix(digits, 16).ok()).unwrap_or(0);
        let data = rest.get(end + 2..).unwrap_or_default();
        if size == 0 {
            break;
        }
        content.extend_from_slice(data.get(..size).unwrap_or(data));
        rest = data.get(size.saturating_add(2)..).unwrap_or_default();
    }
    content
}
