//! The files in `deploy/` for Prometheus and Grafana name only metrics, labels and values that the gateway has. Each alert
//! has a section in the operators' manual, and the manual lists each metric.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Request, Setup, project, skip};

const RULES: &str = "deploy/prometheus/previewgate.rules.yml";
const RULES_TEST: &str = "deploy/prometheus/previewgate.test.yml";
const DASHBOARD: &str = "deploy/grafana/previewgate.json";
const MANUAL: &str = "docs/operating.md";

/// Labels that Prometheus adds.
const SCRAPE_LABELS: [&str; 2] = ["job", "instance"];
/// Labels whose values depend on the site.
const SITE_LABELS: [&str; 5] = ["endpoint", "hash", "version", "job", "instance"];

fn text(file: &str) -> String {
    std::fs::read_to_string(project().join(file)).unwrap()
}

/// Sample name → label → values, from one page of metrics.
type Page = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// The page of a running gateway. Series that appear only later (a first snapshot, a first failure) are named by their
/// family alone.
async fn page() -> Page {
    let tenants = "tenants = [{ name = \"north\", agents = [\"101\"] }]";
    let lab = Setup::encrypted().settings(tenants).start().await;
    let text = lab.admin("/metrics").await.text();
    let mut page = Page::new();
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').unwrap();
            let endings: &[&str] = match kind {
                "histogram" => &["_bucket", "_count", "_sum"],
                "counter" | "gauge" => &[""],
                other => panic!("{other} is no kind of metric that this test knows"),
            };
            for ending in endings {
                page.entry(format!("{name}{ending}")).or_default();
            }
        } else if let Some((name, labels)) = line.split_once('{') {
            let samples = page.get_mut(name).unwrap_or_else(|| panic!("{name} has no family"));
            for (label, value) in matchers(labels) {
                samples.entry(label).or_default().insert(value.to_owned());
            }
        }
    }
    page
}

/// `label="value"` pairs up to the closing brace, whatever the operator.
fn matchers(text: &str) -> Vec<(String, &str)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.find(['=', '!', '}']) {
        if rest[end..].starts_with('}') {
            break;
        }
        let label = rest[..end].trim_start_matches(',').trim().to_owned();
        let (_, quoted) = rest.split_once('"').unwrap();
        let (value, after) = quoted.split_once('"').unwrap();
        found.push((label, value));
        rest = after;
    }
    found
}

/// Each mention of a metric in `text`, with the matchers that follow it.
fn mentions(text: &str) -> Vec<(&str, Vec<(String, &str)>)> {
    let starts = text.match_indices("previewgate_").map(|(start, _)| start);
    // `instance:previewgate_callouts:rate10m` is a recorded rule, `job="previewgate"` no metric.
    let starts = starts.filter(|start| !text[..*start].ends_with([':', '_']));
    let mention = |start: usize| {
        let rest = &text[start..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let labels = rest[end..].strip_prefix('{').map(matchers).unwrap_or_default();
        (&rest[..end], labels)
    };
    starts.map(mention).collect()
}

/// The metrics, labels and values in `text` that the gateway does not have.
fn unknown(page: &Page, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (metric, labels) in mentions(text) {
        let Some(known) = page.get(metric) else {
            found.push(format!("{metric} does not exist"));
            continue;
        };
        for (label, value) in labels {
            let words = known.get(&label);
            // Without a sample the labels of a family are not known.
            if words.is_none() && !known.is_empty() && !SCRAPE_LABELS.contains(&&*label) {
                found.push(format!("{metric} has no label {label}"));
            }
            for word in value.split('|') {
                let is_known = words.is_none_or(|words| words.contains(word));
                if !is_known && !SITE_LABELS.contains(&&*label) {
                    found.push(format!("{metric}: {label} is never {word}"));
                }
            }
        }
    }
    found
}

#[tokio::test]
async fn rules_and_dashboard_name_only_what_the_gateway_has() {
    let page = page().await;
    for file in [RULES, RULES_TEST] {
        assert_eq!(unknown(&page, &text(file)), Vec::<String>::new(), "{file}");
    }
    let mut queries = 0;
    for expression in expressions(&serde_json::from_str(&text(DASHBOARD)).unwrap()) {
        assert_eq!(unknown(&page, &expression), Vec::<String>::new(), "{DASHBOARD}: {expression}");
        queries += 1;
    }
    assert!(queries > 30, "only {queries} queries were found");
}

/// promtool parses the queries of the dashboard as rules.
#[test]
fn every_query_of_the_dashboard_is_valid() {
    let expressions = expressions(&serde_json::from_str(&text(DASHBOARD)).unwrap());
    let queries = expressions.iter().filter(|query| !query.starts_with("label_values"));
    let rules =
        queries.enumerate().map(|(number, query)| serde_json::json!({"record": format!("q:{number}"), "expr": query}));
    let groups = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules.collect::<Vec<_>>()}]});
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dashboard.json");
    std::fs::write(&file, groups.to_string()).unwrap();
    promtool(["check", "rules"], &file);
}

