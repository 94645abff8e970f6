//! The campaign of a simulated CC-Gateway: which agents are shown which contacts, how fast, and how the calls end.
//!
//! A file of its own (`previewgate simulate --campaign FILE`), read like the configuration: every mistake is named, with
//! its line and a cure.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use toml::de::DeValue;

use super::document::{Document, Files, TableReader, ValueRef};
use super::entry::{Entry, Kind};
use super::kinds::{Flag, list, number, span, word};
use super::problem::{Problem, Problems};
use super::read_text;
use super::reference::ValueKind;
use super::toml_text::quoted;
use crate::label_enum;
use crate::preview::AgentId;

/// Where the keys are described.
const MANUAL: &str = "docs/developing.md";
/// The longest number and the longest list of numbers of an event (docs/protocol.md 5).
const MAX_NUMBER: usize = 24;
const MAX_LIST: usize = 120;
const MAX_CALL_DATA: usize = 16 * 1024;
const TIMES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 60 * 60);

/// A campaign.
#[derive(Clone, Debug, PartialEq)]
pub struct Campaign {
    /// The agents that it waits for. Their applications sign them in.
    pub agents: Vec<AgentId>,
    /// The pause before an agent's next contact.
    pub pace: Duration,
    /// An agent who has not called a contact after this time loses it: the platform releases the preview.
    pub preview_time: Duration,
    /// The control ID of the first contact. The others follow.
    pub first_control_id: u64,
    /// The event that shows a contact; by its numbers if absent.
    pub event: Option<PreviewEvent>,
    /// Whether it starts again after the last contact.
    pub repeat: bool,
    /// The contacts, in order.
    pub contacts: Vec<Contact>,
}

/// One contact.
#[derive(Clone, Debug, PartialEq)]
pub struct Contact {
    /// Its numbers, as in `dialeddigits`.
    pub numbers: String,
    /// The agent who is shown it; the first that is free if absent.
    pub agent: Option<AgentId>,
    /// How its call goes.
    pub plan: CallPlan,
    /// The event that shows it, if not the campaign's.
    pub event: Option<PreviewEvent>,
    /// Its `callData`.
    pub call_data: String,
}

/// How a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallPlan {
    /// How long the telephone rings.
    pub ring: Duration,
    /// How it goes on.
    pub outcome: CallOutcome,
    /// How long the customer talks, if the customer ends the call.
    pub talk: Duration,
}

impl CallPlan {
    /// Answered at once; lasts until the agent ends it.
    pub const AT_ONCE: Self = Self { ring: Duration::ZERO, outcome: CallOutcome::Talks, talk: Duration::from_secs(20) };
}

label_enum! {
    /// How a call goes on after it has rung.
    pub enum CallOutcome {
        /// The customer answers, and the agent ends the call.
        Talks = "talks",
        /// The customer answers, and ends the call after a while.
        HangsUp = "hangs_up",
        /// The call cannot be made, or is not answered: `AgentEvent_Call_Out_Fail`.
        Fails = "fails",
    }
}

label_enum! {
    /// The event that shows a contact.
    pub enum PreviewEvent {
        /// The announcement.
        Preview = "AgentEvent_Preview",
        /// For one number.
        CallOut = "AgentEvent_Preview_CallOut",
        /// For several numbers.
        CallOutEx = "AgentEvent_Preview_CallOut_Ex",
    }
}

/// Reads and checks the campaign in the file at `path`.
///
/// # Errors
/// Every problem of the file, or a single one if the file cannot be read.
pub fn load_campaign(path: &Path) -> Result<Campaign, Problems> {
    let name = path.display().to_string();
    let read = read_text(path).and_then(|text| parse(&text));
    read.map_err(|problems| Problems::new(&name, problems))
}

fn parse(text: &str) -> Result<Campaign, Vec<Problem>> {
    let mut document = Document::new(text, Path::new(""), Files::Skip).described_in(MANUAL);
    let root = document.parse()?;
    let mut reader = TableReader::root(&mut document, Some(root.get_ref()));
    let campaign = Campaign::read(&mut reader);
    reader.finish();
    if document.is_sound("agents") {
        for (index, contact) in campaign.contacts.iter().enumerate() {
            if contact.agent.is_some_and(|agent| !campaign.agents.contains(&agent)) {
                let cure = "name one of the agents of `agents`, or leave `agent` out";
                document.conflict(&format!("contacts[{index}]"), "its agent is not part of the campaign", cure);
            }
        }
    }
    let problems = document.finish();
    if problems.is_empty() { Ok(campaign) } else { Err(problems) }
}

