//! What every scrape asks first.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use tokio_postgres::Client;

use crate::bounds::{DATABASES as MOST_DATABASES, LABEL};
use crate::query::definition::SETTINGS;
use crate::query::message::{Message, timeout_step};
use crate::query::view::{OWNER, SCHEMA, VIEWS};
use crate::query::{QueryError, Scope, Sql, Version, Views};
use crate::text::cut;

/// What is true of a server at the time of a scrape.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The version, as a number.
    pub version: Version,
    /// The version, as `version()` tells it.
    pub version_text: String,
    /// Whether it is in recovery.
    pub standby: bool,
    /// Whether it archives WAL.
    pub archiver: bool,
    /// Which of [`SETTINGS`] are off. What the role has set for itself says nothing of others.
    pub settings_off: BTreeSet<&'static str>,
    /// When it started, in seconds since the epoch.
    pub start_time: f64,
    /// The system identifier, the same on a primary and its standbys.
    pub system_identifier: String,
    /// The setting `cluster_name`.
    pub cluster_name: String,
    /// The timeline of the last checkpoint.
    pub timeline: f64,
    /// The role that is used.
    pub role: String,
    /// Whether that role is a superuser.
    pub superuser: bool,
    /// What else of the server's powers it has, itself or as another role that it may become. Not told of
    /// a superuser.
    pub powers: Vec<String>,
    /// How that role may read the statistics views, in the database where this was asked.
    pub views: Views,
    /// Every database but the templates.
    pub databases: Vec<Database>,
    /// Whether there are more, which are not looked at.
    pub more_databases: bool,
}

/// One database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// Its name; bytes that are not UTF-8 are shown as `\xE9`.
    pub name: String,
    /// Another one with the same name has another.
    pub oid: u32,
    /// Whose it is.
    pub owner: Owner,
    /// Why it cannot be visited, if it cannot.
    pub closed: Option<&'static str>,
}

/// Whose a database is. What one owner may take from the others is bounded over all databases that
/// they own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// A role's, by its oid.
    Role(u32),
    /// A superuser's, or not known whose: this database counts alone.
    Superuser(String),
}

const SERVER: &str = "
    SELECT pg_catalog.current_setting('server_version_num'),
           pg_catalog.version(),
           pg_catalog.pg_is_in_recovery(),
           extract(epoch FROM pg_catalog.pg_postmaster_start_time()),
           (SELECT s.system_identifier FROM pg_catalog.pg_control_system() s),
           pg_catalog.current_setting('cluster_name'),
           (SELECT c.timeline_id FROM pg_catalog.pg_control_checkpoint() c),
           current_user,
           (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user),
           (SELECT pg_catalog.string_agg(DISTINCT p.power, ' ')
              FROM pg_catalog.pg_roles me
              JOIN pg_catalog.pg_roles r ON pg_catalog.pg_has_role(me.oid, r.oid, 'MEMBER')
             CROSS JOIN LATERAL (VALUES
                       ('superuser', r.rolsuper),
                       ('createrole', r.rolcreaterole),
                       ('replication', r.rolreplication),
                       ('bypassrls', r.rolbypassrls),
                       ('server_files', r.rolname IN ('pg_read_server_files',
                                                      'pg_write_server_files',
                                                      'pg_execute_server_program')),
                       ('other_sessions', r.rolname = 'pg_signal_backend')
                   ) AS p (power, has)
             WHERE me.rolname = current_user AND p.has AND NOT me.rolsuper),
           CASE pg_catalog.current_setting('archive_mode')
                WHEN 'always' THEN true
                WHEN 'on' THEN NOT pg_catalog.pg_is_in_recovery()
                ELSE false END";

/// Those that [`PRIVILEGES`] asks for.
const MONITORING_ROLES: [&str; 3] = ["pg_monitor", "pg_read_all_stats", "pg_read_all_settings"];

