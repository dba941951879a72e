//! Databases whose owner makes every login to them hang.

use std::time::Duration;

use super::support::exporter::Exporter;
use super::support::exposition::Page;
use super::support::look_alike::SYNAPSE;
use super::support::postgres::{Postgres, rows};
use super::support::process::wait_for;
use tokio_postgres::Client;

/// How long Prometheus would wait.
const TIMEOUT: Duration = Duration::from_secs(5);

const YAML: &str = "
servers: { main: { databases: { interval: 1s } } }
collectors: { table_size: { ttl: 1s } }";

/// Two owners do so at once in more databases than there are connections. The others are looked at
/// as before, and each of the two has one backend waiting.
#[tokio::test(flavor = "multi_thread")]
async fn owners_who_make_logins_hang_harm_only_themselves() {
    for major in [13, 18] {
        let server = Postgres::start(major).await;
        server
            .sql(
                "postgres",
                "CREATE ROLE mallory LOGIN; CREATE ROLE trudy LOGIN",
            )
            .await;
        let theirs = ["m1", "m2", "m3", "m4", "t1"];
        for name in theirs {
            let owner = if name.starts_with('m') {
                "mallory"
            } else {
                "trudy"
            };
            let create = format!("CREATE DATABASE {name} OWNER {owner}");
            server.sql("postgres", &create).await;
            server.sql(name, "CREATE TABLE before ()").await;
        }
        server.sql("postgres", "CREATE DATABASE good").await;
        let exporter = Exporter::configured(&server.dsn("postgres", "postgres"), YAML).await;
        wait_for("all databases were looked at", || async {
            let page = exporter.scrape_within(TIMEOUT).await;
            theirs.iter().all(|name| has(&page, name, "before"))
        })
        .await;

        let mut holders = Vec::new();
        for name in theirs {
            let owner = if name.starts_with('m') {
                "mallory"
            } else {
                "trudy"
            };
            holders.push(hang(&server, name, owner).await);
        }
        wait_for("both owners have made a login hang", || async {
            exporter.scrape_within(TIMEOUT).await;
            exporter.output().contains("hangs; until") && waiting_logins(&server).await >= 2
        })
        .await;
        good_is_looked_at(&server, &exporter, 2).await;

        drop(holders);
        for name in theirs {
            wait_for("it lets go", || async {
                let waits = "SELECT 1 FROM pg_locks WHERE NOT granted LIMIT 1";
                server.value("postgres", waits).await.is_none()
            })
            .await;
            server.sql(name, "CREATE TABLE after ()").await;
        }
        wait_for("all databases are looked at again", || async {
            let page = exporter.scrape_within(TIMEOUT).await;
            theirs.iter().all(|name| has(&page, name, "after"))
        })
        .await;
        let page = exporter.scrape_within(TIMEOUT).await;
        let open = page.value("pg_exporter_connections", &[]);
        assert!(open <= Some(3.0), "{major}: {open:?}");
    }
}

/// More owners than logins may hang, one of whom hides each database as soon as a login to it hangs.
#[tokio::test(flavor = "multi_thread")]
async fn many_owners_and_hidden_databases() {
    let server = Postgres::start(18).await;
    let mut theirs = Vec::new();
    for (owner, count) in [("o1", 4), ("o2", 1), ("o3", 1), ("o4", 1), ("o5", 1)] {
        server
            .sql("postgres", &format!("CREATE ROLE {owner} LOGIN"))
            .await;
        for number in 0..count {
            let name = format!("{owner}_{number}");
            let create = format!("CREATE DATABASE {name} OWNER {owner}");
            server.sql("postgres", &create).await;
            server.sql(&name, "CREATE TABLE before ()").await;
            theirs.push((name, owner));
        }
    }
    server.sql("postgres", "CREATE DATABASE good").await;
    let exporter = Exporter::configured(&server.dsn("postgres", "postgres"), YAML).await;
    wait_for("all databases were looked at", || async {
        let page = exporter.scrape_within(TIMEOUT).await;
        theirs.iter().all(|(name, _)| has(&page, name, "before"))
    })
    .await;
    let mut holders = Vec::new();
    for (name, owner) in &theirs {
        holders.push(hang(&server, name, owner).await);
    }
    let hide = "SELECT d.datname FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
                 WHERE NOT l.granted AND l.mode = 'AccessShareLock' AND d.datname LIKE 'o1%' \
                   AND NOT d.datistemplate";
    wait_for("no more databases are looked at than may hang", || async {
        exporter.scrape_within(TIMEOUT).await;
        if let Some(name) = server.value("postgres", hide).await {
            let hide = format!("ALTER DATABASE {name} IS_TEMPLATE true");
            server.sql("postgres", &hide).await;
        }
        exporter
            .output()
            .contains("logins to databases of several owners hang")
    })
    .await;
    good_is_looked_at(&server, &exporter, 3).await;
    // Each says so once, and not in every scrape.
    let said = exporter.output().matches("until the server ends").count();
    assert!(said <= 2 * theirs.len(), "{}", exporter.output());
}