impl Campaign {
    fn read(reader: &mut TableReader<'_, '_>) -> Self {
        let defaults = CallPlan {
            ring: span(TIMES).or(Duration::from_secs(2)).read(reader, "ring"),
            outcome: word(CallOutcome::ALL, CallOutcome::as_str).or(CallOutcome::Talks).read(reader, "outcome"),
            talk: span(TIMES).or(Duration::from_secs(20)).read(reader, "talk"),
        };
        Self {
            agents: list(Agent, "a list of agents, such as [1001, 1002]")
                .required("add `agents = [1001]`: the agents that are shown the contacts")
                .read(reader, "agents"),
            pace: span(TIMES).or(Duration::from_secs(2)).read(reader, "pace"),
            preview_time: span(TIMES).or(Duration::from_secs(120)).read(reader, "preview_time"),
            first_control_id: number(0..=1_000_000_000_000).or(1).read(reader, "first_control_id"),
            event: word(PreviewEvent::ALL, PreviewEvent::as_str).optional().read(reader, "event"),
            repeat: Flag.or(false).read(reader, "repeat"),
            contacts: Contacts(defaults)
                .required("add `[[contacts]]` with `numbers = \"5550101\"` below it")
                .read(reader, "contacts"),
        }
    }
}

/// `[[contacts]]`. A contact may be listed twice, because a person may be called again.
struct Contacts(CallPlan);

impl Kind for Contacts {
    type Value = Vec<Contact>;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<Vec<Contact>> {
        const WANTED: &str = "a list of contacts: `[[contacts]]` with `numbers` below it";
        let length = value.list(WANTED)?;
        if length == 0 {
            return value.wrong("is empty", &format!("write {WANTED}"));
        }
        let mut contacts = Vec::new();
        for index in 0..length {
            let Some(mut element) = value.element(index) else { continue };
            contacts.extend(self.contact(&mut element));
        }
        Some(contacts)
    }

    fn write(&self, contacts: &Vec<Contact>) -> String {
        let contacts = contacts.iter().map(|contact| format!("{{ numbers = {} }}", quoted(&contact.numbers)));
        format!("[{}]", contacts.collect::<Vec<_>>().join(", "))
    }

    fn describe(&self) -> ValueKind {
        ValueKind::Text("list of contacts")
    }
}

impl Contacts {
    fn contact(&self, value: &mut ValueRef<'_, '_>) -> Option<Contact> {
        let DeValue::Table(table) = value.toml() else {
            return value.wrong_type("a table with `numbers`");
        };
        let defaults = self.0;
        value
            .fields(table, |reader| Contact {
                numbers: Numbers.required("add `numbers = \"5550101\"` to this contact").read(reader, "numbers"),
                agent: Agent.optional().read(reader, "agent"),
                plan: CallPlan {
                    ring: span(TIMES).or(defaults.ring).read(reader, "ring"),
                    outcome: word(CallOutcome::ALL, CallOutcome::as_str).or(defaults.outcome).read(reader, "outcome"),
                    talk: span(TIMES).or(defaults.talk).read(reader, "talk"),
                },
                event: word(PreviewEvent::ALL, PreviewEvent::as_str).optional().read(reader, "event"),
                call_data: CallData.or(String::new()).read(reader, "call_data"),
            })
            .into()
    }
}

/// An agent ID.
struct Agent;

impl Kind for Agent {
    type Value = AgentId;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<AgentId> {
        const WANTED: &str = "an agent ID from 101 to 999999, without quotes";
        let DeValue::Integer(integer) = value.toml() else { return value.wrong_type(WANTED) };
        match integer.as_str().parse::<AgentId>() {
            Ok(agent) if integer.radix() == 10 => Some(agent),
            _ => value.wrong("is not an agent ID", &format!("write {WANTED}")),
        }
    }

    fn write(&self, value: &AgentId) -> String {
        value.to_string()
    }

    fn describe(&self) -> ValueKind {
        ValueKind::Integer { min: u64::from(AgentId::MIN), max: u64::from(AgentId::MAX) }
    }
}

