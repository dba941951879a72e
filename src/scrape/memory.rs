//! What is remembered of a server from scrape to scrape.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tracing::Span;

use crate::bounds::DATABASES;
use crate::config;
use crate::query::{Plan, QueryError, Reason, Scope, tables};
use crate::server::{Database, Facts, Installation, Listed, Rights};
use crate::telemetry::database_span;

pub struct Memory {
    /// Whether another target may have its connections now, and says which are kept.
    pub left: bool,
    /// The database in which the server's own matters are asked.
    pub home: Arc<str>,
    pub facts: Option<Arc<Facts>>,
    pub down: Option<(Instant, Down)>,
    /// How the server last refused to tell its facts.
    pub refusal: Option<String>,
    /// When the functions of the strict role were last looked for elsewhere.
    pub probed: Option<Instant>,
    pub databases: BTreeMap<Arc<str>, Known>,
    /// Those with an application for which there is no connection to be kept.
    pub without_connection: Vec<Arc<str>>,
    pub duplicates: BTreeMap<Arc<str>, u64>,
    pub scrapes: u64,
    pub asked: Option<SystemTime>,
}

/// What is remembered of a database.
#[derive(Clone, Debug)]
pub struct Known {
    pub oid: u32,
    /// What is done in it is logged in it.
    pub span: Span,
    pub applications: Vec<Arc<Installation>>,
    pub rights: KnownRights,
    pub visited: Option<Instant>,
    /// Why the last visit failed.
    pub failure: Option<(Reason, String)>,
}

impl Known {
    /// The tables of the application that a collector of this scope reads.
    pub fn installation(&self, scope: Scope) -> Option<&Arc<Installation>> {
        let application = scope.application()?;
        let mut found = self.applications.iter();
        found.find(|found| found.application == application)
    }

    /// Whether what is there is of any interest to a collector.
    pub fn concerns(&self, plan: &Plan) -> bool {
        let found = self.installation(plan.collector.scope);
        found.is_some_and(|found| plan.concerns(&found.tables))
    }
}

/// What the role may do in a database, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct KnownRights {
    /// As it was found last.
    pub found: Rights,
    /// Why it could not be found since.
    pub failure: Option<String>,
    /// Not before this it is asked again.
    next: Option<Instant>,
}

impl KnownRights {
    /// Whether it is time to ask.
    pub fn are_due(&self) -> bool {
        self.next.is_none_or(|next| Instant::now() >= next)
    }

    /// Whether it was asked and not found; none before it was asked.
    pub fn are_unknown(&self) -> Option<bool> {
        self.next.map(|_| self.failure.is_some())
    }

    /// Takes in an answer, and for how long it is not asked again. What cannot be found may not be what
    /// it was: that is said beside what was known.
    pub fn take(&mut self, found: Result<Rights, QueryError>, rest: Duration) {
        self.next = Some(Instant::now() + rest);
        match found {
            Ok(found) => (self.found, self.failure) = (found, None),
            Err(error) => self.failure = Some(error.to_string()),
        }
    }
}

/// What was learned, and is true no more.
pub enum Outdated {
    /// It is another server.
    Everything,
    /// What was read in, or of, databases of these names.
    Databases(BTreeSet<String>),
}

/// Why a server does not answer.
#[derive(Clone, Debug)]
pub struct Down {
    pub reason: &'static str,
    pub message: String,
    /// The deadline of the scrapes that ended the question, if no answer of the server did.
    pub ended: Option<Instant>,
}

impl Memory {
    /// Nothing yet.
    pub fn new(home: Arc<str>) -> Self {
        Self {
            left: false,
            home,
            facts: None,
            down: None,
            refusal: None,
            probed: None,
            databases: BTreeMap::new(),
            without_connection: Vec::new(),
            duplicates: BTreeMap::new(),
            scrapes: 0,
            asked: None,
        }
    }

