//! The environment variables that say how the server is reached, as postgres_exporter takes them.

use super::Variable;
use super::layer::{DSN, Layer, PASSWORD, PASSWORD_FILE, USER};
use super::problem::{Fault, Problem};

/// What `DATA_SOURCE_*` says. `DATA_SOURCE_NAME` wins over all the others.
pub fn data_source(variable: Variable<'_>, layer: &mut Layer, problems: &mut Vec<Problem>) {
    if let Some(name) = variable("DATA_SOURCE_NAME") {
        if is_list(&name) {
            problems.push(Problem::new(
                "DATA_SOURCE_NAME",
                Fault::Invalid("names several servers; one server is served at present".to_owned()),
            ));
        }
        layer.set(DSN, "DATA_SOURCE_NAME", name);
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
                problems.push(Problem::new(
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
    name.split(',').skip(1).any(|part| {
        let part = part.trim_start();
        let keyword = part.split('=').next().unwrap_or_default();
        part.starts_with("postgres://")
            || part.starts_with("postgresql://")
            || (keyword.len() < part.len()
                && !keyword.is_empty()
                && keyword.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
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
    }
}