/// The connection to the database of a Synapse is open, and no other could be opened in its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_synapse_of_yet_another_owner_goes_on() {
    for major in [13, 18] {
        let server = Postgres::start(major).await;
        let theirs = ["o1", "o2", "o3", "o4"];
        for owner in theirs.iter().chain(&["honest"]) {
            let create = format!("CREATE ROLE {owner} LOGIN");
            server.sql("postgres", &create).await;
            let create = format!("CREATE DATABASE {owner} OWNER {owner}");
            server.sql("postgres", &create).await;
        }
        server.sql("postgres", "CREATE DATABASE good").await;
        let honest = server.client("honest", "honest").await;
        honest.batch_execute(SYNAPSE).await.unwrap();
        let blocked = "CREATE TABLE blocked_rooms (room_id text)";
        honest.batch_execute(blocked).await.unwrap();
        let yaml = YAML.replace("table_size: {", "synapse_rooms: { ttl: 1s }, table_size: {");
        let exporter = Exporter::configured(&server.dsn("postgres", "postgres"), &yaml).await;
        let blocked = |page: &Page| page.value("synapse_db_rooms_blocked", &[]);
        wait_for("the Synapse is found", || async {
            blocked(&exporter.scrape_within(TIMEOUT).await) == Some(0.0)
        })
        .await;
        let mut holders = Vec::new();
        for name in theirs {
            holders.push(hang(&server, name, name).await);
        }
        wait_for("three logins hang", || async {
            exporter.scrape_within(TIMEOUT).await;
            waiting_logins(&server).await == 3
        })
        .await;
        for round in 1..=10 {
            let insert = "INSERT INTO blocked_rooms VALUES ('a')";
            honest.batch_execute(insert).await.unwrap();
            wait_for("the Synapse is read", || async {
                let page = exporter.scrape_within(TIMEOUT).await;
                assert_eq!(page.value("pg_up", &[]), Some(1.0));
                blocked(&page) == Some(f64::from(round))
            })
            .await;
        }
        good_is_looked_at(&server, &exporter, 3).await;
    }
}

/// Sees five times that a change in the database `good` is served, while so many logins hang and in
/// each page the server is up.
async fn good_is_looked_at(server: &Postgres, exporter: &Exporter, hanging: usize) {
    for round in 0..5 {
        let table = format!("round{round}");
        server
            .sql("good", &format!("CREATE TABLE {table} ()"))
            .await;
        wait_for("the other database is looked at", || async {
            let page = exporter.scrape_within(TIMEOUT).await;
            assert_eq!(page.value("pg_up", &[]), Some(1.0));
            let open = page.value("pg_exporter_connections", &[]);
            assert!(open <= Some((3 + hanging) as f64), "{open:?}");
            has(&page, "good", &table)
        })
        .await;
        assert_eq!(waiting_logins(server).await, hanging);
    }
}

/// VACUUM FULL of `pg_class` that waits for an open transaction: whoever logs in waits behind it.
/// All of it ends when these are dropped.
async fn hang(
    server: &Postgres,
    database: &str,
    owner: &str,
) -> (Client, tokio::task::JoinHandle<()>) {
    let holder = server.client(database, owner).await;
    rows(&holder, "BEGIN; SELECT count(*) FROM pg_class").await;
    let vacuum = server.client(database, owner).await;
    let vacuum = tokio::spawn(async move { drop(rows(&vacuum, "VACUUM FULL pg_class").await) });
    let waits = format!(
        "SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
          WHERE d.datname = '{database}' AND NOT l.granted AND l.mode = 'AccessExclusiveLock'"
    );
    wait_for("the rewrite waits", || async {
        server.value("postgres", &waits).await.is_some()
    })
    .await;
    (holder, vacuum)
}

/// Backends that wait for `pg_class` before they have a name in `pg_stat_activity`, or with it.
async fn waiting_logins(server: &Postgres) -> usize {
    let waiting = "SELECT count(*) FROM pg_locks \
                    WHERE relation = 'pg_class'::regclass AND NOT granted \
                      AND mode = 'AccessShareLock'";
    let count = server.value("postgres", waiting).await;
    count.unwrap().parse().unwrap()
}

fn has(page: &Page, database: &str, table: &str) -> bool {
    let labels = [("datname", database), ("relname", table)];
    page.value("pg_stat_user_tables_seq_scan", &labels)
        .is_some()
}