    /// Takes in what a scrape has learned: databases come and go. Returns what must be forgotten.
    pub fn remember(&mut self, facts: &Arc<Facts>, server: &config::Server) -> Outdated {
        let outdated = match &self.facts {
            Some(known) if known.system_identifier != facts.system_identifier => {
                self.databases.clear();
                self.probed = None;
                Outdated::Everything
            }
            Some(known) => Outdated::Databases(gone(&known.databases, &facts.databases)),
            None => Outdated::Databases(BTreeSet::new()),
        };
        let rules = &server.databases;
        let watched = facts
            .databases
            .iter()
            .filter(|database| database.closed.is_none() && rules.watches(&database.name));
        let mut databases = BTreeMap::new();
        for database in watched {
            let known = self
                .databases
                .remove(&*database.name)
                .filter(|known| known.oid == database.oid);
            let known = known.unwrap_or_else(|| Known {
                oid: database.oid,
                span: database_span(&server.name, &database.name),
                applications: Vec::new(),
                rights: KnownRights::default(),
                visited: None,
                failure: None,
            });
            databases.insert(database.name.as_str().into(), known);
        }
        self.databases = databases;
        self.facts = Some(facts.clone());
        outdated
    }

    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(facts) = &self.facts {
            if facts.more_databases {
                warnings.push(format!(
                    "the server has more than {DATABASES} databases; of those of each role, the \
                     ones created last are not read"
                ));
            }
            if facts.superuser {
                warnings.push(format!(
                    "the role {:?} is a superuser; use a monitoring role without that right: see \
                     `grants`",
                    facts.role
                ));
            }
            warnings.extend(facts.powers.iter().map(|power| {
                let what = match power.as_str() {
                    "superuser" => "become a superuser (SET ROLE)",
                    "createrole" => "create roles, and up to PostgreSQL 15 become other ones",
                    "replication" => "stream the WAL, and messages in it",
                    "bypassrls" => "read rows that policies keep from others",
                    "other_sessions" => "end the sessions of others",
                    "alter_system" => "change settings of the whole server",
                    _ => "read or write files of the server, or run programs there",
                };
                format!(
                    "the role {:?} may {what}; a monitoring role does not need that right",
                    facts.role
                )
            }));
            let views = &facts.views;
            if !facts.superuser && views.privileges.contains("pg_read_all_stats") {
                warnings.push(format!(
                    "the role {:?} has pg_monitor or pg_read_all_stats and can read the query \
                     texts of all sessions, which may hold message bodies; `grants` without \
                     --pg-monitor avoids that",
                    facts.role
                ));
            } else if !facts.superuser && views.functions.is_empty() {
                warnings.push(format!(
                    "the role {:?} cannot see other sessions; run what \
                     `matrix-postgres-exporter grants --role {}` prints, as superuser",
                    facts.role, facts.role
                ));
            } else if !facts.superuser && views.missing().next().is_some() {
                warnings.push(format!(
                    "functions that `grants` creates are missing, or older than this program: {}; \
                     run again what `matrix-postgres-exporter grants --role {}` prints",
                    views.missing().collect::<Vec<_>>().join(", "),
                    facts.role
                ));
            }
        }
        for (name, found) in self.installations() {
            let tables = &found.tables;
            for (table, cause) in &tables.not_plain {
                warnings.push(format!(
                    "in database {name:?} the table {table:?} is not read, since that could run \
                     code of its owner as the exporter's role: {cause}"
                ));
            }
            if tables.unreadable.is_empty() {
                continue;
            }
            let role = self.facts.as_ref().map_or("", |facts| &facts.role);
            let what = match tables.granted {
                true => format!("not read {}", tables::list(&tables.unreadable)),
                false => format!("read none of {}'s tables", found.application.name),
            };
            warnings.push(format!(
                "in database {name:?} the role {role:?} may {what}; run what \
                 `matrix-postgres-exporter grants --role {role} --database {name}` prints"
            ));
        }
        if let Some((last, rest)) = self.without_connection.split_last() {
            let names = match rest {
                [] => format!("database {last:?} has"),
                _ => {
                    let rest: Vec<_> = rest.iter().map(|name| format!("{name:?}")).collect();
                    format!("databases {} and {last:?} have", rest.join(", "))
                }
            };
            warnings.push(format!(
                "{names} no connection of their own, since there are too few: they are read in \
                 turn, once every databases.interval; raise connections by {}",
                self.without_connection.len()
            ));
        }
        for (warning, name) in self.role_warnings() {
            warnings.push(warning.sentence(name));
        }
        warnings.extend(self.may_do());
        for (name, known) in &self.databases {
            if let Some(failure) = &known.rights.failure {
                warnings.push(format!(
                    "the query for the role's privileges in database {name:?} failed: {failure}; \
                     a larger scrape.statement_cap may help"
                ));
            }
        }
        warnings
    }

    /// What the role may do that other roles may run, by name.
    fn may_do(&self) -> impl Iterator<Item = String> {
        let role = self.facts.as_ref().map_or("", |facts| &facts.role);
        let create = self.places(|rights| &rights.create).map(|(places, flags)| {
            format!(
                "the role {role:?} may create objects in schemas of {places}: other roles may run \
                 functions that it creates there, with their rights; what \
                 `matrix-postgres-exporter grants --role {role}{flags}` prints revokes that"
            )
        });
        let write = self.places(|rights| &rights.write).map(|(places, flags)| {
            format!(
                "the role {role:?} may write to tables or sequences of {places}, lock them, or \
                 create triggers on them; what `matrix-postgres-exporter grants --role \
                 {role}{flags}` prints revokes what can be revoked safely, and warns of the rest"
            )
        });
        let call = self.places(|rights| &rights.call).map(|(places, _)| {
            format!(
                "the role {role:?} may call functions of {places} that run with the rights of their \
                 owner (SECURITY DEFINER): if not every role needs them, revoke EXECUTE from PUBLIC"
            )
        });
        [create, write, call].into_iter().flatten()
    }

    /// The databases in which the role may do something, with the places, if there are any; and the
    /// flags of `grants` that name them.
    fn places(&self, of: impl Fn(&Rights) -> &Listed) -> Option<(String, String)> {
        let open = self.databases.iter();
        let open: Vec<_> = open
            .map(|(name, known)| (name, of(&known.rights.found)))
            .filter(|(_, listed)| !listed.named.is_empty())
            .collect();
        let places = open.iter().map(|(name, listed)| {
            let names = listed.named.iter();
            let mut names: Vec<_> = names
                .map(|[schema, name]| match (schema.as_str(), name.as_str()) {
                    ("", _) => "new schemas".to_owned(),
                    (schema, "") => schema.to_owned(),
                    (schema, name) => format!("{schema}.{name}"),
                })
                .collect();
            if listed.more > 0 {
                names.push(format!("and {} more", listed.more));
            }
            format!("database {name:?} ({})", names.join(", "))
        });
        let places = places.collect::<Vec<_>>().join(", ");
        let flags = open.iter().map(|(name, _)| format!(" --database {name}"));
        (!open.is_empty()).then(|| (places, flags.collect()))
    }

    /// The databases with an application's tables, and what was found there.
    fn installations(&self) -> impl Iterator<Item = (&str, &Arc<Installation>)> {
        self.databases.iter().flat_map(|(name, known)| {
            let applications = known.applications.iter();
            applications.map(move |found| (&**name, found))
        })
    }

    /// What the role may do in databases and a monitoring role should not; the worst of each.
    pub fn role_warnings(&self) -> impl Iterator<Item = (RoleWarning, &str)> {
        self.databases.iter().filter_map(|(name, known)| {
            let warning = match known.rights.found {
                Rights { writable: true, .. } => RoleWarning::Writable,
                Rights { readable: true, .. } => RoleWarning::Readable,
                Rights { owner: true, .. } => RoleWarning::Owner,
                _ => return None,
            };
            Some((warning, &**name))
        })
    }
}

