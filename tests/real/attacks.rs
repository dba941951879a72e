//! What somebody tries who has the password of the strict role: on every version, in the application's
//! database and in `postgres`, with the privileges that a dump of 14 brings along, and with contrib
//! modules that others have installed. Nothing is made that another role would run, nothing of others
//! is changed, and no message, hash, token or address is shown.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};

use tokio_postgres::{AsyncMessage, Client, NoTls, SimpleQueryMessage};

use super::creation::make_synapse_like;
use super::support::postgres::{Builder, MAJORS, Postgres, rows};
use super::support::process::wait_for;
use super::support::roles::Role;

/// What must not be shown. The last one is in a statement that goes on.
const SECRETS: [&str; 6] = [
    "a letter",
    "hash-marker",
    "token-marker",
    "address-marker",
    "object-marker",
    "text-marker",
];

/// Refused for want of a privilege, in both databases.
const REFUSED: &[&str] = &[
    // Become somebody else.
    "SET ROLE synapse",
    "SET ROLE postgres",
    "SET ROLE matrix_postgres_exporter_owner",
    "SET ROLE pg_monitor",
    "SET SESSION AUTHORIZATION synapse",
    "ALTER ROLE exporter SUPERUSER",
    "ALTER ROLE exporter CREATEROLE",
    "ALTER ROLE exporter REPLICATION",
    "ALTER ROLE exporter BYPASSRLS",
    "ALTER ROLE exporter CONNECTION LIMIT -1",
    "ALTER ROLE synapse PASSWORD 'mine'",
    "ALTER ROLE synapse SET search_path = evil",
    "ALTER ROLE ALL SET search_path = evil",
    "CREATE ROLE mine",
    "DROP ROLE synapse",
    "GRANT synapse TO exporter",
    "GRANT pg_monitor TO exporter",
    "REASSIGN OWNED BY synapse TO exporter",
    "DROP OWNED BY synapse",
    "ALTER DEFAULT PRIVILEGES FOR ROLE synapse GRANT ALL ON TABLES TO exporter",
    // Make what others run.
    "CREATE SCHEMA mine",
    "CREATE EXTENSION hstore",
    "CREATE PUBLICATION mine",
    "CREATE PUBLICATION mine FOR ALL TABLES",
    "CREATE SUBSCRIPTION mine CONNECTION 'dbname=x' PUBLICATION p WITH (connect = false)",
    "CREATE EVENT TRIGGER mine ON ddl_command_end EXECUTE FUNCTION pg_catalog.now()",
    "CREATE FOREIGN DATA WRAPPER mine",
    "CREATE LANGUAGE mine HANDLER plpgsql_call_handler",
    "CREATE ACCESS METHOD mine TYPE INDEX HANDLER bthandler",
    "CREATE FUNCTION pg_catalog.nextval(text) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'",
    "CREATE FUNCTION public.nextval(text) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'",
    "CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = int, FUNCTION = pg_catalog.repeat)",
    "CREATE CONVERSION public.mine FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8",
    "CREATE TEXT SEARCH CONFIGURATION public.mine (COPY = pg_catalog.simple)",
    "CREATE CAST (text AS bytea) WITHOUT FUNCTION AS IMPLICIT",
    "CREATE CAST (text AS integer) WITH INOUT AS IMPLICIT",
    "CREATE TRANSFORM FOR integer LANGUAGE plpgsql (FROM SQL WITH FUNCTION pg_catalog.int4in(cstring))",
    "CREATE DATABASE mine",
    "CREATE DATABASE mine TEMPLATE matrix",
    "CREATE TABLESPACE mine LOCATION '/nowhere'",
    "ALTER FUNCTION pg_catalog.now() STABLE",
    "ALTER SCHEMA public RENAME TO private",
    "ALTER SCHEMA public OWNER TO exporter",
    "ALTER LANGUAGE plpgsql OWNER TO exporter",
    "ALTER EXTENSION plpgsql UPDATE",
    "DROP EXTENSION plpgsql",
    "ALTER DATABASE matrix SET search_path = evil",
    "ALTER DATABASE matrix OWNER TO exporter",
    "DROP DATABASE matrix",
    "COMMENT ON DATABASE matrix IS 'mine'",
    "COMMENT ON ROLE synapse IS 'mine'",
    "COMMENT ON SCHEMA public IS 'mine'",
    "COMMENT ON LANGUAGE plpgsql IS 'mine'",
    // The server.
    "ALTER SYSTEM SET archive_command = 'true'",
    "ALTER SYSTEM RESET ALL",
    "SET session_replication_role = replica",
    "SET log_statement = 'all'",
    "SET session_preload_libraries = 'auto_explain'",
    "SET dynamic_library_path = '/tmp'",
    "SET lo_compat_privileges = on",
    "SET zero_damaged_pages = on",
    "SET temp_file_limit = -1",
    "LOAD 'auto_explain'",
    "SELECT pg_reload_conf()",
    "SELECT pg_rotate_logfile()",
    "SELECT pg_switch_wal()",
    "SELECT pg_create_restore_point('mine')",
    "SELECT pg_create_physical_replication_slot('mine')",
    "SELECT pg_create_logical_replication_slot('mine', 'test_decoding')",
    "SELECT pg_replication_origin_create('mine')",
    "SELECT pg_stat_reset()",
    "SELECT pg_stat_reset_shared('bgwriter')",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'synapse'",
    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = 'synapse'",
    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'",
    "CHECKPOINT",
    "ROLLBACK PREPARED 'theirs'",
    "CREATE TEMP TABLE mine (a name REFERENCES pg_class (relname))",
    // Files and what is kept in them.
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY (SELECT 1) TO '/tmp/mine'",
    "CREATE TEMP TABLE t (line text); COPY t FROM '/etc/passwd'",
    "CREATE TEMP TABLE t (line text); COPY t FROM PROGRAM 'cat /etc/passwd'",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT pg_read_binary_file('global/pg_control')",
    "SELECT pg_ls_dir('.')",
    "SELECT pg_stat_file('postgresql.conf')",
    "SELECT pg_ls_waldir()",
    "SELECT pg_ls_logdir()",
    "SELECT pg_ls_tmpdir()",
    "SELECT pg_current_logfile()",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(4242, '/tmp/mine')",
    "SELECT * FROM pg_authid",
    "SELECT * FROM pg_shadow",
    "SELECT * FROM pg_hba_file_rules",
    "SELECT * FROM pg_file_settings",
    "SELECT * FROM pg_config",
    "SELECT * FROM pg_statistic",
    "SELECT * FROM pg_statistic_ext_data",
    "SELECT * FROM pg_largeobject",
    "SELECT * FROM pg_replication_origin_status",
    "SELECT * FROM pg_shmem_allocations",
];

