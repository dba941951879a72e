//! What Prometheus' and Alertmanager's own tools say of `alerts/`. What we say is in `alerts.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use super::support::alertmanager::amtool;
use super::support::process::{run, scratch};
use super::support::prometheus::promtool;

#[path = "../alerts/matrix.rs"]
mod matrix;

#[test]
fn the_rules_are_valid() {
    let mut rules = files("");
    rules.retain(|file| !file.ends_with("alertmanager.example.yml"));
    assert!(rules.len() > 5, "{rules:?}");
    run(promtool()
        .args(["check", "rules", "--lint-fatal"])
        .args(rules));
}

#[test]
fn the_rules_fire_and_are_silent_as_the_tests_say() {
    let tests = files("tests");
    assert!(tests.len() > 5, "{tests:?}");
    // promtool goes through them one after the other.
    thread::scope(|scope| {
        for some in tests.chunks(tests.len().div_ceil(2)) {
            scope.spawn(move || run(promtool().args(["test", "rules"]).args(some)));
        }
    });
}

/// All rules together, so that none of them fires where it should not.
#[test]
fn outages_page_as_the_table_says() {
    let readme = fs::read_to_string(folder().join("README.md")).unwrap();
    let table = matrix::table(&readme);
    let rows = matrix::scenarios();
    let names: Vec<_> = rows.iter().map(|row| row.name).collect();
    assert_eq!(
        table.keys().cloned().collect::<BTreeSet<_>>(),
        names.iter().map(|name| (*name).to_owned()).collect()
    );
    let mut rules = files("");
    rules.retain(|file| file.to_str().unwrap().ends_with(".rules.yml"));
    let groups: Vec<_> = rules.iter().flat_map(|file| groups(file)).collect();
    let (recording, others): (Vec<_>, Vec<_>) = groups
        .into_iter()
        .partition(|group| group == "postgres.recording");
    let order = [recording, others].concat();
    let head = format!(
        "rule_files: {rules:?}\ngroup_eval_order: {order:?}\nevaluation_interval: 1m\ntests:\n"
    );
    let dir = scratch();
    for (place, layout) in matrix::LAYOUTS.into_iter().enumerate() {
        let expected: Vec<_> = rows
            .iter()
            .map(|row| (row, &table[row.name][place]))
            .collect();
        let case = matrix::case(layout, &expected);
        fs::write(
            dir.path().join(format!("{place}.yml")),
            head.clone() + &case,
        )
        .unwrap();
    }
    let cases = fs::read_dir(dir.path()).unwrap();
    run(promtool()
        .args(["test", "rules"])
        .args(cases.map(|file| file.unwrap().path())));
}

#[test]
fn the_rules_can_have_addresses() {
    let dir = scratch();
    let url = "https://git.example.org/exporter";
    run(Command::new(folder().join("addresses.sh"))
        .args([url, "https://grafana.example.org"])
        .arg(dir.path()));
    let written: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    for file in &written {
        let text = fs::read_to_string(file).unwrap();
        let runbooks = text.matches("runbook_url: ").count();
        assert_eq!(
            text.matches(&format!("runbook_url: {url}/alerts/runbooks/"))
                .count(),
            runbooks
        );
        assert_eq!(
            text.matches("dashboard_url: \"https://grafana.example.org/d/")
                .count(),
            runbooks
        );
    }
    let rules = written
        .iter()
        .filter(|file| file.to_str().unwrap().ends_with(".rules.yml"));
    run(promtool().args(["check", "rules"]).args(rules));
}

#[test]
fn the_example_for_alertmanager_is_valid() {
    let example = folder().join("alertmanager.example.yml");
    run(amtool().arg("check-config").arg(example));
}

/// The names of a file's groups.
fn groups(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let names = text
        .lines()
        .filter_map(|line| line.strip_prefix("  - name: "));
    names.map(str::to_owned).collect()
}

fn files(within: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder().join(within)).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    files
        .filter(|file| file.extension().is_some_and(|extension| extension == "yml"))
        .collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts")
}
