use super::*;
use crate::collectors::Registry;
use crate::config::{Config, Loaded, load};

#[test]
fn flags_are_taken_in_every_notation() {
    let config = config(
        &[
            "--web.listen-address=:9999",
            "--web.listen-address",
            "127.0.0.1:9998",
            "--openmetrics",
            "--no-web.enable-lifecycle",
            "--collection-timeout=1m",
            "--exclude-databases=a,b",
            "--constantLabels=team=chat,env=prod",
            "--no-collector.stat_archiver",
        ],
        &[],
    );
    assert_eq!(config.web.listen, [":9999", "127.0.0.1:9998"]);
    assert!(config.web.openmetrics && !config.web.lifecycle);
    assert_eq!(config.scrape.timeout.as_secs(), 60);
    assert_eq!(config.servers[0].databases.exclude, ["a", "b"]);
    assert_eq!(config.servers[0].labels["team"], "chat");
    assert_eq!(config.servers[0].labels["env"], "prod");
    assert!(!config.collectors.enabled.contains("stat_archiver"));
    assert!(
        !super::tests::config(&["--openmetrics=false"], &[])
            .web
            .openmetrics
    );
}

#[test]
fn the_last_switch_wins_and_a_flag_wins_over_its_twin() {
    let on = |args: &[&str], env: &[(&str, &str)]| {
        config(args, env)
            .collectors
            .enabled
            .contains("stat_archiver")
    };
    let (yes, no) = ("--collector.stat_archiver", "--no-collector.stat_archiver");
    assert!(!on(&[yes, no], &[]));
    assert!(on(&[no, yes], &[]));
    assert!(!on(&["--collector.stat_archiver=false"], &[]));
    assert!(!on(
        &[],
        &[("PG_EXPORTER_COLLECTOR_STAT_ARCHIVER", "false")]
    ));
    assert!(on(
        &[yes],
        &[("PG_EXPORTER_COLLECTOR_STAT_ARCHIVER", "false")]
    ));
}

#[test]
fn every_flag_has_a_twin() {
    assert_eq!(twin("web.listen-address"), "PG_EXPORTER_WEB_LISTEN_ADDRESS");
    assert_eq!(twin("constantLabels"), "PG_EXPORTER_CONSTANT_LABELS");
    let env = [
        ("PG_EXPORTER_WEB_TELEMETRY_PATH", "/m"),
        ("PG_EXPORTER_SCRAPE_TIMEOUT", "3s"),
        ("PG_EXPORTER_OPENMETRICS", "true"),
    ];
    let config = config(&["--scrape.timeout=4s"], &env);
    assert_eq!(config.web.telemetry_path, "/m");
    assert_eq!(config.scrape.timeout.as_secs(), 4);
    assert!(config.web.openmetrics);
}

#[test]
fn what_has_no_effect_is_said_and_what_fits_anyway_is_not() {
    let warnings = |args: &[&str]| loaded(args, &[]).unwrap().warnings;
    assert_eq!(
        warnings(&["--disable-default-metrics", "--collector.xlog_location"]),
        [
            "--disable-default-metrics switches stat_database_conflicts off, as in postgres_exporter 0.20; --no-collector.NAME switches others off",
            "--collector.xlog_location: postgres_exporter's collector \"xlog_location\" is not implemented yet; nothing is collected for it",
        ]
    );
    assert_eq!(
        warnings(&[
            "--auto-discover-databases",
            "--metric-prefix=pg",
            "--no-collector.xlog_location",
            "--no-disable-default-metrics",
        ]),
        [""; 0]
    );
}

#[test]
fn a_collector_of_postgres_exporter_takes_its_other_half_along() {
    let enabled = |args: &[&str]| config(args, &[]).collectors.enabled;
    for (first, second) in postgres_exporter::TOGETHER {
        let off = format!("--no-collector.{first}");
        let on = format!("--collector.{second}");
        let neither = enabled(&[&off]);
        assert!(
            !neither.contains(first) && !neither.contains(second),
            "{first}"
        );
        let one = enabled(&[&on, &off]);
        assert!(!one.contains(first) && one.contains(second), "{first}");
    }
    for (old, new) in postgres_exporter::RENAMED {
        assert!(!enabled(&[&format!("--no-collector.{old}")]).contains(*new));
        let loaded = loaded(&[&format!("--collector.{old}")], &[]).unwrap();
        assert_eq!(loaded.warnings, [""; 0]);
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let said = loaded(
        &["--constantLabels=x"],
        &[
            ("PG_EXPORTER_COLLECTOR_STAT_ARCHIVER", "maybe"),
            ("PG_EXPORTER_SCRAPE_TIMEOUT", "soon"),
        ],
    )
    .unwrap_err()
    .to_string();
    assert_eq!(
        said,
        "PG_EXPORTER_COLLECTOR_STAT_ARCHIVER: must be true or false\n\
         --constantLabels: \"x\" is not NAME=VALUE\n\
         PG_EXPORTER_SCRAPE_TIMEOUT: must be a duration; write one like 500ms, 60s, 1m30s or 2h"
    );
}

fn config(args: &[&str], env: &[(&str, &str)]) -> Config {
    loaded(args, env).unwrap().config
}

fn loaded(args: &[&str], env: &[(&str, &str)]) -> Result<Loaded, crate::config::Problems> {
    let registry = Registry::built_in();
    let command = add(Command::new("test").no_binary_name(true), &registry);
    let matches = command.try_get_matches_from(args).unwrap();
    let variable = |name: &str| {
        env.iter()
            .chain(&[("PGUSER", "exporter")])
            .find(|(known, _)| *known == name)
            .map(|(_, value)| (*value).to_owned())
    };
    load(sources(&[&matches], &variable, &registry), &registry)
}