/// The same, in the application's database.
const REFUSED_THERE: &[&str] = &[
    "SELECT json FROM event_json",
    "TABLE event_json",
    "SELECT e FROM event_json AS e",
    "SELECT count(*) FROM event_json",
    "SELECT to_json(u) FROM users AS u",
    "SELECT u::text FROM users AS u",
    "SELECT count(u) FROM users AS u",
    "SELECT u IS NULL FROM users AS u",
    "SELECT name FROM users WHERE password_hash LIKE 'hash%'",
    "SELECT name FROM users ORDER BY password_hash",
    "SELECT name FROM users GROUP BY name HAVING max(password_hash) > 'g'",
    "SELECT name FROM users WHERE CASE WHEN password_hash > 'g' THEN 1 / deactivated ELSE 1 END = 1",
    "SELECT l.* FROM users AS u, LATERAL (SELECT u.password_hash) AS l",
    "CREATE TEMP TABLE mine (password_hash text); SELECT name FROM users NATURAL JOIN mine",
    "SELECT password_hash FROM users TABLESAMPLE SYSTEM (100)",
    "SELECT min(token) FROM access_tokens",
    "SELECT address FROM user_threepids",
    "EXPLAIN SELECT FROM users WHERE password_hash = 'hash-marker'",
    "EXPLAIN (ANALYZE) SELECT FROM access_tokens WHERE token = 'token-marker'",
    "COPY users (password_hash) TO STDOUT",
    "COPY event_json TO STDOUT",
    "COPY (SELECT token FROM access_tokens) TO STDOUT",
    "DECLARE mine CURSOR WITH HOLD FOR SELECT json FROM event_json",
    "PREPARE mine AS SELECT json FROM event_json; EXECUTE mine",
    "DO $$BEGIN PERFORM json FROM event_json; END$$",
    "CREATE TEMP VIEW mine AS SELECT json FROM event_json; TABLE mine",
    "CREATE FUNCTION pg_temp.mine() RETURNS text LANGUAGE sql SECURITY DEFINER \
         AS 'SELECT json FROM public.event_json'; SELECT pg_temp.mine()",
    "CREATE TEMP TABLE mine AS SELECT json FROM event_json",
    "CREATE TEMP TABLE mine (LIKE event_json INCLUDING ALL)",
    "CREATE TEMP TABLE mine () INHERITS (event_json)",
    "SELECT * FROM ts_stat('SELECT to_tsvector(json) FROM event_json')",
    "SELECT lo_get(4242)",
    "SELECT nextval('events_stream_seq')",
    "SELECT setval('events_stream_seq', 1)",
    "CREATE TEMP TABLE mine (id bigint DEFAULT nextval('events_stream_seq')); \
         INSERT INTO mine DEFAULT VALUES",
    "INSERT INTO events VALUES ('mine')",
    "UPDATE users SET deactivated = 1",
    "DELETE FROM events",
    "TRUNCATE events",
    "SELECT event_id FROM events FOR UPDATE",
    "SELECT event_id FROM events FOR KEY SHARE",
    "BEGIN; LOCK TABLE events IN ACCESS SHARE MODE",
    "BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE",
    "ALTER TABLE events OWNER TO exporter",
    "ALTER TABLE events ADD mine text",
    "ALTER TABLE events DISABLE TRIGGER ALL",
    "ALTER TABLE events REPLICA IDENTITY FULL",
    "ALTER SEQUENCE events_stream_seq RESTART",
    "DROP TABLE events",
    "CREATE INDEX ON events (event_id)",
    "CREATE STATISTICS mine ON name, password_hash FROM users",
    "CREATE RULE mine AS ON INSERT TO events DO ALSO SELECT 1",
    "CREATE POLICY mine ON events USING (true)",
    "CREATE FUNCTION pg_temp.mine() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
         CREATE TRIGGER mine BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION pg_temp.mine()",
    "GRANT SELECT ON event_json TO exporter",
    "COMMENT ON TABLE events IS 'mine'",
    "COMMENT ON COLUMN users.password_hash IS 'mine'",
    "REINDEX TABLE events",
    "CLUSTER events USING events_pkey",
    "ALTER STATISTICS theirs SET STATISTICS 1",
];