/// All queries of a dashboard.
fn expressions(value: &Value) -> Vec<String> {
    match value {
        Value::Object(members) => {
            let own = ["expr", "query"].into_iter().filter_map(|name| members.get(name)?.as_str());
            let own = own.filter(|query| query.contains("previewgate_")).map(str::to_owned);
            own.chain(members.values().flat_map(expressions)).collect()
        }
        Value::Array(elements) => elements.iter().flat_map(expressions).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn unknown_metrics_labels_and_words_are_found() {
    let page = page().await;
    for (expression, expected) in [
        ("rate(previewgate_callouts_total[5m])", "previewgate_callouts_total does not exist"),
        ("previewgate_preview_callouts", "previewgate_preview_callouts does not exist"),
        (
            "previewgate_preview_callouts_total{verdict=\"rejected\"}",
            "previewgate_preview_callouts_total has no label verdict",
        ),
        (
            "previewgate_preview_callouts_total{decision=~\"rejected|refused\"}",
            "previewgate_preview_callouts_total: decision is never refused",
        ),
    ] {
        assert_eq!(unknown(&page, expression), [expected]);
    }
    let good = "previewgate_preview_callouts_total{job=~\"$job\",reason!=\"ok\"} / previewgate_connections_open";
    assert_eq!(unknown(&page, good), Vec::<String>::new());
}

#[tokio::test]
async fn the_manual_lists_each_metric_and_no_other() {
    // A histogram goes by the name of its family. The metrics of every process need no explanation.
    let own = page().await.into_keys().filter(|name| !name.starts_with("process_"));
    let page: BTreeSet<String> = own.map(|name| name.replace("_bucket", "")).collect();
    let manual = text(MANUAL);
    let mentioned: BTreeSet<&str> = mentions(&manual).into_iter().map(|(name, _)| name).collect();
    for name in &mentioned {
        assert!(page.contains(*name), "{MANUAL} mentions {name}, which does not exist");
    }
    for name in page.iter().filter(|name| !name.ends_with("_count") && !name.ends_with("_sum")) {
        assert!(mentioned.contains(&**name), "{MANUAL} does not mention {name}");
    }
}

#[test]
fn each_alert_has_its_section_in_the_manual() {
    let (rules, manual) = (text(RULES), text(MANUAL));
    let headings: BTreeSet<String> =
        manual.lines().filter_map(|line| line.strip_prefix("### ")).map(str::to_lowercase).collect();
    let runbooks: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("runbook: ")).collect();
    let alerts = rules.lines().filter(|line| line.trim().starts_with("- alert: ")).count();
    assert_eq!(runbooks.len(), alerts);
    for runbook in runbooks {
        let (file, anchor) = runbook.split_once('#').unwrap();
        assert!(file == MANUAL && headings.contains(anchor), "{runbook} is no section");
    }
}

#[test]
fn promtool_accepts_the_rules_and_their_tests_pass() {
    promtool(["check", "rules"], &project().join(RULES));
    promtool(["test", "rules"], &project().join(RULES_TEST));
}

#[tokio::test]
async fn promtool_has_no_complaint_about_the_page() {
    let lab = Setup::encrypted().start().await;
    lab.agent(101).await.call(7, "100").await;
    let page = lab.admin("/metrics").await;
    assert_eq!(page.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let file = lab.site.write("metrics", page.text());
    let command = Command::new("promtool").args(["check", "metrics"]).stdin(File::open(file).unwrap()).output();
    let Ok(run) = command else { return skip("no promtool in the PATH (Debian package prometheus)") };
    let output = String::from_utf8([run.stdout, run.stderr].concat()).unwrap();
    assert!(run.status.success() && output.is_empty(), "{output}");
}

#[tokio::test]
async fn scrapers_that_ask_for_open_metrics_get_it() {
    let lab = Setup::plain().start().await;
    let ask = |accept: &str| lab.admin_send(&Request::admin("GET", "/metrics").header("Accept", accept));
    let open = ask("application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3").await;
    assert_eq!(open.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(open.text().ends_with("# EOF\n"));
    let plain = ask("application/openmetrics-text;q=0.1,text/plain;q=0.3").await;
    assert!(plain.header("content-type").starts_with("text/plain; version=0.0.4"));
    assert!(!plain.text().contains("# EOF"));
}

fn promtool(arguments: [&str; 2], file: &Path) {
    match Command::new("promtool").args(arguments).arg(file).output() {
        Ok(run) => {
            let output = [run.stdout, run.stderr].concat();
            assert!(run.status.success(), "{}", String::from_utf8_lossy(&output));
        }
        Err(_) => skip("no promtool in the PATH (Debian package prometheus)"),
    }
}
