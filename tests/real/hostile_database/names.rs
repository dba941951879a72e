//! Names of schemas, databases and roles, each of which could get out of where it stands.

use matrix_postgres_exporter::query::sql::{identifier, literal};

use super::super::support::exporter::exporter_command;
use super::super::support::roles::{in_dsn, run_script};
use super::*;

/// Names that could get out of where they stand, or have something else put into them.
fn names() -> Vec<String> {
    let placeholders = [
        "{schema}",
        "{schema_name}",
        "{piece}",
        "{range}",
        "{pg_stat_activity}",
    ];
    let call = ";commit;select public.f()--";
    let mut names: Vec<_> = placeholders
        .iter()
        .flat_map(|placeholder| {
            [
                format!("{placeholder}\".x{call}"),
                format!("E'{placeholder}'{call}"),
            ]
        })
        .collect();
    names.extend([
        format!("'{call}"),
        format!("\\'{call}"),
        format!("\\\\'{call}"),
        format!("\"{call}"),
        format!("\"\"{call}"),
        format!("'){call}"),
        format!("$$,$do${call}"),
        format!("*/{call}"),
        format!("/*{call}"),
        format!("\n{call}\n"),
        format!("--\n{call}"),
        format!("%s%I%1$s:'x':\"x\":x{call}"),
        format!("é\u{1f600}\u{2028}'\"{call}"),
        format!("{}\\", "x".repeat(62)),
        format!("{}'", "é".repeat(31)),
        format!("{}\"", "\"".repeat(62)),
    ]);
    assert!(names.iter().all(|name| name.len() <= 63));
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_may_have_any_name_on_13() {
    a_schema_may_have_any_name(13).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_may_have_any_name_on_18() {
    a_schema_may_have_any_name(18).await;
}

/// The name is a room's, too, right where a piece ends.
async fn a_schema_may_have_any_name(major: u32) {
    let server = hostile(major).await;
    create_roles(&server, &["model"]).await;
    let seen = assert_would_be_seen(&server, "model").await;
    // The owner also sets how a session begins.
    let owner = server.client("model", "mallory").await;
    let as_of_old = "ALTER DATABASE model SET standard_conforming_strings = off";
    owner.batch_execute(as_of_old).await.unwrap();
    let mut last = "app".to_owned();
    for (at, name) in names().into_iter().enumerate() {
        let rename = format!(
            "DELETE FROM {old}.rooms WHERE room_id > 'b';
             INSERT INTO {old}.rooms VALUES ({}), ('z');
             ALTER SCHEMA {old} RENAME TO {}",
            literal(&format!("b{name}")),
            identifier(&name),
            old = identifier(&last),
        );
        owner.batch_execute(&rename).await.unwrap();
        last = name;
        let role = ROLES[at % ROLES.len()];
        let exporter = Exporter::watch(&server.dsn("model", role), &[]).await;
        let complete = |page: &Page| {
            let mut rooms = page.samples("synapse_db_rooms");
            page.value(BLOCKED, &[("datname", "model")]) == Some(ROWS)
                && rooms.any(|rooms| rooms.value == 10_002.0)
                && counted(page, "model")
        };
        exporter
            .scrape_until(PATIENCE, &format!("{role}: {last}"), complete)
            .await;
        let found = planted(&server);
        assert_eq!(found.len(), seen, "{role}: {last}: {found:?}");
    }
    assert!(!server.log().contains("syntax error"), "{}", server.log());
}

/// Bytes that are not UTF-8 cannot be said in a statement of ours: what has such a name is told, and
/// left alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_whose_name_is_not_utf_8_is_told() {
    let server = hostile(18).await;
    let create = "CREATE DATABASE ascii TEMPLATE template0 OWNER mallory ENCODING 'SQL_ASCII' \
                  LC_COLLATE 'C' LC_CTYPE 'C'";
    server.sql("postgres", create).await;
    let owner = server.client("ascii", "mallory").await;
    let name = r"convert_from('\xe922', 'SQL_ASCII') || ';commit;select public.f()--'";
    let rename = format!(
        "{PLANTED}; {};
         DO $$ BEGIN EXECUTE format('ALTER SCHEMA app RENAME TO %I', {name}); END $$",
        synapse()
    );
    owner.batch_execute(&rename).await.unwrap();
    create_roles(&server, &["ascii"]).await;
    let seen = assert_would_be_seen(&server, "ascii").await;
    for role in ROLES {
        let exporter = Exporter::watch(&server.dsn("postgres", role), &[]).await;
        let told = |page: &Page| {
            let skip = ("synapse_rooms", "not_a_plain_table", "ascii");
            page.skipped().contains(&skip)
        };
        let page = exporter.scrape_until(PATIENCE, role, told).await;
        assert_eq!(page.value(BLOCKED, &[("datname", "ascii")]), None);
        // The other database is seen as ever.
        let blocked = |page: &Page| page.value(BLOCKED, &[("datname", "model")]).is_some();
        if role == "admin" {
            exporter.scrape_until(PATIENCE, role, blocked).await;
        }
    }
    assert_eq!(planted(&server).len(), seen);
}

/// Every string of three pieces that mean something in SQL comes back as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_literal_is_what_it_stands_for() {
    let pieces = [
        "'",
        "''",
        "\"",
        "\\",
        "\\'",
        "\\x27",
        "{schema}",
        "{piece}",
        ";",
        "--",
        "/*",
        "*/",
        "$$",
        "\n",
        "\r",
        "\t",
        "é",
        "\u{1f600}",
        "%s",
        ":'a'",
        "a",
    ];
    let mut strings = Vec::new();
    for first in pieces {
        for second in pieces {
            strings.extend(pieces.map(|third| format!("{first}{second}{third}")));
        }
    }
    for major in [13, 18] {
        let server = Postgres::start(major).await;
        for conforming in ["on", "off"] {
            let literals: Vec<_> = strings.iter().map(|string| literal(string)).collect();
            let sql = format!(
                "SET standard_conforming_strings = {conforming}; SET escape_string_warning = off;
                 SELECT unnest(ARRAY[{}])",
                literals.join(", ")
            );
            let found = server.sql("postgres", &sql).await;
            let found: Vec<_> = found.into_iter().flatten().flatten().collect();
            assert_eq!(found, strings, "{major} {conforming}");
            let columns: Vec<_> = strings
                .iter()
                .take(1_600)
                .map(|string| format!("1 AS {}", identifier(string)))
                .collect();
            let client = server.client("postgres", "postgres").await;
            let sql = format!("SELECT {}", columns.join(", "));
            let statement = client.prepare(&sql).await.unwrap();
            let found: Vec<_> = statement.columns().iter().map(|one| one.name()).collect();
            assert_eq!(found, strings[..columns.len()], "{major} {conforming}");
        }
    }
}