/// The same, where the functions of the strict role are.
const REFUSED_AT_HOME: &[&str] = &[
    "CREATE OR REPLACE FUNCTION matrix_postgres_exporter.pg_ls_waldir() \
         RETURNS TABLE(name text, size bigint) LANGUAGE sql AS 'SELECT NULL::text, 1::bigint'",
    "CREATE FUNCTION matrix_postgres_exporter.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "ALTER FUNCTION matrix_postgres_exporter.pg_stat_activity() RESET search_path",
    "ALTER FUNCTION matrix_postgres_exporter.pg_stat_activity() SECURITY INVOKER",
    "DROP FUNCTION matrix_postgres_exporter.pg_stat_activity()",
    "ALTER SCHEMA matrix_postgres_exporter RENAME TO mine",
];

/// Refused with another code than that of a privilege that is missing.
const REFUSED_OTHERWISE: &[(&str, &str)] = &[
    ("22023", "SECURITY LABEL ON ROLE exporter IS 'mine'"),
    ("0A000", "ALTER ROLE exporter RENAME TO other"),
];

/// Done, and of no use: others do not run it, and nothing is shown.
const USELESS: &[&str] = &[
    "GRANT USAGE ON SCHEMA public TO PUBLIC",
    "GRANT CREATE ON DATABASE matrix TO exporter",
    "ALTER ROLE exporter SET search_path = evil",
    "ALTER ROLE exporter IN DATABASE matrix SET work_mem = '1MB'",
    // Of libraries that the administrator has put in a folder of their own.
    "SET local_preload_libraries = 'auto_explain'",
    "ALTER ROLE exporter RESET ALL",
    "ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO PUBLIC",
    "CREATE TEMP TABLE events (event_id text); INSERT INTO events VALUES ('mine')",
    "CREATE FUNCTION pg_temp.nextval(text) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'",
    "CREATE FUNCTION pg_temp.same(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true'; \
         CREATE OPERATOR pg_temp.= (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_temp.same)",
    "CREATE TYPE pg_temp.mine AS (a text); \
         CREATE FUNCTION pg_temp.made(text) RETURNS pg_temp.mine LANGUAGE sql AS 'SELECT ROW($1)::pg_temp.mine'; \
         CREATE CAST (text AS pg_temp.mine) WITH FUNCTION pg_temp.made(text) AS IMPLICIT",
    "SELECT lo_unlink(lo_from_bytea(0, 'mine'))",
    "SELECT pg_advisory_lock(1)",
    "LISTEN mine; NOTIFY mine",
    "SELECT pg_logical_emit_message(false, 'mine', 'mine')",
    "SELECT pg_export_snapshot()",
    "VACUUM",
    "ANALYZE",
    "SELECT * FROM pg_stats",
    "SELECT * FROM pg_stats_ext",
    "SELECT * FROM pg_stat_activity",
    "SELECT * FROM pg_stat_get_activity(NULL)",
    "SELECT pg_stat_get_backend_activity(id) FROM pg_stat_get_backend_idset() AS id",
    "SELECT * FROM pg_settings",
    "SELECT * FROM pg_prepared_xacts",
    "SELECT * FROM pg_db_role_setting",
    "SELECT * FROM pg_roles",
    "SELECT * FROM pg_user_mappings",
    "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE prokind = 'f' AND oid > 16000",
    "SET client_min_messages = debug5; SET debug_print_plan = on; SET debug_print_parse = on; SELECT 1",
];

