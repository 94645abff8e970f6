//! Kinds of values that name something on the network: endpoints, path prefixes, server names.

use toml::de::DeValue;

use super::document::ValueRef;
use super::entry::Kind;
use super::reference::ValueKind;
use super::toml_text::quoted;
use crate::endpoint_url::{self, EndpointUrl, Scheme, is_server_name};

/// One element of `upstream.endpoints`.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamEndpoint {
    /// Its address.
    pub url: EndpointUrl,
    /// The name of its CC-Gateway node. Requests whose GUID ends in this name go to this endpoint first.
    pub node: Option<String>,
}

impl From<EndpointUrl> for UpstreamEndpoint {
    fn from(url: EndpointUrl) -> Self {
        Self { url, node: None }
    }
}

/// Stands for a required URL that is missing, until all problems are found: no configuration with a problem is used.
impl Default for EndpointUrl {
    fn default() -> Self {
        Self { scheme: Scheme::Https, host: String::new(), port: Scheme::Https.default_port() }
    }
}

/// An endpoint: its URL, or a table with its URL and its node.
pub(super) struct Endpoint;

impl Kind for Endpoint {
    type Value = UpstreamEndpoint;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<UpstreamEndpoint> {
        match value.toml() {
            DeValue::Table(table) => value.fields(table, |reader| {
                let url = reader.find("url").map(|mut value| Url.read(&mut value));
                let node = reader.find("node").and_then(|mut value| NodeName.read(&mut value));
                if url.is_none() {
                    reader.missing("url", "add `url = \"https://HOST:8043\"` to this endpoint");
                }
                url.flatten().map(|url| UpstreamEndpoint { url, node })
            }),
            _ => Url.read(value).map(UpstreamEndpoint::from),
        }
    }

    fn write(&self, value: &UpstreamEndpoint) -> String {
        let url = Url.write(&value.url);
        match &value.node {
            Some(node) => format!("{{ url = {url}, node = {} }}", quoted(node)),
            None => url,
        }
    }

    fn describe(&self) -> ValueKind {
        let fields = vec![("url", Url.describe()), ("node", NodeName.describe())];
        ValueKind::Fields { form: "URL, or a table with `url` and `node`", or_text: true, fields }
    }
}

/// `scheme://host[:port]`.
pub(super) struct Url;

impl Kind for Url {
    type Value = EndpointUrl;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<EndpointUrl> {
        let text = value.text("an endpoint such as \"https://10.0.0.11:8043\"")?;
        match endpoint_url::parse(text) {
            Ok(url) => Some(url),
            Err((message, cure)) => value.wrong(message, &cure),
        }
    }

    fn write(&self, value: &EndpointUrl) -> String {
        quoted(&value.to_string())
    }

    fn describe(&self) -> ValueKind {
        ValueKind::Text("URL: scheme, host and port")
    }
}

/// The name of a CC-Gateway node: the part after the last dot of the GUIDs that the node issues.
pub(super) struct NodeName;

impl Kind for NodeName {
    type Value = String;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<String> {
        const CURE: &str = "write the part after the last dot of the GUIDs of that node, such as \"AgentGateway1\"";
        let text = value.text("the name of a node, such as \"AgentGateway1\"")?;
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'.') {
            return Some(text.to_owned());
        }
        value.wrong("is not the name of a node", CURE)
    }

    fn write(&self, value: &String) -> String {
        quoted(value)
    }

    fn describe(&self) -> ValueKind {
        ValueKind::Text("name of a CC-Gateway node")
    }
}

/// A DNS name or IP address to verify a certificate against.
pub(super) struct VerifiedName;

impl Kind for VerifiedName {
    type Value = String;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<String> {
        const WANTED: &str = "a DNS name or an IP address, such as \"ccgateway.example.com\"";
        let text = value.text(WANTED)?;
        if is_server_name(text) {
            return Some(text.to_owned());
        }
        value.wrong("is neither a DNS name nor an IP address", &format!("write {WANTED}, without scheme and port"))
    }

    fn write(&self, value: &String) -> String {
        quoted(value)
    }

    fn describe(&self) -> ValueKind {
        ValueKind::Text("DNS name or IP address")
    }
}

/// The beginning of a path. It starts and ends with `/`.
pub(super) struct PathPrefix;

impl Kind for PathPrefix {
    type Value = String;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<String> {
        const CURE: &str = "write a plain path such as \"/agentgateway/\"";
        let prefix = value.text("a path such as \"/agentgateway/\"")?;
        if !prefix.starts_with('/') || !prefix.ends_with('/') {
            return value.wrong("does not start and end with `/`", CURE);
        }
        // A prefix with several spellings would match only one of them.
        if ["%", "..", "//", "/./", ";", "?", "#", "\\"].iter().any(|ambiguous| prefix.contains(ambiguous)) {
            return value.wrong("contains `%`, `..`, `//`, `/./`, `;`, `?`, `#` or `\\`", CURE);
        }
        if prefix.starts_with("/previewgate/") {
            return value.wrong("is reserved for the gateway's own resources and is never forwarded", CURE);
        }
        if !prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
            return value.wrong("contains a character that must be escaped in a path", CURE);
        }
        Some(prefix.to_owned())
    }

    fn write(&self, value: &String) -> String {
        quoted(value)
    }

    fn describe(&self) -> ValueKind {
        ValueKind::Text("path that starts and ends with `/`")
    }
}

/// The path of an `http` probe.
pub(super) struct ProbePath;

impl Kind for ProbePath {
    type Value = String;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<String> {
        const CURE: &str = "write the plain path of a harmless resource, such as \"/agentgateway/\"";
        let path = value.text("a path such as \"/agentgateway/\"")?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~?=&".contains(&byte);
        if !path.starts_with('/') || !path.bytes().all(plain) {
            return value.wrong("is not a plain path", CURE);
        }
        // A GET of an agent's events removes them from the platform's queue.
        if path.to_ascii_lowercase().contains("agentevent") {
            return value.wrong("would remove events that agents wait for", CURE);
        }
        Some(path.to_owned())
    }

    fn write(&self, value: &String) -> String {
        quoted(value)
    }

    fn describe(&self) -> ValueKind {
        ValueKind::Text("path")
    }
}
