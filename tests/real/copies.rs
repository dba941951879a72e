//! A copy by logical replication, as the rules know it: by the worker of its subscription.

use super::support::answers::{create_roles, watch};
use super::support::postgres::{MAJORS, Postgres};
use super::support::process::wait_for;

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_known_by_the_worker_of_its_subscription() {
    for major in MAJORS {
        let publisher = Postgres::builder(major)
            .fresh()
            .setting("wal_level", "logical")
            .start()
            .await;
        let table = "CREATE TABLE words (word text PRIMARY KEY)";
        publisher.sql("postgres", table).await;
        publisher
            .sql("postgres", "CREATE PUBLICATION words FOR TABLE words")
            .await;
        let copy = Postgres::builder(major).fresh().start().await;
        copy.sql("postgres", table).await;
        let dsn = publisher.dsn("postgres", "postgres");
        copy.sql(
            "postgres",
            &format!("CREATE SUBSCRIPTION words CONNECTION '{dsn}' PUBLICATION words"),
        )
        .await;
        create_roles(&copy, &["postgres"]).await;
        let exporters = watch(&copy, "postgres").await;
        for exporter in &exporters {
            wait_for("the worker is seen", || async {
                let page = exporter.scrape().await;
                page.samples("pg_stat_activity_count").any(|sample| {
                    let kind = &sample.labels["backend_type"];
                    kind.starts_with("logical replication ")
                        && kind.ends_with("worker")
                        && sample.labels["datname"] == "postgres"
                })
            })
            .await;
        }
        // Else the publisher waits for a subscriber that is gone.
        copy.sql("postgres", "DROP SUBSCRIPTION words").await;
    }
}
