//! A real Synapse: in the test bed, and in `make demo`.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tempfile::TempDir;

use super::support::postgres::Postgres;
use super::support::process::{Process, User, command, scratch, wait_for};
use super::support::synapse::{Made, NEW, OLD, Synapse};

#[tokio::test(flavor = "multi_thread")]
async fn new_synapse_makes_what_it_says() {
    made_is_in_the_database(18, NEW).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_synapse_makes_what_it_says_on_the_oldest_postgresql() {
    made_is_in_the_database(13, OLD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_serves_what_was_made() {
    let (demo, scratch) = demo(EXPORTER, &["--check"]);
    let status = demo.wait_for_end().await;
    assert!(status.success(), "{}", demo.output());
    assert_eq!(left_in(scratch.path()), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_leaves_nothing_behind_after_ctrl_c() {
    let (demo, scratch) = demo(EXPORTER, &[]);
    let running = |output: &str| output.contains("Ctrl-C ends all of this").then_some(());
    let running = demo.wait_for_output(running).await;
    assert!(running.is_ok(), "{}", demo.output());
    assert_ne!(left_in(scratch.path()), [""; 0]);

    demo.signal(Signal::INT);
    assert!(demo.wait_for_end().await.success(), "{}", demo.output());
    assert_eq!(left_in(scratch.path()), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_leaves_nothing_behind_after_a_failure() {
    let (demo, scratch) = demo("/bin/false", &[]);
    let status = demo.wait_for_end().await;
    assert_eq!(status.code(), Some(1));
    assert!(
        demo.output().contains("the demo failed"),
        "{}",
        demo.output()
    );
    assert_eq!(left_in(scratch.path()), [""; 0]);
}

const EXPORTER: &str = env!("CARGO_BIN_EXE_matrix-postgres-exporter");

/// The demo with that exporter, and the folder in which it makes its own.
fn demo(exporter: &str, flags: &[&str]) -> (Process, TempDir) {
    let scratch = scratch();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/demo/run.sh");
    let mut command = command(User::Same, script);
    command.env("TMPDIR", scratch.path());
    command.args(["--exporter", exporter]).args(flags);
    (Process::start(command), scratch)
}

/// Files in a folder, and programs that run there.
fn left_in(folder: &Path) -> Vec<String> {
    let files = list(folder);
    let programs = list(Path::new("/proc")).into_iter().filter(|process| {
        fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
    });
    files
        .into_iter()
        .chain(programs)
        .map(|path| path.display().to_string())
        .collect()
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries
        .map(|entry| entry.expect("an entry").path())
        .collect()
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
