//! Tenants: which agents belong to which customer, for logs and metrics of a gateway that serves several customers.

use std::ops::RangeInclusive;

use toml::de::DeValue;

use super::addresses::NodeName;
use super::document::ValueRef;
use super::entry::Kind;
use super::kinds::list;
use super::reference::ValueKind;
use super::toml_text::quoted;
use crate::preview::AgentId;

/// Maximum number of tenants: each one has its own series in the metrics.
pub(super) const MAX_TENANTS: usize = 100;
/// Maximum length of a name, in bytes.
const MAX_NAME: usize = 40;

/// One customer of several that share the gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct Tenant {
    /// Its name in logs and metrics.
    pub name: String,
    /// Ranges of its agents.
    pub agents: Vec<RangeInclusive<AgentId>>,
    /// Its CC-Gateway nodes: agents whose GUID names one of them belong to the tenant.
    pub nodes: Vec<String>,
}

impl Tenant {
    /// Whether a request of this agent, whose GUID names this node, belongs to the tenant.
    pub fn has(&self, agent: Option<AgentId>, node: Option<&str>) -> bool {
        let has_agent = agent.is_some_and(|agent| self.agents.iter().any(|range| range.contains(&agent)));
        has_agent || node.is_some_and(|node| self.nodes.iter().any(|own| own == node))
    }

    /// Whether an agent or a node would belong to both.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let meet = |one: &RangeInclusive<AgentId>, other: &RangeInclusive<AgentId>| {
            one.start() <= other.end() && other.start() <= one.end()
        };
        let agents = self.agents.iter().any(|one| other.agents.iter().any(|other| meet(one, other)));
        agents || self.nodes.iter().any(|node| other.nodes.contains(node))
    }
}

/// A tenant: a table with its name and its agents or nodes.
pub(super) struct TenantKind;

impl Kind for TenantKind {
    type Value = Tenant;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<Tenant> {
        let DeValue::Table(table) = value.toml() else {
            return value.wrong_type("a table with `name`, and `agents` or `nodes`");
        };
        value.fields(table, |reader| {
            let name = reader.find("name").map(|mut value| TenantName.read(&mut value));
            let agents = list(AgentRange, "a list of ranges, such as [\"1000-1999\"]");
            let agents = reader.find("agents").map(|mut value| agents.read(&mut value));
            let nodes = list(NodeName, "a list of nodes, such as [\"AgentGateway1\"]");
            let nodes = reader.find("nodes").map(|mut value| nodes.read(&mut value));
            if name.is_none() {
                reader.missing("name", "add `name = \"north\"` to this tenant");
            }
            if agents.is_none() && nodes.is_none() {
                reader.missing(
                    "agents",
                    "add `agents = [\"1000-1999\"]` or `nodes = [\"AgentGateway1\"]` to this tenant",
                );
                return None;
            }
            let (agents, nodes) = (agents.unwrap_or(Some(Vec::new()))?, nodes.unwrap_or(Some(Vec::new()))?);
            Some(Tenant { name: name??, agents, nodes })
        })
    }

    fn write(&self, value: &Tenant) -> String {
        let Tenant { name, agents, nodes } = value;
        let texts = |texts: Vec<String>| texts.join(", ");
        let mut text = format!("{{ name = {}", quoted(name));
        if !agents.is_empty() {
            text += &format!(", agents = [{}]", texts(agents.iter().map(|range| AgentRange.write(range)).collect()));
        }
        if !nodes.is_empty() {
            text += &format!(", nodes = [{}]", texts(nodes.iter().map(|node| quoted(node)).collect()));
        }
        text + " }"
    }

    fn describe(&self) -> ValueKind {
        let many = |kind| ValueKind::List(Box::new(kind));
        let agents = many(AgentRange.describe());
        let fields = vec![("name", TenantName.describe()), ("agents", agents), ("nodes", many(NodeName.describe()))];
        ValueKind::Fields { form: "table with `name`, and `agents` or `nodes`", or_text: false, fields }
    }
}

struct TenantName;

impl Kind for TenantName {
    type Value = String;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<String> {
        let text = value.text("a name, such as \"north\"")?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(plain) {
            return Some(text.to_owned());
        }
        value.wrong("is not a name of a tenant", "write up to 40 letters, digits, and - _ .")
    }

    fn write(&self, value: &String) -> String {
        quoted(value)
    }

    fn describe(&self) -> ValueKind {
        ValueKind::Text("name of a tenant")
    }
}

/// `1000-1999`, or one agent.
struct AgentRange;

impl Kind for AgentRange {
    type Value = RangeInclusive<AgentId>;

    fn read(&self, value: &mut ValueRef<'_, '_>) -> Option<RangeInclusive<AgentId>> {
        let text = value.text("a range of agent IDs, such as \"1000-1999\"")?;
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.trim().parse::<AgentId>(), last.trim().parse::<AgentId>()) {
            (Ok(first), Ok(last)) if first <= last => Some(first..=last),
            _ => value.wrong("is not a range of agent IDs", "write two IDs from 101 to 999999, such as \"1000-1999\""),
        }
    }

    fn write(&self, value: &RangeInclusive<AgentId>) -> String {
        quoted(&format!("{}-{}", value.start(), value.end()))
    }

    fn describe(&self) -> ValueKind {
        ValueKind::Text("range of agent IDs")
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Files, Problems, Tenant, parse};

    fn tenants(text: &str) -> Result<Vec<Tenant>, Problems> {
        let text = format!("[upstream]\nendpoints = [\"http://h\"]\n{text}");
        parse(&text, "/".as_ref(), Files::Skip).map(|config| config.tenants.unwrap_or_default())
    }

    #[test]
    fn an_agent_or_a_node_names_the_tenant() {
        let text = "[[tenants]]\nname = \"north\"\nagents = [\"1000-1999\", \"5000\"]\n\
                    [[tenants]]\nname = \"south\"\nnodes = [\"AgentGateway2\"]\n";
        let tenants = tenants(text).unwrap();
        let of = |agent: Option<&str>, node| {
            let agent = agent.map(|agent| agent.parse().unwrap());
            tenants.iter().find(|tenant| tenant.has(agent, node)).map(|tenant| tenant.name.as_str())
        };
        assert_eq!(of(Some("1000"), None), Some("north"));
        assert_eq!(of(Some("5000"), None), Some("north"));
        assert_eq!(of(Some("2000"), None), None);
        assert_eq!(of(Some("2000"), Some("AgentGateway2")), Some("south"));
        assert_eq!(of(None, None), None);
    }

    #[test]
    fn contradictions_are_found() {
        let north = "[[tenants]]\nname = \"north\"\nagents = [\"1000-1999\"]\n";
        for (second, key) in [
            ("name = \"north\"\nagents = [\"3000\"]", "tenants[1]"),
            ("name = \"south\"\nagents = [\"1999-3000\"]", "tenants[1]"),
            ("name = \"south\"", "tenants[1].agents"),
            ("agents = [\"3000\"]", "tenants[1].name"),
            ("name = \"so uth\"\nagents = [\"3000\"]", "tenants[1].name"),
            ("name = \"south\"\nagents = [\"3000-2000\"]", "tenants[1].agents[0]"),
            ("name = \"south\"\nagent = [\"3000\"]\nnodes = [\"n\"]", "tenants[1].agent"),
        ] {
            let problems = tenants(&format!("{north}[[tenants]]\n{second}\n")).unwrap_err().problems;
            let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
            assert_eq!(keys, [key], "{second}");
        }
    }
}
