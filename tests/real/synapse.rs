//! The Synapse of the test bed.

use super::support::postgres::Postgres;
use super::support::process::wait_for;
use super::support::synapse::{Made, NEW, OLD, Synapse};

#[tokio::test(flavor = "multi_thread")]
async fn new_synapse_makes_what_it_says() {
    made_is_in_the_database(18, NEW).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_synapse_makes_what_it_says_on_the_oldest_postgresql() {
    made_is_in_the_database(13, OLD).await;
}

async fn made_is_in_the_database(major: u32, version: &str) {
    let postgres = Postgres::start(major).await;
    let (synapse, made) = Synapse::start(&postgres, version).await;
    assert_eq!(made, count(&postgres, &made).await);

    let talking = synapse.talk().await;
    assert!(talking.messages > made.messages);
    let hushed = synapse.hush().await;
    assert!(hushed.messages >= talking.messages);
    assert_eq!(hushed, count(&postgres, &hushed).await);

    drop(synapse);
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'synapse_user'";
    wait_for("Synapse is gone", || async {
        count_rows(&postgres, "postgres", sessions).await == 0
    })
    .await;
}

/// What was made, as the database has it.
async fn count(postgres: &Postgres, made: &Made) -> Made {
    let count = async |sql: &str| count_rows(postgres, &made.database, sql).await;
    let mut counted = made.clone();
    counted.users.total = count("SELECT count(*) FROM users").await;
    counted.users.guests = count("SELECT count(*) FROM users WHERE is_guest = 1").await;
    counted.users.bridged = count("SELECT count(*) FROM users WHERE appservice_id <> ''").await;
    counted.users.admins = count("SELECT count(*) FROM users WHERE admin = 1").await;
    counted.users.deactivated = count("SELECT count(*) FROM users WHERE deactivated = 1").await;
    counted.rooms.total = count("SELECT count(*) FROM rooms").await;
    counted.rooms.published = count("SELECT count(*) FROM rooms WHERE is_public").await;
    counted.rooms.encrypted =
        count("SELECT count(*) FROM room_stats_state WHERE encryption <> ''").await;
    counted.devices = count("SELECT count(*) FROM devices WHERE NOT hidden").await;
    counted.messages = count("SELECT count(*) FROM events WHERE type = 'm.room.message'").await;
    counted.encrypted_messages =
        count("SELECT count(*) FROM events WHERE type = 'm.room.encrypted'").await;
    counted.media = count("SELECT count(*) FROM local_media_repository").await;
    counted
}

async fn count_rows(postgres: &Postgres, database: &str, sql: &str) -> u64 {
    let count = postgres.value(database, sql).await;
    count.and_then(|count| count.parse().ok()).expect(sql)
}
