//! `make demo`: what it shows, and that it leaves nothing behind.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tempfile::TempDir;

use super::support::process::{Process, User, command, scratch};

#[tokio::test(flavor = "multi_thread")]
async fn serves_what_was_made() {
    let (demo, scratch) = demo(EXPORTER, &["--check"]);
    wait_for_line(&demo, "pg_up 1").await;
    assert!(demo.wait_for_end().await.success(), "{}", demo.output());
    assert_eq!(left_in(scratch.path()), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_nothing_behind_after_ctrl_c() {
    let (demo, scratch) = demo(EXPORTER, &[]);
    wait_for_line(&demo, "Ctrl-C ends all of this").await;
    assert_ne!(left_in(scratch.path()), [""; 0]);

    demo.signal(Signal::INT);
    assert!(demo.wait_for_end().await.success(), "{}", demo.output());
    assert_eq!(left_in(scratch.path()), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_nothing_behind_after_a_failure() {
    let (demo, scratch) = demo("/bin/false", &[]);
    wait_for_line(&demo, "the demo failed").await;
    assert_eq!(demo.wait_for_end().await.code(), Some(1));
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

/// Several programs start, one after the other: that gets the patience of several.
async fn wait_for_line(demo: &Process, words: &str) {
    for _ in 0..3 {
        let found = |output: &str| output.contains(words).then_some(());
        if demo.wait_for_output(found).await.is_ok() {
            return;
        }
    }
    panic!("{words}: not in {}", demo.output());
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
