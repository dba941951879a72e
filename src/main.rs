//! `matrix-postgres-exporter`: everything is in [`matrix_postgres_exporter::cli`].

use std::process::ExitCode;

use matrix_postgres_exporter::cli;

fn main() -> ExitCode {
    match cli::run(std::env::args_os(), &cli::variable) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            error.exit_code()
        }
    }
}
