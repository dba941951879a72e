//! What a scrape costs beside other exporters of PostgreSQL: `make bench-peers` writes it into
//! `benches/RESULTS.md`.
//!
//! `PE` is the path of postgres_exporter, `NB` that of nbari's pg_exporter; what is not given is left out.
//! The exporters take turns on the same server. Only one runs at a time, so that all that the server does
//! in its turn is done for it.
//!
//! `BENCH_INTERVAL` is the number of seconds between scrapes, `BENCH_ROUNDS` how many turns each exporter
//! has, and `BENCH_SERVERS=small,tables` measures only on these servers (`small`, `tables`, `databases`,
//! `series`), and writes these sections again.

// A broken expectation is a failed run.
#![allow(clippy::panic, clippy::unwrap_used, missing_docs)]

#[path = "../../tests/support/mod.rs"]
mod support;

#[path = "../shared/mod.rs"]
mod shared;

mod floor;
mod programs;
mod servers;
mod table;
mod turn;

use std::fmt::Write;
use std::time::Duration;

use floor::Floor;
use programs::{Collectors, Program};
use servers::SERVERS;
use shared::{chosen, results};
use support::postgres::Postgres;
use table::{Column, table};
use turn::{SCRAPES, Turn};

const MAJOR: u32 = 18;

#[tokio::main]
async fn main() {
    let number = |variable: &str, default: u32| {
        std::env::var(variable).map_or(default, |value| {
            let number = value.parse().ok().filter(|number| *number > 0);
            number.unwrap_or_else(|| panic!("{variable} is a whole number above 0, not {value:?}"))
        })
    };
    let interval = Duration::from_secs(number("BENCH_INTERVAL", 5).into());
    let rounds = number("BENCH_ROUNDS", 3);
    let servers = chosen("BENCH_SERVERS");
    let (programs, missing) = programs::given();
    for kind in SERVERS {
        if servers
            .as_ref()
            .is_some_and(|names| !names.contains(kind.name))
        {
            continue;
        }
        let server = kind.start(&programs).await;
        let mut section = format!(
            "\n## Beside other exporters: {}\n\n\
             {} Measured {}. Each exporter has a role of its own with pg_monitor, connects over TCP with a \
             password, and runs alone for {SCRAPES} scrapes, one every {} s, compressed as Prometheus asks \
             for it; the median of {rounds} alternating turns. Ratios, not absolute times, tell something.{}\n",
            kind.title,
            kind.about,
            results::circumstances(&server).await,
            interval.as_secs(),
            missing,
        );
        for collectors in [Collectors::Default, Collectors::All] {
            let columns = measure(&server, &programs, collectors, interval, rounds).await;
            let table = table(&columns);
            eprintln!("{}, {collectors}\n\n{table}", kind.title);
            write!(section, "\n### {}, {collectors}\n\n{table}", kind.title).unwrap();
        }
        println!("{section}");
        results::write(&section);
    }
}

/// Lets each exporter, and the statements of ours alone, have their turns.
async fn measure(
    server: &Postgres,
    programs: &[Program],
    collectors: Collectors,
    interval: Duration,
    rounds: u32,
) -> Vec<Column> {
    let floor = Floor::of(server, &programs[0], collectors).await;
    let mut columns: Vec<_> = programs.iter().map(Program::column).collect();
    let mut alone = Column {
        name: "its statements alone",
        version: String::new(),
        turns: Vec::new(),
    };
    for round in 1..=rounds {
        for (program, column) in programs.iter().zip(&mut columns) {
            let turn = Turn::take(server, program, collectors, interval).await;
            eprintln!("{collectors}, round {round}, {}: {turn:?}", program.name);
            column.turns.push(turn);
        }
        alone
            .turns
            .push(floor.take(server, &programs[0], interval).await);
    }
    columns.push(alone);
    columns
}
