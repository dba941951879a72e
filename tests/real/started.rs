//! The program in the place of postgres_exporter, with the arguments and the environment that
//! common installations of that one write.

use std::fs;

use crate::support::exporter::{Exporter, failures};
use crate::support::exposition::Page;
use crate::support::postgres::{Postgres, password};
use crate::support::process::scratch;

const LISTEN: &str = "--web.listen-address=127.0.0.1:0";

/// What an installation runs, and what there is to be said about it.
struct Installation<'a> {
    args: &'a [&'a str],
    env: &'a [(&'a str, &'a str)],
    warnings: &'a [&'a str],
}

impl Installation<'_> {
    /// It starts, says what there is to say and no more, and sees the server.
    async fn starts(&self) -> (Page, String) {
        let exporter = Exporter::start(self.args, self.env).await;
        let page = exporter.scrape().await;
        let output = exporter.output();
        assert_eq!(page.value("pg_up", &[]), Some(1.0), "{output}");
        assert_eq!(failures(&page), [""; 0], "{output}");
        let said = warnings(&output);
        assert_eq!(said.len(), self.warnings.len(), "{output}");
        for (said, expected) in said.iter().zip(self.warnings) {
            assert!(said.contains(expected), "not {expected}:\n{output}");
        }
        (page, output)
    }
}

/// What was warned of before it listened.
fn warnings(output: &str) -> Vec<&str> {
    output
        .lines()
        .take_while(|line| !line.contains("message=listening"))
        .filter(|line| line.contains("level=warn"))
        .collect()
}

async fn server() -> Postgres {
    let server = Postgres::start(18).await;
    for role in ["gitlab-psql", "prometheus", "exporter"] {
        let secret = password(role);
        let sql = format!("CREATE ROLE \"{role}\" SUPERUSER LOGIN PASSWORD '{secret}'");
        server.sql("postgres", &sql).await;
    }
    server.sql("postgres", "CREATE DATABASE matrix").await;
    server
}

#[tokio::test]
async fn the_helm_chart_of_the_prometheus_community() {
    let server = server().await;
    let uri = format!("127.0.0.1:{}/postgres?sslmode=disable", server.port());
    let secret = password("postgres");
    let dir = scratch();
    let file = dir.path().join("pass");
    fs::write(&file, format!("{secret}\n")).unwrap();
    let datasource = [
        ("DATA_SOURCE_URI", uri.as_str()),
        ("DATA_SOURCE_USER", "postgres"),
        ("DATA_SOURCE_PASS_FILE", file.to_str().unwrap()),
    ];
    let chart = Installation {
        args: &[
            "--config.file=/etc/postgres_exporter.yml",
            LISTEN,
            "--log.level=info",
            "--log.format=logfmt",
        ],
        env: &datasource,
        warnings: &["/etc/postgres_exporter.yml"],
    };
    let (page, _) = chart.starts().await;
    assert!(page.value("pg_database_size_bytes", &[("datname", "matrix")]) > Some(0.0));

    let args = [
        "--config.file=/etc/postgres_exporter.yml",
        "--extend.query-path=/etc/config.yaml",
        "--disable-default-metrics",
        "--disable-settings-metrics",
        "--no-collector.database",
        "--no-collector.stat_bgwriter",
        "--no-collector.replication_slot",
        "--auto-discover-databases",
        "--exclude-databases",
        "template0,template1",
        LISTEN,
    ];
    let with_values = Installation {
        args: &args,
        env: &datasource,
        warnings: &[
            "--disable-default-metrics",
            "--extend.query-path",
            "/etc/postgres_exporter.yml",
        ],
    };
    let (page, _) = with_values.starts().await;
    for gone in [
        "pg_database_size_bytes",
        "pg_database_connection_limit",
        "pg_settings_max_connections",
        "pg_stat_bgwriter_buffers_clean_total",
        "pg_replication_slots_slot_is_active",
        "pg_stat_database_conflicts_confl_lock",
    ] {
        assert!(!page.names().contains(gone), "{gone}");
    }
    assert!(page.names().contains("pg_stat_database_xact_commit"));
}

#[tokio::test]
async fn the_ansible_collection() {
    let server = server().await;
    let dir = scratch();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let uri = write(
        "postgres_exporter_uri",
        &format!("127.0.0.1:{}/postgres?sslmode=disable", server.port()),
    );
    let user = write("postgres_exporter_user", "exporter");
    let pass = write("postgres_exporter_pass", &password("exporter"));
    let telemetry = "--web.telemetry-path=/metrics";
    for modules in [
        "auth_modules:\n",
        "auth_modules: {}\n",
        "auth_modules:\n  first:\n    type: userpass\n    userpass: { username: a, password: s3cr3t-marker }\n    options: { sslmode: disable }\n",
    ] {
        let config = write("postgres_exporter.yml", modules);
        let config = format!("--config.file={config}");
        let ansible = Installation {
            args: &[
                "--collector.postmaster",
                "--collector.stat_statements",
                "--collector.stat_statements.limit=50",
                "--no-collector.wal",
                LISTEN,
                &config,
                telemetry,
            ],
            env: &[
                ("DATA_SOURCE_URI_FILE", &uri),
                ("DATA_SOURCE_USER_FILE", &user),
                ("DATA_SOURCE_PASS_FILE", &pass),
            ],
            warnings: &["--collector.stat_statements", "auth_modules"],
        };
        let (page, output) = ansible.starts().await;
        assert!(!output.contains("s3cr3t-marker"), "{output}");
        assert!(!page.names().contains("pg_wal_segments"));
    }
}

