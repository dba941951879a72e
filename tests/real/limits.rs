//! What is left out on purpose: rows beyond a limit, second samples, collectors that are off.

use super::support::exporter::Exporter;
use super::support::exposition::{Page, Sample};
use super::support::postgres::Postgres;
use super::support::process::wait_for;

#[tokio::test(flavor = "multi_thread")]
async fn rows_beyond_the_limit_are_cut_and_counted() {
    let server = Postgres::start(18).await;
    server.sql("postgres", &tables(30)).await;
    let exporter = Exporter::configured(
        &server.dsn("postgres", "postgres"),
        "collectors: { stat_user_tables: { limit: 10 }, table_size: { limit: 20 } }",
    )
    .await;
    let collector = [("collector", "stat_user_tables")];
    for scrapes in [1.0, 2.0] {
        let page = exporter.scrape().await;
        assert_eq!(page.samples("pg_stat_user_tables_seq_scan").count(), 10);
        assert_eq!(page.samples("pg_stat_user_tables_n_dead_tup").count(), 10);
        assert_eq!(
            page.samples("pg_statio_user_tables_heap_blocks_hit")
                .count(),
            30
        );
        assert_eq!(
            skipped(&page, "stat_user_tables", "series_limit", "postgres"),
            Some(1.0)
        );
        let cut = page.value("pg_exporter_collector_rows_dropped_total", &collector);
        assert_eq!(cut, Some(20.0 * scrapes));
        let rows = page.value("pg_exporter_collector_rows_total", &collector);
        assert_eq!(
            rows,
            Some(30.0 * scrapes),
            "what was cut was read all the same"
        );
        assert_eq!(
            page.value("pg_exporter_collector_row_limit", &collector),
            Some(10.0)
        );
        // A limit that somebody set is not a failure.
        assert_eq!(
            page.value("pg_scrape_collector_success", &collector),
            Some(1.0)
        );
        assert_eq!(page.value("pg_exporter_last_scrape_error", &[]), Some(0.0));
    }
}

/// A role that makes more databases than are looked at keeps those of others out by no name.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_many_databases_leaves_others_their_place() {
    let server = Postgres::start(18).await;
    for name in ["mallory", "alice"] {
        server
            .sql("postgres", &format!("CREATE ROLE {name} LOGIN"))
            .await;
        let create = format!("CREATE DATABASE {name} OWNER {name}");
        server.sql("postgres", &create).await;
    }
    server.sql("postgres", "CREATE DATABASE zoe").await;
    // Making them takes minutes.
    let many = "INSERT INTO pg_database
                SELECT (jsonb_populate_record(d, jsonb_build_object(
                           'oid', 200000 + i, 'datname', 'a' || i, 'datallowconn', false))).*
                  FROM pg_database AS d, generate_series(1, 2100) AS i
                 WHERE d.datname = 'mallory'";
    server.sql("postgres", many).await;
    let exporter = Exporter::watch(&server.dsn("postgres", "postgres"), &[]).await;
    let page = exporter.complete().await;
    let seen = page.samples("pg_exporter_collector_age_seconds");
    let seen: std::collections::BTreeSet<_> = seen
        .filter(|sample| sample.labels["collector"] == "table_size")
        .map(|sample| sample.labels["datname"].as_str())
        .collect();
    let expected = ["alice", "mallory", "postgres", "zoe"];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
    let landing = exporter.get("/").await;
    assert!(landing.text().contains("more than 2000 databases"));
}

/// Chunks share one limit.
#[tokio::test(flavor = "multi_thread")]
async fn the_limit_holds_for_all_chunks_of_a_statement() {
    let server = Postgres::start(18).await;
    server.sql("postgres", &tables(450)).await;
    let exporter = Exporter::configured(
        &server.dsn("postgres", "postgres"),
        "collectors: { table_size: { limit: 250 } }",
    )
    .await;
    let page = exporter.scrape().await;
    assert_eq!(
        page.samples("pg_stat_user_tables_table_size_bytes").count(),
        250
    );
    assert_eq!(
        skipped(&page, "table_size", "series_limit", "postgres"),
        Some(1.0)
    );
    let collector = [("collector", "table_size")];
    let cut = page.value("pg_exporter_collector_rows_dropped_total", &collector);
    assert_eq!(cut, Some(200.0));
}

/// One database with many tables leaves the others their part of the page.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_takes_no_more_than_its_part_of_the_page() {
    let server = Postgres::start(18).await;
    for (name, count) in [("crowd", 400), ("small", 5)] {
        server
            .sql("postgres", &format!("CREATE DATABASE {name}"))
            .await;
        server.sql(name, &tables(count)).await;
    }
    let exporter = Exporter::configured(
        &server.dsn("postgres", "postgres"),
        "servers: { main: { page_mib: 1, databases: { interval: 1s } } }",
    )
    .await;
    let page = exporter.complete().await;
    let scans = |name: &str| {
        let samples = page.samples("pg_stat_user_tables_seq_scan");
        samples.filter(|one| one.labels["datname"] == name).count()
    };
    assert_eq!((scans("crowd"), scans("small")), (0, 5));
    let crowd = skipped(&page, "stat_user_tables", "series_limit", "crowd");
    assert_eq!(crowd, Some(1.0));
    assert_eq!(page.value("pg_up", &[]), Some(1.0));
    // What takes little room is served there, too.
    let size = page.value("pg_database_size_bytes", &[("datname", "crowd")]);
    assert!(size.is_some_and(|bytes| bytes > 1e6), "{size:?}");

    let drop = "DO $$ BEGIN FOR i IN 11..400 LOOP
                EXECUTE 'DROP TABLE ' || (SELECT relname FROM pg_stat_user_tables LIMIT 1);
                END LOOP; END $$";
    server.sql("crowd", drop).await;
    wait_for("what fits is served", async || {
        let page = exporter.scrape().await;
        let samples = page.samples("pg_stat_user_tables_seq_scan");
        samples
            .filter(|one| one.labels["datname"] == "crowd")
            .count()
            == 10
    })
    .await;
}

