//! `matrix-postgres-exporter`: everything is in [`matrix_postgres_exporter::cli`].

use std::process::ExitCode;

use matrix_postgres_exporter::cli;
use matrix_postgres_exporter::text::escaped_lines;

fn main() -> ExitCode {
    match cli::run(std::env::args_os(), &cli::variable) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", escaped_lines(&error.to_string()));
            error.exit_code()
        }
    }
}
