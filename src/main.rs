//! `matrix-postgres-exporter`: everything is in [`matrix_postgres_exporter::cli`].

use std::io::{Write, stderr};
use std::process::ExitCode;

use matrix_postgres_exporter::cli;

fn main() -> ExitCode {
    match cli::run(std::env::args_os(), &cli::variable) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where nobody reads this, the exit code says it.
            if !matches!(error, cli::Error::Unread) {
                let _ = writeln!(stderr(), "{error}");
            }
            error.exit_code()
        }
    }
}