/// What a role may do too much in one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleWarning {
    /// Write the application's tables.
    Writable,
    /// Read whole tables of the application.
    Readable,
    /// It owns something there.
    Owner,
}

impl RoleWarning {
    /// How the metric calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Writable => "writable",
            Self::Readable => "readable",
            Self::Owner => "owner",
        }
    }

    fn sentence(self, database: &str) -> String {
        match self {
            Self::Writable => format!(
                "the role may write to the application's tables in database {database:?}; use a \
                 monitoring role of its own: see `grants`"
            ),
            Self::Readable => format!(
                "the role may read whole tables of the application in database {database:?}, \
                 messages among them; `grants` gives columns without these, so revoke SELECT on \
                 tables from it, from PUBLIC and from roles that it is a member of"
            ),
            Self::Owner => format!(
                "the role owns tables, functions or other objects in database {database:?}, which \
                 other roles may run with their rights; drop them, or give them to another role \
                 (REASSIGN OWNED)"
            ),
        }
    }
}

/// The names of databases that are no more; another one may have such a name now.
fn gone(before: &[Database], now: &[Database]) -> BTreeSet<String> {
    let identity = |database: &Database| (database.name.clone(), database.oid);
    let now: BTreeSet<_> = now.iter().map(identity).collect();
    let before = before.iter().map(identity);
    before
        .filter(|one| !now.contains(one))
        .map(|(name, _)| name)
        .collect()
}