/// A name that is not UTF-8, and one that is spelled as the first is shown.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_sample_with_the_same_labels_is_dropped_and_counted() {
    let server = Postgres::start(18).await;
    server
        .sql(
            "postgres",
            "CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII'",
        )
        .await;
    let create = |name| {
        format!("DO $$ BEGIN EXECUTE format('CREATE ROLE %I CONNECTION LIMIT 1', {name}); END $$")
    };
    server
        .sql("ascii", &create(r"convert_from('\x636166e9', 'SQL_ASCII')"))
        .await;
    server.sql("ascii", &create(r"'caf\xE9'")).await;
    let exporter = Exporter::watch(&server.dsn("postgres", "postgres"), &[]).await;
    for scrapes in [1.0, 2.0] {
        let page = exporter.scrape().await;
        let role = [("rolname", r"caf\xE9")];
        assert_eq!(page.value("pg_roles_connection_limit", &role), Some(1.0));
        assert_eq!(
            page.value("pg_roles_connection_limit", &[("rolname", "postgres")]),
            Some(-1.0)
        );
        let metric = [("metric", "pg_roles_connection_limit")];
        let dropped = page.value("pg_exporter_duplicate_series_total", &metric);
        assert_eq!(dropped, Some(scrapes));
        assert_eq!(
            page.samples("pg_exporter_duplicate_series_total").count(),
            1
        );
    }
    let told = exporter.output();
    let told = told
        .lines()
        .filter(|line| line.contains("duplicate labels"));
    assert_eq!(told.count(), 1, "it is logged once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_is_switched_off_and_on() {
    let server = Postgres::start(18).await;
    server.sql("postgres", &tables(1)).await;
    let dsn = server.dsn("postgres", "postgres");
    let exporter = Exporter::watch(&dsn, &["--no-collector.wal"]).await;

    let page = exporter.scrape().await;
    assert_eq!(skipped(&page, "wal", "disabled", ""), Some(1.0));
    assert_eq!(page.samples("pg_wal_segments").count(), 0);
    assert_eq!(
        page.value("pg_scrape_collector_success", &[("collector", "wal")]),
        None
    );
    assert_eq!(page.value("pg_exporter_last_scrape_error", &[]), Some(0.0));
    assert_eq!(statements(&page, "stat_user_tables"), Some(1.0));

    // One that runs in every scrape, and one that is served from memory.
    for collector in ["stat_user_tables", "table_size"] {
        let answer = exporter
            .post(&format!("/-/collectors/{collector}/off"))
            .await;
        assert_eq!(answer.status, 200);
        assert!(
            answer.text().contains(&format!("{collector} is off")),
            "{}",
            answer.text()
        );
    }
    let page = exporter.scrape().await;
    for (collector, metric) in [
        ("stat_user_tables", "pg_stat_user_tables_seq_scan"),
        ("table_size", "pg_stat_user_tables_table_size_bytes"),
    ] {
        assert_eq!(skipped(&page, collector, "disabled", ""), Some(1.0));
        assert_eq!(page.samples(metric).count(), 0, "{metric}");
    }
    assert_eq!(statements(&page, "stat_user_tables"), Some(1.0));

    for collector in ["stat_user_tables", "table_size", "wal"] {
        let answer = exporter
            .post(&format!("/-/collectors/{collector}/on"))
            .await;
        assert_eq!(answer.status, 200);
    }
    let page = exporter.scrape().await;
    assert_eq!(
        page.samples("pg_exporter_collector_skipped")
            .filter(disabled)
            .count(),
        0
    );
    assert_eq!(page.samples("pg_stat_user_tables_seq_scan").count(), 1);
    assert_eq!(
        page.samples("pg_stat_user_tables_table_size_bytes").count(),
        1
    );
    assert!(page.value("pg_wal_segments", &[]).is_some());

    let answer = exporter.post("/-/collectors/nonsense/off").await;
    assert_eq!(answer.status, 404);
    assert!(
        answer.text().contains("no collector \"nonsense\""),
        "{}",
        answer.text()
    );
}

/// One SQL statement for so many empty tables `t1`, `t2`, ...
fn tables(count: u32) -> String {
    format!(
        "DO $$ BEGIN FOR i IN 1..{count} LOOP \
         EXECUTE format('CREATE TABLE t%s (a int)', i); END LOOP; END $$"
    )
}

fn skipped(page: &Page, collector: &str, reason: &str, datname: &str) -> Option<f64> {
    page.value(
        "pg_exporter_collector_skipped",
        &[
            ("collector", collector),
            ("reason", reason),
            ("datname", datname),
        ],
    )
}

fn statements(page: &Page, collector: &str) -> Option<f64> {
    page.value(
        "pg_exporter_collector_statements_total",
        &[("collector", collector)],
    )
}

fn disabled(sample: &&Sample) -> bool {
    sample.labels["reason"] == "disabled"
}
