//! The alert rules and the dashboard of `deploy/` speak of metrics that there are, and of pages that there are.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// What begins like one of our metrics, without what a histogram puts behind its name.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("bearerd_") || word.starts_with("process_"));
    ours.map(|word| word.trim_end_matches("_bucket").to_owned()).filter(|word| !word.ends_with('_')).collect()
}

/// Every expression of the dashboard.
fn expressions(value: &Value, found: &mut String) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(text) if ["expr", "query"].contains(&name.as_str()) => {
                        found.push_str(text);
                        found.push('\n');
                    }
                    _ => expressions(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_metric_of_the_rules_and_the_dashboard_is_one_of_the_page() {
    // `docs/metrics.md` is held to the program by a test of its own.
    let page = metrics(&read("docs/metrics.md"));
    let mut dashboard = String::new();
    expressions(&serde_json::from_str(&read("deploy/grafana/bearerd.json")).unwrap(), &mut dashboard);
    for (file, text) in [("alerts.yaml", read("deploy/prometheus/alerts.yaml")), ("bearerd.json", dashboard)] {
        let used = metrics(&text);
        assert!(used.len() > 15, "{file}: {used:?}");
        let unknown: Vec<_> = used.difference(&page).collect();
        assert!(unknown.is_empty(), "{file} speaks of {unknown:?}, which docs/metrics.md does not have");
    }
}

#[test]
fn every_alert_has_its_section_and_every_section_its_alert() {
    let (rules, page) = (read("deploy/prometheus/alerts.yaml"), read("docs/alerts.md"));
    let named = |line: &str, before: &str| line.trim().strip_prefix(before).map(str::to_owned);
    let alerts: BTreeSet<_> = rules.lines().filter_map(|line| named(line, "- alert: ")).collect();
    let sections: BTreeSet<_> = page.lines().filter_map(|line| named(line, "## ")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    assert_eq!(alerts, sections);
    for alert in &alerts {
        assert!(rules.contains(&format!("runbook: docs/alerts.md#{}\n", alert.to_lowercase())), "{alert}");
    }
    for section in page.split("\n## ").skip(1) {
        for part in ["**What it means.**", "**What to do.**"] {
            let is_there = section.contains(part) || section.contains("**What to look at and do.**");
            assert!(is_there, "{part} of {section}");
        }
    }
}
