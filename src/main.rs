//! `matrix-postgres-exporter`: everything is in [`matrix_postgres_exporter::cli`].

use std::io::{Write, stderr};
use std::process::ExitCode;

use matrix_postgres_exporter::cli;
use matrix_postgres_exporter::text::escaped_lines;

fn main() -> ExitCode {
    match cli::run(std::env::args_os(), &cli::variable) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where nobody reads this, the exit code says it.
            if !matches!(error, cli::Error::Unread) {
                let _ = writeln!(stderr(), "{}", escaped_lines(&error.to_string()));
            }
            error.exit_code()
        }
    }
}
