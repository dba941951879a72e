//! The environment variables that say how the server is reached, as postgres_exporter takes them.

use super::Variable;
use super::layer::{DSN, Layer, PASSWORD, PASSWORD_FILE, USER};
use super::problem::{Fault, Problem};
use super::section::Notes;

/// What `DATA_SOURCE_*` says. `DATA_SOURCE_NAME` wins over all the others.
pub fn data_source(variable: Variable<'_>, layer: &mut Layer, notes: &mut Notes) {
    if let Some(name) = variable("DATA_SOURCE_NAME") {
        let first = first_of("DATA_SOURCE_NAME", &name, begins_a_server, notes);
        layer.set(DSN, "DATA_SOURCE_NAME", first);
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
    if let Some((place, uri)) = read("DATA_SOURCE_URI", variable, notes) {
        let scheme = ["postgres://", "postgresql://"];
        match scheme.into_iter().find(|scheme| uri.starts_with(scheme)) {
            Some(scheme) => {
                notes.problems.push(Problem::new(
                    &place,
                    Fault::Invalid(format!(
                        "must be an address without a scheme; remove {scheme:?}, or put the whole \
                         address into DATA_SOURCE_NAME"
                    )),
                ));
                layer.set(DSN, &place, uri);
            }
            None => {
                let has_path = |part: &str| part.contains('/');
                let begins =
                    |part: &str| has_path(part) && uri.split(',').next().is_some_and(has_path);
                let first = first_of(&place, &uri, begins, notes);
                layer.set(DSN, &place, format!("postgresql://{first}"));
            }
        }
    }
    if let Some((place, user)) = read("DATA_SOURCE_USER", variable, notes) {
        layer.set(USER, &place, user);
    }
    // The password's file is read again at every connect, so here only its name is taken.
    if let Some(path) = variable("DATA_SOURCE_PASS_FILE") {
        layer.set(PASSWORD_FILE, "DATA_SOURCE_PASS_FILE", path);
    } else if let Some(password) = variable("DATA_SOURCE_PASS") {
        layer.set(PASSWORD, "DATA_SOURCE_PASS", password);
    }
}

/// What a variable says, or the file that its twin names, and which of the two.
fn read(name: &str, variable: Variable<'_>, notes: &mut Notes) -> Option<(String, String)> {
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
}

/// The first of several servers with commas between them; a comma may also stand within one.
fn first_of<'a>(
    place: &str,
    list: &'a str,
    begins: impl Fn(&str) -> bool,
    notes: &mut Notes,
) -> &'a str {
    let commas = list.match_indices(',').map(|(at, _)| at);
    let ends: Vec<_> = commas
        .filter(|at| {
            begins(
                list[at + 1..]
                    .split(',')
                    .next()
                    .unwrap_or_default()
                    .trim_start(),
            )
        })
        .collect();
    match ends.first() {
        None => list,
        Some(end) => {
            notes.warnings.push(format!(
                "{place}: names {} servers; only the first is monitored: run an exporter for each",
                ends.len() + 1
            ));
            &list[..*end]
        }
    }
}

/// Whether a connection string begins here.
fn begins_a_server(part: &str) -> bool {
    const KEYS: [&str; 7] = [
        "host", "hostaddr", "port", "dbname", "database", "user", "password",
    ];
    let key = part.split('=').next().unwrap_or_default();
    part.starts_with("postgres://")
        || part.starts_with("postgresql://")
        || (key.len() < part.len() && KEYS.contains(&key.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_servers_is_told_from_commas_within_one() {
        for (list, first, several) in [
            (
                "postgresql://a/x,postgresql://b/x",
                "postgresql://a/x",
                true,
            ),
            ("host=a dbname=x, host=b dbname=x", "host=a dbname=x", true),
            (
                "postgresql://u:p,w@a,b/x",
                "postgresql://u:p,w@a,b/x",
                false,
            ),
            (
                "host=a,b port=1,2 dbname=x",
                "host=a,b port=1,2 dbname=x",
                false,
            ),
            (
                "host=a options='-c search_path=a,b'",
                "host=a options='-c search_path=a,b'",
                false,
            ),
        ] {
            let mut notes = Notes::default();
            assert_eq!(first_of("LIST", list, begins_a_server, &mut notes), first);
            assert_eq!(notes.warnings.len(), usize::from(several), "{list}");
        }
    }
}
