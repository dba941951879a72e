//! Replication in numbers: while it works, when it is broken, and after a promotion.

use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::support::answers::{assert_agree, create_roles, wait_until, watch};
use super::support::postgres::{MAJORS, Postgres};
use super::support::process::wait_for;

const AGE_OF_REPLAY: &str =
    "SELECT extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())";

const LAG: &str = "pg_replication_lag_seconds";
const LAST_REPLAY: &str = "pg_replication_last_replay_seconds";
const IS_REPLICA: &str = "pg_replication_is_replica";
const STREAMING: &str = "pg_stat_wal_receiver_streaming";
const SENDER_LAG: &str = "pg_stat_replication_pg_wal_lsn_diff";
const FLUSH_LAG: &str = "pg_stat_replication_flush_lag_bytes";

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_follows_breaks_and_is_promoted() {
    for major in MAJORS {
        let (mut primary, mut standby) = pair(major).await;
        let on_primary = watch(&primary, "postgres").await;
        let on_standby = watch(&standby, "postgres").await;

        // Nothing was written for a while, and that is not a lag.
        wait_for("the standby idles", || async {
            let page = on_standby[1].scrape().await;
            let [lag, age] = [LAG, LAST_REPLAY].map(|name| page.value(name, &[]));
            lag == Some(0.0) && age > Some(1.0)
        })
        .await;
        assert_agree(
            &standby,
            "postgres",
            &on_standby,
            &[
                (IS_REPLICA, &[], "SELECT 1"),
                ("pg_in_recovery", &[], "SELECT 1"),
                ("pg_timeline_id", &[], "SELECT 1"),
                (STREAMING, &[], "SELECT 1"),
                (LAST_REPLAY, &[], AGE_OF_REPLAY),
            ],
        )
        .await;
        let sender = [
            ("application_name", "walreceiver"),
            ("state", "streaming"),
            ("slot_name", "standby"),
        ];
        let slot = [("slot_name", "standby")];
        assert_agree(
            &primary,
            "postgres",
            &on_primary,
            &[
                (IS_REPLICA, &[], "SELECT 0"),
                ("pg_in_recovery", &[], "SELECT 0"),
                (LAG, &[], "SELECT 0"),
                (LAST_REPLAY, &[], "SELECT 0"),
                (STREAMING, &[], "SELECT NULL"),
                (
                    "pg_stat_replication_pg_current_wal_lsn_bytes",
                    &sender,
                    "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')",
                ),
                (
                    SENDER_LAG,
                    &sender,
                    "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) FROM pg_stat_replication",
                ),
                (
                    FLUSH_LAG,
                    &sender,
                    "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), flush_lsn) FROM pg_stat_replication",
                ),
                ("pg_replication_slots_active", &slot, "SELECT 1"),
                ("pg_replication_slots_slot_is_active", &slot, "SELECT 1"),
                ("pg_replication_slots_slot_confirmed_flush_lsn", &slot, "SELECT 0"),
            ],
        )
        .await;

        // The receiver is gone, and the primary goes on.
        standby
            .sql(
                "postgres",
                "ALTER SYSTEM SET primary_conninfo = 'host=/nowhere'",
            )
            .await;
        standby.sql("postgres", "SELECT pg_reload_conf()").await;
        no_receiver(&standby).await;
        primary
            .sql("postgres", "INSERT INTO t SELECT generate_series(1, 1000)")
            .await;
        let broken = [
            (LAG, &[][..], AGE_OF_REPLAY),
            (LAST_REPLAY, &[], AGE_OF_REPLAY),
            (IS_REPLICA, &[], "SELECT 1"),
            (STREAMING, &[], "SELECT 0"),
            (
                "pg_stat_wal_receiver_last_message_age_seconds",
                &[],
                "SELECT NULL",
            ),
            ("pg_stat_wal_receiver_replay_lag_bytes", &[], "SELECT NULL"),
        ];
        let page = assert_agree(&standby, "postgres", &on_standby, &broken).await;
        assert!(page.value(LAG, &[]) > Some(1.0), "{major}");
        wait_for("the primary has seen that it is gone", || async {
            let page = on_primary[1].scrape().await;
            page.samples(SENDER_LAG).count() == 0
                && page.value("pg_replication_slots_active", &slot) == Some(0.0)
        })
        .await;

        // It comes back, and catches up.
        standby
            .sql("postgres", "ALTER SYSTEM RESET primary_conninfo")
            .await;
        standby.sql("postgres", "SELECT pg_reload_conf()").await;
        wait_for("the standby has caught up", || async {
            let page = on_standby[1].scrape().await;
            page.value(LAG, &[]) == Some(0.0) && page.value(STREAMING, &[]) == Some(1.0)
        })
        .await;

        // The primary is gone.
        primary.stop().await;
        no_receiver(&standby).await;
        let page = assert_agree(&standby, "postgres", &on_standby, &broken).await;
        assert!(page.value(LAG, &[]) > Some(0.0), "{major}");

        standby.promote().await;
        let timeline = "SELECT timeline_id = 2 FROM pg_control_checkpoint()";
        wait_until(&standby, "postgres", timeline).await;
        let page = assert_agree(
            &standby,
            "postgres",
            &on_standby,
            &[
                (IS_REPLICA, &[], "SELECT 0"),
                ("pg_in_recovery", &[], "SELECT 0"),
                ("pg_timeline_id", &[], "SELECT 2"),
                (LAG, &[], "SELECT 0"),
                (LAST_REPLAY, &[], "SELECT 0"),
                (STREAMING, &[], "SELECT NULL"),
            ],
        )
        .await;
        let start = "pg_postmaster_start_time_seconds";
        let before = page.value(start, &[]).unwrap();

        standby.restart().await;
        for exporter in &on_standby {
            wait_for("the exporter is back", || async {
                exporter.scrape().await.up()
            })
            .await;
        }
        let now = "SELECT extract(epoch FROM pg_postmaster_start_time())";
        let page = assert_agree(&standby, "postgres", &on_standby, &[(start, &[], now)]).await;
        assert!(page.value(start, &[]).unwrap() > before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_standbys_with_the_same_labels_the_slower_counts() {
    for major in MAJORS {
        let primary = Postgres::start(major).await;
        create_roles(&primary, &["postgres"]).await;
        let slow = primary.standby().start().await;
        let fast = primary.standby().start().await;
        primary
            .sql("postgres", "CREATE TABLE t AS SELECT 1 AS n")
            .await;
        for standby in [&slow, &fast] {
            replayed(&primary, standby).await;
        }
        slow.sql("postgres", "SELECT pg_wal_replay_pause()").await;
        primary
            .sql("postgres", "INSERT INTO t SELECT generate_series(1, 10000)")
            .await;
        replayed(&primary, &fast).await;
        let behind = "SELECT pg_wal_lsn_diff(latest_end_lsn, pg_last_wal_replay_lsn()) > 500000
                        FROM pg_stat_wal_receiver";
        wait_until(&slow, "postgres", behind).await;

        let on_primary = watch(&primary, "postgres").await;
        let page = assert_agree(
            &primary,
            "postgres",
            &on_primary,
            &[
                (
                    SENDER_LAG,
                    &[("application_name", "walreceiver"), ("state", "streaming")],
                    "SELECT max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)) FROM pg_stat_replication",
                ),
                (
                    FLUSH_LAG,
                    &[("application_name", "walreceiver"), ("state", "streaming")],
                    "SELECT max(pg_wal_lsn_diff(pg_current_wal_lsn(), flush_lsn)) FROM pg_stat_replication",
                ),
            ],
        )
        .await;
        assert!(page.value(SENDER_LAG, &[]) > Some(500_000.0), "{major}");
        // What a standby has and does not replay is not lost with the primary.
        assert!(page.value(FLUSH_LAG, &[]) < Some(500_000.0), "{major}");
        assert_eq!(
            page.samples("pg_exporter_duplicate_series_total").count(),
            0
        );

        // What was received and not replayed is lag, however well the stream flows.
        let on_slow = watch(&slow, "postgres").await;
        assert_agree(
            &slow,
            "postgres",
            &on_slow,
            &[
                (LAG, &[], AGE_OF_REPLAY),
                (STREAMING, &[], "SELECT 1"),
                (
                    "pg_stat_wal_receiver_replay_lag_bytes",
                    &[],
                    "SELECT pg_wal_lsn_diff(latest_end_lsn, pg_last_wal_replay_lsn()) FROM pg_stat_wal_receiver",
                ),
            ],
        )
        .await;

        // A message may arrive at any time, and then its age starts again.
        let age = "SELECT extract(epoch FROM clock_timestamp() - last_msg_receipt_time)
                     FROM pg_stat_wal_receiver";
        let asked = Instant::now();
        let before: f64 = slow.value("postgres", age).await.unwrap().parse().unwrap();
        let page = on_slow[0].scrape().await;
        let served = page.value("pg_stat_wal_receiver_last_message_age_seconds", &[]);
        let most = before + asked.elapsed().as_secs_f64();
        assert!(
            (0.0..=most).contains(&served.unwrap()),
            "{served:?}, at most {most}"
        );
        slow.sql("postgres", "SELECT pg_wal_replay_resume()").await;
        wait_for("the slower one has caught up", || async {
            on_slow[1].scrape().await.value(LAG, &[]) == Some(0.0)
        })
        .await;
    }
}

/// A primary, and a standby on a slot that has replayed a transaction.
async fn pair(major: u32) -> (Postgres, Postgres) {
    let primary = Postgres::start(major).await;
    create_roles(&primary, &["postgres"]).await;
    let slot = "SELECT pg_create_physical_replication_slot('standby')";
    primary.sql("postgres", slot).await;
    let standby = primary
        .standby()
        .setting("primary_slot_name", "standby")
        .start()
        .await;
    primary
        .sql("postgres", "CREATE TABLE t AS SELECT 1 AS n")
        .await;
    replayed(&primary, &standby).await;
    (primary, standby)
}

/// Waits until the standby has replayed what the primary has written.
async fn replayed(primary: &Postgres, standby: &Postgres) {
    let end = primary
        .value("postgres", "SELECT pg_current_wal_lsn()")
        .await;
    let replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{}'", end.unwrap());
    wait_until(standby, "postgres", &replayed).await;
}

async fn no_receiver(standby: &Postgres) {
    let gone = "SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)";
    wait_until(standby, "postgres", gone).await;
}

/// After its restart a standby asks for the whole last segment again: what it says it has received
/// is then behind what it has replayed, for as long as nothing new is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_restarts_while_nothing_is_written_is_not_behind() {
    for major in [13, 15, 18] {
        let primary = Postgres::builder(major)
            .setting("autovacuum", "off")
            .setting("checkpoint_timeout", "1h")
            .start()
            .await;
        create_roles(&primary, &["postgres"]).await;
        let mut standby = primary.standby().start().await;
        let below = standby.standby().start().await;
        standby
            .sql(
                "postgres",
                "SELECT pg_create_physical_replication_slot('kept', true)",
            )
            .await;
        primary
            .sql(
                "postgres",
                "CREATE TABLE t AS SELECT generate_series(1, 1000); CHECKPOINT",
            )
            .await;
        // It would write what transactions there are, some time after anything was written.
        let writer = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'background writer'";
        let writer = primary.value("postgres", writer).await.unwrap();
        let writer = Pid::from_raw(writer.parse().unwrap()).unwrap();
        kill_process(writer, Signal::STOP).unwrap();
        replayed(&primary, &standby).await;
        replayed(&primary, &below).await;
        let exporters = watch(&standby, "postgres").await;
        let sender = [("application_name", "walreceiver")];
        let slot = [("slot_name", "kept")];
        const POSITION: &str = "pg_replication_slots_slot_current_wal_lsn";
        const SENDER_POSITION: &str = "pg_stat_replication_pg_current_wal_lsn_bytes";
        let before = exporters[0].scrape().await;
        assert!(before.value(POSITION, &slot) > Some(0.0));

        standby.restart().await;
        wait_until(
            &standby,
            "postgres",
            "SELECT pg_last_wal_receive_lsn() < pg_last_wal_replay_lsn()
                AND EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')
                AND EXISTS (SELECT FROM pg_stat_replication WHERE replay_lsn IS NOT NULL)",
        )
        .await;
        for exporter in &exporters {
            for _ in 0..3 {
                let page = exporter.scrape().await;
                assert_eq!(page.value(LAG, &[]), Some(0.0), "{major}");
                assert_eq!(page.value(SENDER_LAG, &sender), Some(0.0), "{major}");
                for (name, labels) in [(POSITION, &slot[..]), (SENDER_POSITION, &sender[..])] {
                    assert!(
                        page.value(name, labels) >= before.value(name, labels),
                        "{major}: {name} {:?}, before {:?}",
                        page.value(name, labels),
                        before.value(name, labels)
                    );
                }
                let kept = page.value("pg_replication_slots_pg_wal_lsn_diff", &slot);
                assert!(kept >= Some(0.0), "{major}: {kept:?}");
                let behind = page.value("pg_stat_wal_receiver_replay_lag_bytes", &[]);
                assert_eq!(behind, Some(0.0), "{major}");
            }
        }
        // What is written is received and replayed as ever.
        primary.sql("postgres", "CREATE TABLE more ()").await;
        replayed(&primary, &standby).await;
        wait_for("nothing is behind", || async {
            let page = exporters[1].scrape().await;
            page.value(LAG, &[]) == Some(0.0)
                && page.value(POSITION, &slot) > before.value(POSITION, &slot)
        })
        .await;
    }
}