#[tokio::test]
async fn nixos_gitlab_and_debian() {
    let server = server().await;
    let (folder, port) = (server.socket_dir().display(), server.port());
    let nixos =
        format!("user=postgres database=postgres host={folder} port={port} sslmode=disable");
    Installation {
        args: &[
            "--web.listen-address",
            "127.0.0.1:0",
            "--web.telemetry-path",
            "/metrics",
        ],
        env: &[("DATA_SOURCE_NAME", &nixos)],
        warnings: &[],
    }
    .starts()
    .await;

    let gitlab = format!(
        "user=gitlab-psql host={folder} port={port} database=postgres sslmode=allow statement_timeout=15000"
    );
    Installation {
        args: &[
            LISTEN,
            "--extend.query-path=/var/opt/gitlab/postgres-exporter/queries.yaml",
        ],
        env: &[("DATA_SOURCE_NAME", &gitlab)],
        warnings: &["--extend.query-path", "statement_timeout"],
    }
    .starts()
    .await;

    let debian = format!("user=prometheus host={folder} port={port} dbname=postgres");
    Installation {
        args: &[],
        env: &[("DATA_SOURCE_NAME", &debian)],
        warnings: &[],
    }
    .starts()
    .await;
    // As the package leaves it: a variable that holds nothing.
    let port = port.to_string();
    Installation {
        args: &[],
        env: &[
            ("DATA_SOURCE_NAME", ""),
            ("PGHOST", &folder.to_string()),
            ("PGPORT", &port),
            ("PGUSER", "prometheus"),
            ("PGDATABASE", "postgres"),
        ],
        warnings: &[],
    }
    .starts()
    .await;
}

#[tokio::test]
async fn bitnami_ess_and_the_ansible_playbook_for_matrix() {
    let server = server().await;
    let port = server.port();
    let bitnami = format!("127.0.0.1:{port}/matrix?sslmode=disable");
    let secret = password("postgres");
    let datasource = |uri| {
        [
            ("DATA_SOURCE_URI", uri),
            ("DATA_SOURCE_PASS", secret.as_str()),
            ("DATA_SOURCE_USER", "postgres"),
        ]
    };
    Installation {
        args: &[],
        env: &datasource(&bitnami),
        warnings: &[],
    }
    .starts()
    .await;
    Installation {
        args: &[
            "--extend.query-path",
            "/conf/custom-metrics.yaml",
            "--no-collector.wal",
            "--collector.stat_wal_receiver",
        ],
        env: &datasource(&bitnami),
        warnings: &["--extend.query-path", "--collector.stat_wal_receiver"],
    }
    .starts()
    .await;

    let ess = format!("localhost:{port}?sslmode=disable");
    Installation {
        args: &[],
        env: &datasource(&ess),
        warnings: &[],
    }
    .starts()
    .await;

    let playbook = format!(
        "postgresql://exporter:{}@127.0.0.1:{port}/matrix?sslmode=disable",
        password("exporter")
    );
    Installation {
        args: &[],
        env: &[
            ("PG_EXPORTER_AUTO_DISCOVER_DATABASES", "true"),
            ("PG_EXPORTER_WEB_LISTEN_ADDRESS", ":9187"),
            ("DATA_SOURCE_NAME", &playbook),
        ],
        warnings: &[],
    }
    .starts()
    .await;
}

#[tokio::test]
async fn what_has_no_meaning_here_is_said_and_stops_nothing() {
    let server = server().await;
    let dsn = server.dsn("matrix", "postgres");
    let parameters = format!(
        "{dsn} statement_timeout=5000 lock_timeout=1s search_path=app,public TimeZone=Europe/Berlin \
         work_mem=1MB binary_parameters=yes target_session_attrs=read-write pg_stat_statements.track=none"
    );
    let page = Installation {
        args: &[
            "-log.format=logfmt",
            "--metric-prefix=my",
            "--no-collector.stat_user_tables",
            "--collector.replication_slot",
            LISTEN,
        ],
        env: &[
            ("DATA_SOURCE_NAME", &parameters),
            ("PG_EXPORTER_DISABLE_DEFAULT_METRICS", "true"),
        ],
        warnings: &[
            "PG_EXPORTER_DISABLE_DEFAULT_METRICS",
            "--metric-prefix",
            "target_session_attrs",
            "statement_timeout, lock_timeout, search_path, TimeZone, work_mem, binary_parameters, pg_stat_statements.track",
        ],
    }
    .starts()
    .await
    .0;
    for gone in [
        "pg_stat_user_tables_n_live_tup",
        "pg_stat_user_tables_table_size_bytes",
        "pg_stat_user_tables_index_size_bytes",
        "pg_stat_database_conflicts_confl_lock",
    ] {
        assert!(!page.names().contains(gone), "{gone}");
    }

    let several = format!("{dsn},host=127.0.0.1 port=1 user=nobody");
    let page = Installation {
        args: &[LISTEN],
        env: &[("DATA_SOURCE_NAME", &several)],
        warnings: &["DATA_SOURCE_NAME: names 2 servers"],
    }
    .starts()
    .await;
    assert_eq!(page.0.samples("pg_up").count(), 1);
}
