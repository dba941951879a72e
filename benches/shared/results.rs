//! `benches/RESULTS.md`, to which each benchmark writes sections of its own.

use std::fs;

use crate::support::postgres::Postgres;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/RESULTS.md");

/// Puts sections into the file: each in the place of that of the same title, or at the end. What stands
/// above the first replaces the head of the file, if there is anything.
pub fn write(results: &str) {
    let file = fs::read_to_string(FILE).unwrap();
    fs::write(FILE, merged(&file, results)).unwrap();
}

fn merged(file: &str, results: &str) -> String {
    let title = |section: &str| section.lines().next().map(str::to_owned);
    let mut sections: Vec<_> = file.split("\n## ").collect();
    for (at, new) in results.split("\n## ").enumerate() {
        let place = match at {
            0 if new.is_empty() => continue,
            0 => sections.first_mut(),
            _ => sections.iter_mut().find(|old| title(old) == title(new)),
        };
        match place {
            Some(old) => *old = new,
            None => sections.push(new),
        }
    }
    sections.join("\n## ")
}

/// When and where it was measured, as the end of a sentence.
pub async fn circumstances(server: &Postgres) -> String {
    let memory = fs::read_to_string("/proc/meminfo").unwrap();
    let memory: u64 = memory.split_whitespace().nth(1).unwrap().parse().unwrap();
    let cores = std::thread::available_parallelism().unwrap();
    let value = async |sql: &str| server.value("postgres", sql).await.unwrap();
    format!(
        "on {}, with PostgreSQL {} on a shared machine with {cores} cores and {} GB",
        value("SELECT current_date").await,
        value("SHOW server_version").await,
        memory / 1024 / 1024,
    )
}
