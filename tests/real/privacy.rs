//! While people write to each other, nothing of it is shown: not by the exporter, and not to
//! anybody who logs in with its role.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use matrix_postgres_exporter::collectors::Registry;
use matrix_postgres_exporter::collectors::synapse::SYNAPSE;
use matrix_postgres_exporter::query::view::VIEWS;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::support::attack::refusal;
use super::support::exporter::Exporter;
use super::support::postgres::{Postgres, rows};
use super::support::process::wait_for;
use super::support::roles::Role;
use super::support::synapse::{Made, NEW, OLD, Synapse};

/// How long the strict role looks at what others do, at least.
const WATCH: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn no_message_is_shown_on_13() {
    no_message_is_shown(13, OLD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_is_shown_on_14() {
    no_message_is_shown(14, NEW).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_is_shown_on_18() {
    no_message_is_shown(18, NEW).await;
}

async fn no_message_is_shown(major: u32, version: &str) {
    let server = Postgres::builder(major).pg_stat_statements().start().await;
    let (synapse, made) = Synapse::start(&server, version).await;
    for database in ["postgres", "synapse"] {
        server
            .sql(database, "CREATE EXTENSION pg_stat_statements")
            .await;
    }
    Role::Strict.create(&server, "exporter", &["synapse"]).await;
    Role::PgMonitor
        .create(&server, "monitor", &["synapse"])
        .await;
    let secrets = secrets(&server, &made).await;
    let exporter = Exporter::watch(
        &server.dsn("synapse", "exporter"),
        &["--log.level", "trace"],
    )
    .await;

    synapse.talk().await;
    let monitor = server.client("postgres", "monitor").await;
    let seen = format!(
        "SELECT count(*) FROM pg_stat_activity \
         WHERE query LIKE '%{}%' AND pid <> pg_backend_pid()",
        made.marker
    );
    wait_for("pg_monitor sees a message", || async {
        rows(&monitor, &seen).await[0][0].as_deref() != Some("0")
    })
    .await;

    let strict = [
        server.client("postgres", "exporter").await,
        server.client("synapse", "exporter").await,
    ];
    let started = Instant::now();
    let mut rounds = 0;
    while started.elapsed() < WATCH || rounds < 5 {
        for client in strict.iter().cycle().take(10) {
            for question in OTHERS_SESSIONS {
                let answer = ask(client, question).await;
                assert_without(&secrets, &answer, question);
            }
        }
        for path in ["/metrics", "/"] {
            let answer = exporter.get(path).await;
            assert_eq!(answer.status, 200);
            assert_without(&secrets, answer.text(), path);
        }
        rounds += 1;
    }
    for client in &strict {
        let mut asked = 0;
        for question in everything(client).await {
            let answer = ask(client, &question).await;
            assert_without(&secrets, &answer, &question);
            asked += 1;
        }
        assert!(asked > 250, "{asked}");
    }
    synapse.hush().await;
    let (_, log) = exporter.stop().await;
    assert!(
        log.contains("level=debug"),
        "the log tells what happens: {log}"
    );
    assert_without(&secrets, &log, "the log");
    only_what_is_declared_can_be_read(&server, version).await;
    nothing_is_changed_and_no_content_read(&server).await;
}

/// Every column of every table is asked for, and the strict role gets those that a definition reads.
async fn only_what_is_declared_can_be_read(server: &Postgres, version: &str) {
    let columns = "
        SELECT c.relname, a.attname
          FROM pg_class c
          JOIN pg_attribute a ON a.attrelid = c.oid
         WHERE c.relnamespace = 'public'::regnamespace AND NOT a.attisdropped
           AND c.relkind IN ('r', 'v', 'm', 'f', 'p', 'S')
           AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')";
    let columns: BTreeSet<[String; 2]> = server
        .sql("synapse", columns)
        .await
        .into_iter()
        .map(|row| [0, 1].map(|position| row[position].clone().unwrap()))
        .collect();
    assert!(columns.len() > 1000, "{}", columns.len());
    let declared: BTreeSet<_> = Registry::built_in()
        .reads(&SYNAPSE)
        .into_iter()
        .flat_map(|(table, columns)| columns.into_iter().map(move |column| [table, column]))
        .map(|names| names.map(str::to_owned))
        .collect();

    let strict = server.client("synapse", "exporter").await;
    let mut readable = BTreeSet::new();
    for [table, column] in &columns {
        let read = format!("SELECT \"{column}\" FROM public.\"{table}\" LIMIT 0");
        match strict.simple_query(&read).await {
            Ok(_) => drop(readable.insert([table.clone(), column.clone()])),
            Err(error) => {
                let code = error.code().map(|code| code.code());
                assert_eq!(code, Some("42501"), "{read}: {error:?}");
            }
        }
    }
    let expected: BTreeSet<_> = columns.intersection(&declared).cloned().collect();
    let more: Vec<_> = readable.difference(&expected).collect();
    let less: Vec<_> = expected.difference(&readable).collect();
    assert!(
        more.is_empty() && less.is_empty(),
        "readable: {more:?}; not readable: {less:?}"
    );

    let speaks = |[_, column]: &[String; 2]| {
        column == "ip" || TELLING.iter().any(|word| column.contains(word))
    };
    let harmless = HARMLESS.map(|names| names.map(str::to_owned));
    let told = readable
        .iter()
        .filter(|names| speaks(names) && !harmless.contains(names));
    let told: Vec<_> = told.collect();
    assert!(
        told.is_empty(),
        "what its name says must not be read: {told:?}"
    );
    for names in SECRET {
        let names = names.map(str::to_owned);
        assert!(!readable.contains(&names), "{names:?} is read");
        // The list is of the newest Synapse.
        assert!(
            version != NEW || columns.contains(&names),
            "there is no {names:?}"
        );
    }
}

/// What a column is called that may hold what people write, or what lets somebody in.
const TELLING: [&str; 17] = [
    "address", "agent", "avatar", "body", "content", "display", "hash", "json", "keydata",
    "media_id", "password", "reason", "secret", "token", "topic", "url", "vector",
];

/// Called so, and holds how far a background update is, a word of Synapse's own, a number.
const HARMLESS: [[&str; 2]; 3] = [
    ["background_updates", "progress_json"],
    ["events", "rejection_reason"],
    ["refresh_tokens", "next_token_id"],
];

/// The worst.
const SECRET: [[&str; 2]; 51] = [
    ["access_tokens", "token"],
    ["account_data", "content"],
    ["account_validity", "renewal_token"],
    ["dehydrated_devices", "device_data"],
    ["delayed_events", "content"],
    ["device_federation_outbox", "messages_json"],
    ["device_inbox", "message_json"],
    ["device_lists_remote_cache", "content"],
    ["devices", "display_name"],
    ["devices", "ip"],
    ["devices", "user_agent"],
    ["e2e_cross_signing_keys", "keydata"],
    ["e2e_device_keys_json", "key_json"],
    ["e2e_fallback_keys_json", "key_json"],
    ["e2e_one_time_keys_json", "key_json"],
    ["e2e_room_keys", "session_data"],
    ["e2e_room_keys_versions", "auth_data"],
    ["event_json", "json"],
    ["event_reports", "content"],
    ["event_search", "vector"],
    ["federation_inbound_events_staging", "event_json"],
    ["local_media_repository", "media_id"],
    ["local_media_repository", "upload_name"],
    ["local_media_repository_thumbnails", "media_id"],
    ["login_tokens", "token"],
    ["open_id_tokens", "token"],
    ["profiles", "displayname"],
    ["pushers", "access_token"],
    ["pushers", "data"],
    ["pushers", "pushkey"],
    ["received_transactions", "response_json"],
    ["refresh_tokens", "token"],
    ["registration_tokens", "token"],
    ["remote_media_cache", "filesystem_id"],
    ["remote_media_cache", "media_id"],
    ["remote_media_cache", "upload_name"],
    ["remote_media_cache_thumbnails", "filesystem_id"],
    ["remote_media_cache_thumbnails", "media_id"],
    ["room_account_data", "content"],
    ["sessions", "value"],
    ["threepid_validation_session", "client_secret"],
    ["threepid_validation_token", "token"],
    ["ui_auth_sessions", "clientdict"],
    ["ui_auth_sessions", "session_id"],
    ["ui_auth_sessions_ips", "ip"],
    ["user_external_ids", "external_id"],
    ["user_ips", "access_token"],
    ["user_ips", "ip"],
    ["user_ips", "user_agent"],
    ["user_threepids", "address"],
    ["users", "password_hash"],
];

/// What shows other sessions, or what they run.
const OTHERS_SESSIONS: [&str; 6] = [
    "SELECT * FROM pg_catalog.pg_stat_activity",
    "SELECT * FROM pg_catalog.pg_stat_get_activity(NULL)",
    "SELECT pg_catalog.pg_stat_get_backend_activity(id) \
     FROM pg_catalog.pg_stat_get_backend_idset() AS id",
    "SELECT * FROM public.pg_stat_statements",
    "SELECT * FROM public.pg_stat_statements(true)",
    "SELECT * FROM matrix_postgres_exporter.pg_stat_activity()",
];

/// What nobody may see: the text of every message, what passwords are kept as, tokens.
async fn secrets(server: &Postgres, made: &Made) -> BTreeSet<String> {
    let kept = "SELECT password_hash FROM users WHERE password_hash <> '' \
                UNION SELECT token FROM access_tokens";
    let kept = server
        .sql("synapse", kept)
        .await
        .into_iter()
        .flatten()
        .flatten();
    let secrets: BTreeSet<_> = kept.chain([made.marker.clone()]).collect();
    assert!(secrets.len() > 20, "{}", secrets.len());
    secrets
}

fn assert_without(secrets: &BTreeSet<String>, text: &str, place: &str) {
    let found = secrets.iter().find(|secret| text.contains(*secret));
    assert_eq!(found, None, "{place} shows it");
}

/// All values of an answer; a refusal is one without any.
async fn ask(client: &Client, question: &str) -> String {
    let mut text = String::new();
    for message in client.simple_query(question).await.unwrap_or_default() {
        if let SimpleQueryMessage::Row(row) = message {
            for value in (0..row.len()).filter_map(|column| row.get(column)) {
                text.push_str(value);
                text.push('\n');
            }
        }
    }
    text
}

/// Every column that the role may read, of every table and view, and every function that it may
/// call without an argument.
async fn everything(client: &Client) -> Vec<String> {
    let questions = "
        SELECT format('SELECT %s FROM %I.%I',
                      string_agg(quote_ident(a.attname), ', '), n.nspname, c.relname)
          FROM pg_class c
          JOIN pg_namespace n ON n.oid = c.relnamespace
          JOIN pg_attribute a ON a.attrelid = c.oid
         WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p', 'S') AND NOT a.attisdropped
           AND has_schema_privilege(n.oid, 'USAGE')
           AND has_column_privilege(c.oid, a.attnum, 'SELECT')
         GROUP BY n.nspname, c.relname
        UNION ALL
        SELECT format('SELECT * FROM %I.%I()', n.nspname, p.proname)
          FROM pg_proc p
          JOIN pg_namespace n ON n.oid = p.pronamespace
         WHERE p.pronargs = p.pronargdefaults AND p.prokind = 'f'
           AND has_schema_privilege(n.oid, 'USAGE') AND has_function_privilege(p.oid, 'EXECUTE')";
    rows(client, "SET statement_timeout = '10s'").await;
    let questions = rows(client, questions).await;
    questions.into_iter().flatten().flatten().collect()
}

/// What the role may not do, and who may do something with what it calls.
async fn nothing_is_changed_and_no_content_read(server: &Postgres) {
    let synapse = server.client("synapse", "exporter").await;
    let home = server.client("postgres", "exporter").await;
    for forbidden in [
        "SELECT json FROM event_json",
        "SELECT * FROM events",
        "SELECT password_hash FROM users",
        "SELECT ip FROM user_ips",
        "SELECT user_agent FROM devices",
        "SELECT token FROM access_tokens",
        "SELECT name FROM room_stats_state",
        "SELECT upload_name FROM local_media_repository",
        "SELECT count(media_id) FROM local_media_repository",
        "SELECT media_id FROM remote_media_cache",
        "UPDATE users SET deactivated = 1",
        "DELETE FROM background_updates",
        "TRUNCATE users",
        "DO $$BEGIN LOCK TABLE users; END$$",
        "ALTER TABLE users ADD mine text",
        "SELECT nextval('events_stream_seq')",
        "CREATE SCHEMA mine",
    ] {
        assert_eq!(refusal(&synapse, forbidden).await, "42501", "{forbidden}");
    }
    for forbidden in [
        "CREATE TABLE matrix_postgres_exporter.mine ()",
        "CREATE FUNCTION matrix_postgres_exporter.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE SCHEMA mine",
        "SELECT pg_read_file('postgresql.conf')",
        "SELECT pg_ls_waldir()",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "CREATE ROLE mine",
        "SET ROLE matrix_postgres_exporter_owner",
    ] {
        assert_eq!(refusal(&home, forbidden).await, "42501", "{forbidden}");
    }
    for client in [&synapse, &home] {
        let create = "CREATE TABLE public.mine ()";
        assert_eq!(refusal(client, create).await, "42501");
    }

    let functions = "
        SELECT p.proname, p.prosecdef, p.proconfig, r.rolname, r.rolcanlogin, r.rolsuper,
               (SELECT count(*) FROM aclexplode(p.proacl) a WHERE a.grantee = 0) AS of_all,
               (SELECT count(*) FROM aclexplode(n.nspacl) a WHERE a.grantee = 0) AS to_all,
               p.proacl IS NOT NULL AND n.nspacl IS NOT NULL
          FROM pg_proc p
          JOIN pg_namespace n ON n.oid = p.pronamespace
          JOIN pg_roles r ON r.oid = p.proowner
         WHERE n.nspname = 'matrix_postgres_exporter'";
    let functions = server.sql("postgres", functions).await;
    assert_eq!(functions.len(), VIEWS.len());
    for function in functions {
        let properties: Vec<_> = function[1..].iter().flatten().map(String::as_str).collect();
        let wanted = [
            "t",
            r#"{"search_path=pg_catalog, pg_temp"}"#,
            "matrix_postgres_exporter_owner",
            "f",
            "f",
            "0",
            "0",
            "t",
        ];
        assert_eq!(properties, wanted, "{function:?}");
    }
    let writers = "SELECT string_agg(rolname, ' ') FROM pg_roles \
                   WHERE NOT rolsuper AND rolname <> 'matrix_postgres_exporter_owner' \
                     AND has_schema_privilege(oid, 'matrix_postgres_exporter', 'CREATE')";
    assert_eq!(server.value("postgres", writers).await, None);
    let memberships = "SELECT string_agg(m.roleid::regrole::text, ' ') FROM pg_auth_members m \
                       WHERE m.member = 'exporter'::regrole \
                         AND m.roleid::regrole::text <> 'pg_use_reserved_connections'";
    assert_eq!(server.value("postgres", memberships).await, None);
    // Nothing was made in the application's database.
    let made = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'matrix%'";
    assert_eq!(server.value("synapse", made).await.unwrap(), "0");
}