/// The same, where the functions of the strict role are: with a path and objects that would be found
/// first if they did not set their own.
const USELESS_AT_HOME: &[&str] = &[
    "CREATE TEMP TABLE pg_stat_activity (pid int, query text); SET search_path = pg_temp, pg_catalog; \
         SELECT * FROM matrix_postgres_exporter.pg_stat_activity()",
    "SET quote_all_identifiers = on; SET row_security = off; SET enable_seqscan = off; \
         SELECT * FROM matrix_postgres_exporter.pg_stat_activity()",
    "EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM matrix_postgres_exporter.pg_stat_activity()",
    "SELECT a FROM matrix_postgres_exporter.pg_stat_replication() AS a",
];

/// From a version on.
const LATER: &[(u32, &str)] = &[
    (14, "SELECT * FROM pg_backend_memory_contexts"),
    (
        14,
        "SELECT pg_log_backend_memory_contexts(pg_backend_pid())",
    ),
    (15, "SELECT pg_backup_start('mine')"),
    (15, "GRANT SET ON PARAMETER log_statement TO exporter"),
    (16, "SET ROLE pg_use_reserved_connections"),
    (16, "GRANT pg_use_reserved_connections TO synapse"),
];

/// Of contrib modules that somebody has installed; each is refused.
const CONTRIB: &[(&str, &str)] = &[
    ("amcheck", "SELECT bt_index_check('events_pkey')"),
    (
        "dblink",
        "SELECT dblink_connect('dbname=matrix user=postgres')",
    ),
    (
        "dblink",
        "SELECT * FROM dblink('dbname=matrix user=postgres ', 'SELECT json FROM event_json') AS t (json text)",
    ),
    (
        "dblink",
        "SELECT dblink_connect_u('dbname=matrix user=postgres')",
    ),
    (
        "file_fdw",
        "CREATE SERVER mine FOREIGN DATA WRAPPER file_fdw",
    ),
    ("pageinspect", "SELECT get_raw_page('event_json', 0)"),
    ("pg_buffercache", "SELECT * FROM pg_buffercache"),
    ("pg_freespacemap", "SELECT pg_freespace('event_json', 0)"),
    ("pg_prewarm", "SELECT pg_prewarm('event_json')"),
    (
        "pg_surgery",
        "SELECT heap_force_kill('event_json', ARRAY['(0,1)']::tid[])",
    ),
    (
        "pg_visibility",
        "SELECT pg_truncate_visibility_map('event_json')",
    ),
    (
        "pg_walinspect",
        "SELECT * FROM pg_get_wal_record_info(pg_current_wal_lsn())",
    ),
    ("pgrowlocks", "SELECT * FROM pgrowlocks('event_json')"),
    ("pgstattuple", "SELECT pgstattuple('event_json')"),
    (
        "postgres_fdw",
        "CREATE SERVER mine FOREIGN DATA WRAPPER postgres_fdw",
    ),
    (
        "tablefunc",
        "SELECT * FROM crosstab('SELECT event_id, event_id, json FROM event_json') AS t (a text, b text)",
    ),
    (
        "tablefunc",
        "SELECT * FROM connectby('event_json', 'json', 'event_id', 'x', 0) AS t (a text, b text, c int)",
    ),
    (
        "xml2",
        "SELECT * FROM xpath_table('event_id', 'json', 'event_json', '/', 'true') AS t (a text, b text)",
    ),
    ("adminpack", "SELECT pg_file_write('mine', 'mine', false)"),
    (
        "adminpack",
        "SELECT pg_file_rename('postgresql.conf', 'mine')",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_strict_role_comes_to_nothing_on_every_version() {
    let servers = MAJORS.map(|major| tokio::spawn(the_strict_role_comes_to_nothing(major)));
    for server in servers {
        server.await.unwrap();
    }
}

async fn the_strict_role_comes_to_nothing(major: u32) {
    let server = Postgres::builder(major).setting("max_prepared_transactions", "2");
    let (server, synapse) = with_secrets(server).await;
    let there: Vec<_> = CONTRIB.iter().map(|(module, _)| *module).collect();
    for module in &there {
        let make = format!(
            "DO $$BEGIN IF EXISTS (SELECT FROM pg_available_extensions WHERE name = '{module}') THEN
                 CREATE EXTENSION IF NOT EXISTS \"{module}\"; END IF; END$$"
        );
        server.sql("matrix", &make).await;
    }
    Role::Strict.create(&server, "exporter", &["matrix"]).await;
    server
        .sql("postgres", "BEGIN; SELECT 1; PREPARE TRANSACTION 'theirs'")
        .await;

    let before = kept(&server).await;
    let mut tried = 0;
    for (database, also_refused, also_useless) in [
        ("matrix", REFUSED_THERE, &[][..]),
        ("postgres", REFUSED_AT_HOME, USELESS_AT_HOME),
    ] {
        let mut attacker = Attacker::start(&server, database).await;
        let later = LATER.iter().filter(|(since, _)| major >= *since);
        let later = later.map(|(_, sql)| *sql);
        let of_modules = async |module: &str| {
            let installed = format!("SELECT count(*) FROM pg_extension WHERE extname = '{module}'");
            database == "matrix" && server.value(database, &installed).await.as_deref() == Some("1")
        };
        let mut refused: Vec<_> = REFUSED
            .iter()
            .chain(also_refused)
            .copied()
            .chain(later)
            .collect();
        for (module, sql) in CONTRIB {
            if of_modules(module).await {
                refused.push(sql);
            }
        }
        for sql in refused {
            let (code, said) = attacker.tries(sql).await;
            let refusals = ["42501", "2F003"];
            let code = code.as_deref().unwrap_or("none");
            assert!(
                refusals.contains(&code),
                "{major} {database}: {sql}: {code} {said}"
            );
            without_secrets(&said, sql);
            tried += 1;
        }
        for (wanted, sql) in REFUSED_OTHERWISE {
            let (code, said) = attacker.tries(sql).await;
            assert_eq!(
                code.as_deref(),
                Some(*wanted),
                "{major} {database}: {sql}: {said}"
            );
            tried += 1;
        }
        for sql in USELESS.iter().chain(also_useless) {
            let (code, said) = attacker.tries(sql).await;
            assert_eq!(code, None, "{major} {database}: {sql}: {said}");
            without_secrets(&said, sql);
            tried += 1;
        }
    }
    assert!(tried > 280, "{tried}");
    assert_eq!(kept(&server).await, before, "{major}");
    drop(synapse);
}

/// A server with an application's tables, which hold secrets, statistics of them, and a session of the
/// application that works with one.
async fn with_secrets(server: Builder<'static>) -> (Postgres, Client) {
    let server = make_synapse_like(server.start().await).await;
    let fill = "SET ROLE synapse;
        CREATE TABLE users (name text, password_hash text, deactivated smallint, creation_ts bigint);
        CREATE TABLE access_tokens (id bigint, token text, valid_until_ms bigint, puppets_user_id text);
        CREATE TABLE user_threepids (user_id text, medium text, address text);
        ALTER TABLE events ADD PRIMARY KEY (event_id);
        INSERT INTO event_json SELECT '$1', 'a letter' FROM generate_series(1, 200);
        INSERT INTO users SELECT 'name', 'hash-marker', 0, 0 FROM generate_series(1, 200);
        INSERT INTO access_tokens SELECT 1, 'token-marker', 1 FROM generate_series(1, 200);
        INSERT INTO user_threepids SELECT 'name', 'email', 'address-marker' FROM generate_series(1, 200);
        CREATE INDEX ON users (upper(password_hash));
        CREATE STATISTICS theirs (mcv) ON name, password_hash FROM users;
        SELECT lo_from_bytea(4242, 'object-marker')";
    server.sql("matrix", fill).await;
    server.sql("matrix", "VACUUM ANALYZE").await;
    let synapse = server.client("matrix", "synapse").await;
    rows(&synapse, "BEGIN; SELECT 'text-marker'").await;
    let shown =
        "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'text-marker' AND state ~ 'idle'";
    wait_for("the text is there", async || {
        server.value("postgres", shown).await.as_deref() == Some("1")
    })
    .await;
    (server, synapse)
}

fn without_secrets(said: &str, sql: &str) {
    // What was asked may be said again.
    let asked = SECRETS.iter().filter(|secret| !sql.contains(*secret));
    for secret in asked {
        assert!(!said.contains(secret), "{sql} shows {secret}: {said}");
    }
}

/// A session of the role's.
struct Attacker {
    client: Client,
    notices: Arc<Mutex<String>>,
}

impl Attacker {
    async fn start(server: &Postgres, database: &str) -> Self {
        let dsn = server.dsn(database, "exporter");
        let (client, mut connection) = tokio_postgres::connect(&dsn, NoTls).await.unwrap();
        let notices = Arc::new(Mutex::new(String::new()));
        let heard = notices.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await
            {
                if let AsyncMessage::Notice(notice) = message {
                    *heard.lock().unwrap() += &format!("{notice:?}\n");
                }
            }
        });
        Self { client, notices }
    }

    /// The code of the refusal, if it is one, and all that was said.
    async fn tries(&mut self, sql: &str) -> (Option<String>, String) {
        let answer = self.client.simple_query(sql).await;
        let (code, mut said) = match answer {
            Ok(messages) => (None, values(&messages)),
            Err(error) => {
                let code = error.code().map(|code| code.code().to_owned());
                (code.or(Some("lost".to_owned())), format!("{error:?}"))
            }
        };
        for clean in ["ROLLBACK", "RESET ALL", "DISCARD ALL"] {
            self.client.simple_query(clean).await.unwrap();
        }
        said += &std::mem::take(&mut *self.notices.lock().unwrap());
        (code, said)
    }
}