/// A superuser runs what `grants` prints, also where strings are read as of old.
#[tokio::test(flavor = "multi_thread")]
async fn roles_and_databases_of_grants_may_have_any_name() {
    for major in [13, 18] {
        let server = hostile(major).await;
        server.sql("postgres", PLANTED).await;
        let as_of_old = "ALTER DATABASE postgres SET standard_conforming_strings = off";
        server.sql("postgres", as_of_old).await;
        let as_of_old = "ALTER DATABASE model SET standard_conforming_strings = off";
        server.sql("postgres", as_of_old).await;
        let mut last = "model".to_owned();
        // psql cannot go to a name with a line break.
        let names = names().into_iter().filter(|name| !name.contains('\n'));
        for name in names {
            let rename = format!(
                "ALTER DATABASE {} RENAME TO {}",
                identifier(&last),
                identifier(&name)
            );
            server.sql("postgres", &rename).await;
            last.clone_from(&name);
            let database = in_dsn(&name);
            let script = |flags: &[&str]| {
                let (role, database) = (format!("--role={name}"), format!("--database={name}"));
                let mut args = vec!["grants", &role, &database];
                args.extend(flags);
                let output = exporter_command(&args).output().unwrap();
                assert!(output.status.success(), "{name}: {output:?}");
                String::from_utf8(output.stdout).unwrap()
            };
            run_script(&server, &script(&[])).await.unwrap();
            let granted = format!(
                "SELECT bool_and(pg_catalog.has_column_privilege(r.oid, 'app.blocked_rooms',
                                                                 'ctid', 'SELECT'))
                   FROM pg_catalog.pg_roles AS r WHERE r.rolname = {}",
                literal(&name)
            );
            let granted = server.value(&database, &granted).await;
            assert_eq!(granted.as_deref(), Some("t"), "{name}");
            run_script(&server, &script(&["--revoke"])).await.unwrap();
            let left = format!(
                "SELECT count(*) FROM pg_catalog.pg_roles WHERE rolname = {}",
                literal(&name)
            );
            assert_eq!(
                server.value("postgres", &left).await.as_deref(),
                Some("0"),
                "{name}"
            );
        }
        let log = server.log();
        let calls: Vec<_> = log
            .lines()
            .filter(|line| line.contains("PLANTED"))
            .collect();
        assert_eq!(calls, [""; 0], "{major}");
        rows(
            &server.client("postgres", "postgres").await,
            "SELECT public.f()",
        )
        .await;
        wait_for("a call is seen", || async {
            server.log().contains("PLANTED")
        })
        .await;
    }
}
