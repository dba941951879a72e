//! `docs/configuration.md` beside the code: no flag and no reason is missing there.

use std::collections::BTreeSet;

use super::{command, flags};
use crate::collectors::Registry;

const PAGE: &str = include_str!("../../docs/configuration.md");

#[test]
fn every_flag_is_documented_with_its_variable() {
    let shared = flags::names();
    let shared: BTreeSet<_> = shared.iter().map(String::as_str).collect();
    for flag in &shared {
        let row = format!("| `--{flag}` | `{}` | ", flags::twin(flag));
        assert!(PAGE.contains(&row), "{row}");
    }
    let program = command(&Registry::built_in());
    for one in std::iter::once(&program).chain(program.get_subcommands()) {
        let own = one.get_arguments().filter_map(|arg| arg.get_long());
        let own = own.filter(|flag| {
            !shared.contains(flag)
                && !flag.starts_with("no-")
                && !flag.starts_with("collector.")
                && !["help", "version"].contains(flag)
        });
        for flag in own {
            let command = match one.get_name() {
                name if name == program.get_name() => "none".to_owned(),
                name => format!("`{name}`"),
            };
            let row = format!("| `--{flag}` | {command} | ");
            assert!(PAGE.contains(&row), "{row}");
        }
    }
}

#[test]
fn every_reason_is_documented() {
    for (title, sources) in [
        (
            "Reasons of `pg_up` 0",
            [
                include_str!("../server/connect/error.rs"),
                include_str!("../server/connections/error.rs"),
            ]
            .as_slice(),
        ),
        (
            "Reasons of missing data",
            [include_str!("../query/reason.rs")].as_slice(),
        ),
    ] {
        let (_, section) = PAGE.split_once(&format!("\n## {title}\n")).unwrap();
        let (section, _) = section.split_once("\n## ").unwrap();
        let rows = section.lines().filter_map(|line| {
            let (reason, _) = line.strip_prefix("| `")?.split_once('`')?;
            Some(reason)
        });
        let in_code = sources
            .iter()
            .flat_map(|text| text.lines())
            .filter_map(|line| {
                let (_, reason) = line.trim().strip_prefix("Self::")?.split_once(" => \"")?;
                reason.strip_suffix("\",")
            });
        assert_eq!(
            rows.collect::<BTreeSet<_>>(),
            in_code.collect::<BTreeSet<_>>(),
            "{title}"
        );
    }
}