fn values(messages: &[SimpleQueryMessage]) -> String {
    let mut said = String::new();
    for message in messages {
        if let SimpleQueryMessage::Row(row) = message {
            for value in (0..row.len()).filter_map(|column| row.get(column)) {
                said += value;
                said.push('\n');
            }
        }
    }
    said
}

/// All that is kept in catalogs, of others than the role, without what goes with a session.
async fn kept(server: &Postgres) -> Vec<String> {
    const LASTING: &str = "!~ '^pg_(toast_)?temp_'";
    let mut kept = Vec::new();
    for database in ["matrix", "postgres", "template1"] {
        for (catalog, namespace) in [
            ("pg_namespace", "nspname"),
            ("pg_class", "relnamespace::regnamespace::text"),
            ("pg_proc", "pronamespace::regnamespace::text"),
            ("pg_operator", "oprnamespace::regnamespace::text"),
            ("pg_type", "typnamespace::regnamespace::text"),
            ("pg_collation", "collnamespace::regnamespace::text"),
            ("pg_conversion", "connamespace::regnamespace::text"),
            ("pg_statistic_ext", "stxnamespace::regnamespace::text"),
            ("pg_ts_config", "cfgnamespace::regnamespace::text"),
            ("pg_ts_dict", "dictnamespace::regnamespace::text"),
            ("pg_am", "''"),
            ("pg_auth_members", "''"),
            ("pg_authid", "''"),
            ("pg_cast", "''"),
            ("pg_database", "''"),
            ("pg_description", "''"),
            ("pg_event_trigger", "''"),
            ("pg_extension", "''"),
            ("pg_foreign_data_wrapper", "''"),
            ("pg_foreign_server", "''"),
            ("pg_language", "''"),
            ("pg_policy", "''"),
            ("pg_publication", "''"),
            ("pg_replication_origin", "''"),
            ("pg_replication_slots", "''"),
            ("pg_rewrite", "''"),
            ("pg_seclabel", "''"),
            ("pg_shdescription", "''"),
            ("pg_shseclabel", "''"),
            ("pg_subscription", "''"),
            ("pg_tablespace", "''"),
            ("pg_transform", "''"),
            ("pg_trigger", "''"),
            ("pg_user_mapping", "''"),
        ] {
            // Statistics on the tables themselves and their freezing go on.
            let row = "to_jsonb(c) - '{relpages,reltuples,relallvisible,relallfrozen,relfrozenxid,
                                       relminmxid,datfrozenxid,datminmxid}'::text[]";
            let digest = format!(
                "SELECT md5(string_agg(({row})::text, ' ' ORDER BY ({row})::text COLLATE \"C\"))
                   FROM pg_catalog.{catalog} AS c WHERE {namespace} {LASTING}"
            );
            let digest = server.value(database, &digest).await.unwrap_or_default();
            kept.push(format!("{database} {catalog} {digest}"));
        }
        let columns =
            "SELECT string_agg(attrelid::text || attacl::text, ' ' ORDER BY attrelid, attnum)
                         FROM pg_attribute WHERE attacl IS NOT NULL";
        kept.extend(server.value(database, columns).await);
        for of_others in [
            "SELECT string_agg(c::text, ' ' ORDER BY c::text) FROM pg_default_acl c
              WHERE defaclrole <> 'exporter'::regrole",
            "SELECT string_agg(c::text, ' ' ORDER BY c::text) FROM pg_db_role_setting c
              WHERE setrole <> 'exporter'::regrole",
        ] {
            kept.extend(server.value(database, of_others).await);
        }
    }
    kept
}