/// Which of these settings are off, unless it is the role that has set them so.
static OFF: LazyLock<Sql> = LazyLock::new(|| {
    Sql::from(
        "
    SELECT s.name
      FROM pg_catalog.unnest(ARRAY[",
    )
    .with(Sql::join(SETTINGS.map(Sql::literal), ", "))
    .with(
        "]) AS s (name)
     WHERE pg_catalog.current_setting(s.name) = 'off'
       AND NOT EXISTS (
           SELECT FROM pg_catalog.pg_db_role_setting r
             JOIN pg_catalog.pg_roles o ON o.oid = r.setrole AND o.rolname = current_user
            CROSS JOIN LATERAL pg_catalog.unnest(r.setconfig) AS c (text)
            WHERE pg_catalog.starts_with(c.text, s.name || '='))",
    )
});

const PRIVILEGES: &str = "
    SELECT r.rolname
      FROM pg_catalog.pg_roles r
     WHERE r.rolname IN ('pg_monitor', 'pg_read_all_stats', 'pg_read_all_settings')
       AND pg_catalog.pg_has_role(r.oid, 'USAGE')";

/// One more row, where the role may set a parameter for the whole server; from 15 on others than
/// superusers may.
const ALTER_SYSTEM: &str = "
     UNION ALL
    SELECT 'alter_system'
      FROM pg_catalog.pg_roles me
     WHERE me.rolname = current_user AND NOT me.rolsuper
       AND EXISTS (SELECT
                     FROM pg_catalog.pg_parameter_acl p, pg_catalog.aclexplode(p.paracl) AS a
                    WHERE a.privilege_type = 'ALTER SYSTEM'
                      AND CASE a.grantee WHEN 0 THEN true
                               ELSE pg_catalog.pg_has_role(a.grantee, 'MEMBER') END)";

/// The first column is the function, if it may be called; a schema without any gives one row. Whose
/// these are not, could do anything in them.
const FUNCTIONS: &str = "
    WITH trusted AS MATERIALIZED (
        SELECT r.oid FROM pg_catalog.pg_roles r
         WHERE r.rolsuper OR r.rolname = 'matrix_postgres_exporter_owner'
    )
    SELECT CASE WHEN pg_catalog.has_function_privilege(p.oid, 'EXECUTE')
                 AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') THEN p.proname END,
           pg_catalog.pg_get_function_result(p.oid)
      FROM pg_catalog.pg_namespace n
      LEFT JOIN pg_catalog.pg_proc p
        ON p.pronamespace = n.oid AND p.pronargs = 0 AND p.proowner IN (SELECT t.oid FROM trusted t)
     WHERE n.nspname = 'matrix_postgres_exporter' AND n.nspowner IN (SELECT t.oid FROM trusted t)";

/// Where there are too many, those of a role come after the others, and the roles take turns.
const DATABASES: &str = "
    SELECT d.datname, d.oid, d.datallowconn, d.datconnlimit = -2 AS invalid,
           d.datconnlimit = 0
           AND NOT (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user)
               AS limited,
           pg_catalog.has_database_privilege(d.oid, 'CONNECT') AS may_connect,
           (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.oid = d.datdba AND NOT r.rolsuper)
               AS owner
      FROM pg_catalog.pg_database d
     WHERE NOT d.datistemplate
     ORDER BY CASE WHEN d.datname <> current_database()
                    AND NOT (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.oid = d.datdba)
                   THEN row_number() OVER (PARTITION BY d.datdba ORDER BY d.oid)
                   ELSE 0 END, d.datname";

impl Facts {
    /// Asks the server; two round trips.
    ///
    /// # Errors
    ///
    /// Fails as the server does.
    pub async fn read(
        client: &Client,
        version: Version,
        timeout: Duration,
    ) -> Result<Self, QueryError> {
        debug_assert!(FUNCTIONS.contains(SCHEMA) && FUNCTIONS.contains(OWNER));
        let timeout = timeout_step(timeout);
        let mut facts = Self {
            version: Version(0),
            version_text: String::new(),
            standby: false,
            archiver: false,
            settings_off: BTreeSet::new(),
            start_time: 0.0,
            system_identifier: String::new(),
            cluster_name: String::new(),
            timeline: 0.0,
            role: String::new(),
            superuser: false,
            powers: Vec::new(),
            views: Views::default(),
            databases: Vec::new(),
            more_databases: false,
        };
        let alter_system = if version < Version(150_000) {
            ""
        } else {
            ALTER_SYSTEM
        };
        let server = Message {
            sql: &Sql::join(
                [
                    SERVER.into(),
                    Sql::from(PRIVILEGES).with(alter_system),
                    OFF.clone(),
                    FUNCTIONS.into(),
                ],
                "; ",
            ),
            timeout,
            version,
            scope: Scope::Server,
        };
        server
            .send(client, |select, cells| {
                let text = |position| -> Result<String, QueryError> {
                    Ok(cut(cells.raw(position)?.unwrap_or_default(), LABEL).into_owned())
                };
                match select {
                    0 => {
                        let version = cells.number(0, "server_version_num")?.unwrap_or_default();
                        facts.version = Version(version as u32);
                        facts.version_text = text(1)?;
                        facts.standby = cells.truth(2)?;
                        facts.start_time = cells.number(3, "start_time")?.unwrap_or_default();
                        facts.system_identifier = text(4)?;
                        facts.cluster_name = text(5)?;
                        facts.timeline = cells.number(6, "timeline_id")?.unwrap_or_default();
                        facts.role = text(7)?;
                        facts.superuser = cells.truth(8)?;
                        facts.powers = text(9)?.split_whitespace().map(str::to_owned).collect();
                        facts.archiver = cells.truth(10)?;
                    }
                    1 => {
                        let name = text(0)?;
                        if MONITORING_ROLES.contains(&name.as_str()) {
                            facts.views.privileges.insert(name);
                        } else if name == "alter_system" {
                            facts.powers.push(name);
                        }
                    }
                    2 => {
                        let name = text(0)?;
                        let known = SETTINGS.into_iter().find(|known| *known == name);
                        facts.settings_off.extend(known);
                    }
                    _ => {
                        facts.views.strict = true;
                        let (name, result) = (text(0)?, text(1)?);
                        let view = VIEWS.iter().find(|view| view.name == name);
                        let given = view.map(|view| (view.name, view.given_by(&result)));
                        let given = given.filter(|(_, columns)| !columns.is_empty());
                        facts.views.functions.extend(given);
                    }
                }
                Ok(())
            })
            .await?;
        // Since 9.0, which is long ago.
        if facts.version < Version(90_000) {
            return Err(QueryError::NoRow);
        }
        let databases = Message {
            sql: &Sql::from(DATABASES),
            timeout,
            version,
            scope: Scope::Server,
        };
        databases
            .send_any_text(
                client,
                &["datname"],
                &mut facts.databases,
                Vec::clear,
                |databases, cells| {
                    if databases.len() > MOST_DATABASES {
                        return Ok(());
                    }
                    let position = |column: &'static str| {
                        cells
                            .position(column)
                            .ok_or(QueryError::MissingColumn(column))
                    };
                    let datname = position("datname")?;
                    let name = cells.text(datname)?.unwrap_or_default();
                    let closed = if !cells.truth(position("datallowconn")?)? {
                        Some("it allows no connections")
                    } else if cells.truth(position("invalid")?)? {
                        Some("an interrupted DROP DATABASE has left it unusable; drop it again")
                    } else if cells.truth(position("limited")?)? {
                        Some("its connection limit is 0")
                    } else if !cells.truth(position("may_connect")?)? {
                        Some("the role has no CONNECT privilege; grant it, or exclude the database")
                    } else if !cells.is_utf8(datname)? {
                        Some("its name is not UTF-8")
                    } else {
                        None
                    };
                    let name = cut(&name, LABEL).into_owned();
                    let owner = match cells.number(position("owner")?, "owner")? {
                        Some(oid) => Owner::Role(oid as u32),
                        None => Owner::Superuser(name.clone()),
                    };
                    databases.push(Database {
                        name,
                        owner,
                        oid: cells.number(position("oid")?, "oid")?.unwrap_or_default() as u32,
                        closed,
                    });
                    Ok(())
                },
            )
            .await?;
        facts.more_databases = facts.databases.len() > MOST_DATABASES;
        facts.databases.truncate(MOST_DATABASES);
        facts
            .databases
            .sort_by(|one, other| one.name.cmp(&other.name));
        Ok(facts)
    }

    /// The version as three numbers, `18.4.0`, the way postgres_exporter writes it.
    pub fn short_version(&self) -> String {
        format!("{}.{}.0", self.version.0 / 10_000, self.version.0 % 10_000)
    }
}