/// One number, or several with commas.
struct Numbers;

impl Kind for Numbers {
    type Value = String;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<String> {
        const WANTED: &str = "numbers with commas between them, such as \"5550101,5550102\"";
        let text = value.text(WANTED)?;
        let numbers: Vec<_> = text.split(',').map(str::trim).collect();
        let dialled = |number: &&str| {
            (1..=MAX_NUMBER).contains(&number.len())
                && number.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '*' | '#'))
        };
        if let Some(bad) = numbers.iter().find(|number| !dialled(number)) {
            let message = format!("contains {bad:?}, which is not a number (1 to {MAX_NUMBER} of 0-9, +, * and #)");
            return value.wrong(&message, &format!("write {WANTED}"));
        }
        let numbers = numbers.join(",");
        if numbers.len() > MAX_LIST {
            return value.wrong(&format!("has more than {MAX_LIST} characters"), "leave some of the numbers out");
        }
        Some(numbers)
    }

    fn write(&self, value: &String) -> String {
        quoted(value)
    }

    fn describe(&self) -> ValueKind {
        ValueKind::Text("numbers with commas")
    }
}

/// Any text.
struct CallData;

impl Kind for CallData {
    type Value = String;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<String> {
        let text = value.text("text, such as \"customer=17\"")?;
        if text.len() > MAX_CALL_DATA {
            return value.wrong("is longer than 16 KiB", "shorten it");
        }
        Some(text.to_owned())
    }

    fn write(&self, value: &String) -> String {
        quoted(value)
    }

    fn describe(&self) -> ValueKind {
        ValueKind::Text("text")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_is_read_and_contacts_inherit() {
        let text = "agents = [1001, 1002]\nring = \"1s\"\noutcome = \"hangs_up\"\n\
                    [[contacts]]\nnumbers = \"5550101, 5550102\"\n\
                    [[contacts]]\nnumbers = \"+495550103\"\nagent = 1002\noutcome = \"fails\"\nring = \"0s\"\n\
                    event = \"AgentEvent_Preview\"\ncall_data = \"a=1\"\n";
        let campaign = parse(text).unwrap();
        assert_eq!((campaign.pace, campaign.repeat), (Duration::from_secs(2), false));
        let [first, second] = &campaign.contacts[..] else { panic!("{campaign:?}") };
        assert_eq!((first.numbers.as_str(), first.agent), ("5550101,5550102", None));
        assert_eq!((first.plan.ring, first.plan.outcome), (Duration::from_secs(1), CallOutcome::HangsUp));
        assert_eq!((second.agent, second.plan.ring), (AgentId::try_from(1002).ok(), Duration::ZERO));
        assert_eq!((second.event, second.call_data.as_str()), (Some(PreviewEvent::Preview), "a=1"));
    }

    #[test]
    fn every_mistake_is_named_with_its_line() {
        let text = "agents = [1001, 7]\npace = 5\noutcom = \"talks\"\n\
                    [[contacts]]\nnumbers = \"5550101,\"\n\
                    [[contacts]]\nagent = 1003\nring = \"soon\"\nnumbers = \"5550102\"\n\
                    [[contacts]]\noutcome = \"sings\"\nevent = \"Preview\"\n";
        let problems = parse(text).unwrap_err();
        let mut found: Vec<_> = problems.iter().map(|problem| (problem.line, problem.key.as_str())).collect();
        found.sort_unstable();
        let expected = [
            (Some(1), "agents[1]"),
            (Some(2), "pace"),
            (Some(3), "outcom"),
            (Some(5), "contacts[0].numbers"),
            (Some(8), "contacts[1].ring"),
            (Some(10), "contacts[2].numbers"),
            (Some(11), "contacts[2].outcome"),
            (Some(12), "contacts[2].event"),
        ];
        assert_eq!(found, expected);
        assert!(problems.iter().any(|problem| problem.cure == "did you mean `outcome`?"), "{problems:?}");

        let foreign = parse("agents = [1001]\n[[contacts]]\nnumbers = \"1\"\nagent = 1003\n").unwrap_err();
        assert_eq!((foreign.len(), foreign[0].key.as_str()), (1, "contacts[0]"));
        let nothing: Vec<_> = parse("").unwrap_err().into_iter().map(|problem| problem.key).collect();
        assert_eq!(nothing, ["agents", "contacts"]);
    }
}
