//! What Prometheus' and Alertmanager's own tools say of `alerts/`. What we say is in `alerts.rs`.

use std::fs;
use std::path::{Path, PathBuf};

use super::support::alertmanager::amtool;
use super::support::process::run;
use super::support::prometheus::promtool;

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
    run(promtool().args(["test", "rules"]).args(tests));
}

#[test]
fn the_example_for_alertmanager_is_valid() {
    let example = folder().join("alertmanager.example.yml");
    run(amtool().arg("check-config").arg(example));
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
