//! The environment variables that say how the server is reached, as postgres_exporter takes them.

use super::Variable;
use super::layer::{DSN, Layer, PASSWORD, PASSWORD_FILE, USER};
use super::problem::{Fault, Problem};
use super::section::Notes;

/// What `DATA_SOURCE_*` says. `DATA_SOURCE_NAME` wins over all the others.
pub fn data_source(variable: Variable<'_>, layer: &mut Layer, notes: &mut Notes) {
    if let Some(name) = variable("DATA_SOURCE_NAME") {
        if is_list(&name) {
            notes.problems.push(Problem::new(
                "DATA_SOURCE_NAME",
                Fault::Invalid("names several servers; one server is served at present".to_owned()),
            ));
        }
        layer.set(DSN, "DATA_SOURCE_NAME", name);
        for part in ["URI", "USER", "PASS"] {
            for ignored in [
                format!("DATA_SOURCE_{part}"),
                format!("DATA_SOURCE_{part}_FILE"),
            ] {
                if variable(&ignored).is_some() {
                    notes.warnings.push(format!(
                        "{ignored} has no effect beside DATA_SOURCE_NAME; put the address into DATA_SOURCE_URI instead"
                    ));
                }
            }
        }
        return;
    }
    let mut read = |name: &str| {
        let file_variable = format!("{name}_FILE");
        let Some(path) = variable(&file_variable) else {
            return variable(name).map(|value| (name.to_owned(), value));
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => Some((file_variable, text.trim().to_owned())),
            Err(error) => {
                notes.problems.push(Problem::new(
                    &file_variable,
                    Fault::unreadable(&path, &error),
                ));
                None
            }
        }
    };
    if let Some((place, uri)) = read("DATA_SOURCE_URI") {
        layer.set(DSN, &place, format!("postgresql://{uri}"));
    }
    if let Some((place, user)) = read("DATA_SOURCE_USER") {
        layer.set(USER, &place, user);
    }
    // The password's file is read again at every connect, so here only its name is taken.
    if let Some(path) = variable("DATA_SOURCE_PASS_FILE") {
        layer.set(PASSWORD_FILE, "DATA_SOURCE_PASS_FILE", path);
    } else if let Some(password) = variable("DATA_SOURCE_PASS") {
        layer.set(PASSWORD, "DATA_SOURCE_PASS", password);
    }
}

/// Whether these are several connection strings, and not one with commas in it.
fn is_list(name: &str) -> bool {
    const KEYS: [&str; 6] = ["host", "hostaddr", "port", "dbname", "user", "password"];
    name.split(',').map(str::trim_start).skip(1).any(|part| {
        let key = part.split('=').next().unwrap_or_default();
        part.starts_with("postgres://")
            || part.starts_with("postgresql://")
            || (key.len() < part.len() && KEYS.contains(&key.trim_end()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_servers_is_told_from_commas_within_one() {
        assert!(is_list("postgresql://a/x,postgresql://b/x"));
        assert!(is_list("host=a dbname=x, host=b dbname=x"));
        assert!(!is_list("postgresql://u:p,w@a,b/x"));
        assert!(!is_list("host=a,b port=1,2 dbname=x"));
        assert!(!is_list("host=a options='-c search_path=a,b'"));
    }
}
