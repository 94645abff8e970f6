//! The golden payloads of `tests/data`: every documented shape of an event and of a callout, each read by the library.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderValue, header};
use previewgate::preview::{Change, DialedNumber};
use previewgate::protocol::{Event, ParsedCallout, content, parse_callout, parse_events};
use serde::Deserialize;

/// `tests/data/index.toml`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Index {
    pub(crate) events: Vec<EventFile>,
    callouts: Vec<CalloutFile>,
}

/// A payload of the platform, and its meaning.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventFile {
    file: PathBuf,
    pub(crate) delivery: Delivery,
    content_type: Option<String>,
    content_encoding: Option<String>,
    #[serde(default)]
    pub(crate) unparsable: bool,
    pub(crate) retcode: Option<String>,
    #[serde(default)]
    pub(crate) unreadable: usize,
    #[serde(default)]
    pub(crate) expected: Vec<ExpectedEvent>,
}

/// How the body reaches an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Delivery {
    /// In the answer to a poll of agent 101.
    Poll,
    /// In such an answer, but with an event of another agent.
    Foreign,
    PollAll,
    Push,
    PushUrl,
}

/// The expected reading of one event.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectedEvent {
    #[serde(rename = "type")]
    event_type: String,
    pub(crate) agent: Option<u32>,
    pub(crate) control_id: Option<i64>,
    #[serde(default)]
    pub(crate) numbers: Vec<String>,
    #[serde(default)]
    pub(crate) ended: bool,
    /// The one preview that ends.
    #[serde(default)]
    released: Option<i64>,
    generated_at: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CalloutFile {
    file: PathBuf,
    called: Option<String>,
    control_id: Option<i64>,
    reason: Option<String>,
}

pub(crate) fn index() -> Index {
    toml::from_str(&std::fs::read_to_string(data().join("index.toml")).unwrap()).unwrap()
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

impl EventFile {
    pub(crate) fn name(&self) -> String {
        self.file.display().to_string()
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        std::fs::read(data().join(&self.file)).unwrap_or_else(|error| panic!("{}: {error}", self.name()))
    }

    /// The header fields of its response.
    pub(crate) fn headers(&self) -> Vec<(&str, &str)> {
        let content_type = self.content_type.as_deref().unwrap_or("application/json;charset=UTF-8");
        let coding = self.content_encoding.as_deref().map(|coding| ("Content-Encoding", coding));
        [("Content-Type", content_type)].into_iter().chain(coding).collect()
    }

    fn header_map(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers() {
            let name: header::HeaderName = name.parse().unwrap();
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }
}

impl From<&Event> for ExpectedEvent {
    fn from(event: &Event) -> Self {
        let announcement = match &event.change {
            Some(Change::Shown(announcement)) => Some(announcement),
            _ => None,
        };
        let numbers = announcement.map(|shown| shown.numbers.as_slice()).unwrap_or_default();
        Self {
            event_type: event.event_type.to_string(),
            agent: event.agent.map(|agent| agent.as_u32()),
            control_id: announcement.map(|shown| shown.control_id.0),
            numbers: numbers.iter().map(|number| DialedNumber::reveal(number).to_owned()).collect(),
            ended: event.change == Some(Change::Ended),
            released: match &event.change {
                Some(Change::Cancelled(control_id)) => Some(control_id.0),
                _ => None,
            },
            generated_at: event.generated_at,
        }
    }
}

#[test]
fn every_event_is_understood_as_listed() {
    for file in index().events {
        let (name, body) = (file.name(), file.body());
        let text = content::decoded(&file.header_map(), &body, 1 << 20);
        let found = text.ok().and_then(|text| parse_events(&text).ok());
        assert_eq!(found.is_none(), file.unparsable, "{name}: unparsable");
        let found = found.unwrap_or_default();
        assert_eq!(found.retcode.as_deref(), file.retcode.as_deref(), "{name}: retcode");
        assert_eq!(found.unreadable, file.unreadable, "{name}: unreadable");
        let events: Vec<_> = found.events.iter().map(ExpectedEvent::from).collect();
        assert_eq!(events, file.expected, "{name}");
    }
}

#[test]
fn every_callout_is_understood_as_listed() {
    for CalloutFile { file, called, control_id, reason } in index().callouts {
        let body = std::fs::read(data().join(&file)).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let (read, refused) = match parse_callout(&body) {
            Ok(ParsedCallout { callout, .. }) => {
                (Some((callout.called.reveal().to_owned(), callout.control_id.0)), None)
            }
            Err(error) => (None, Some(error.reason().to_string())),
        };
        assert_eq!((read, refused), (called.zip(control_id), reason), "{}", file.display());
    }
}

#[test]
fn every_file_is_listed_once() {
    let index = index();
    let listed: Vec<PathBuf> =
        index.events.iter().map(|e| e.file.clone()).chain(index.callouts.iter().map(|c| c.file.clone())).collect();
    let once: BTreeSet<PathBuf> = listed.iter().cloned().collect();
    assert_eq!(once.len(), listed.len(), "a file is listed twice");
    let files_in = |folder: &str| {
        let entries = std::fs::read_dir(data().join(folder)).unwrap();
        let folder = PathBuf::from(folder);
        entries.map(move |entry| folder.join(entry.unwrap().file_name())).collect::<Vec<_>>()
    };
    let there: BTreeSet<PathBuf> = ["events", "callouts"].into_iter().flat_map(files_in).collect();
    assert_eq!(there, once, "tests/data and its index differ");
}
