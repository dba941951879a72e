//! Settings with their units.

use crate::support::exporter::Exporter;
use crate::support::postgres::{MAJORS, Postgres};

#[tokio::test(flavor = "multi_thread")]
async fn settings() {
    for major in MAJORS {
        let server = Postgres::builder(major)
            .setting("statement_timeout", "'90s'")
            .setting("lock_timeout", "'1500ms'")
            .setting("work_mem", "'6MB'")
            .setting("log_min_duration_statement", "-1")
            .setting("idle_in_transaction_session_timeout", "'2h'")
            .start()
            .await;
        // Another reckoning: SHOW writes units, and functions of the server read them.
        let answers = server
            .sql(
                "postgres",
                "SELECT regexp_replace(name, '[^A-Za-z0-9_]', '_', 'g')
                          || CASE WHEN unit IS NULL THEN '' WHEN unit ~ '^(ms|s|min)$'
                                  THEN '_seconds' ELSE '_bytes' END,
                        CASE WHEN vartype = 'bool' THEN (current_setting(name) = 'on')::int
                             WHEN unit IS NULL THEN current_setting(name)::float8
                             WHEN unit ~ '^(ms|s|min)$'
                             THEN extract(epoch FROM current_setting(name)::interval)
                             ELSE pg_size_bytes(regexp_replace(current_setting(name), '(?<=\\d)B$', ''))
                        END
                   FROM pg_settings
                  WHERE vartype IN ('bool', 'integer', 'real') AND name <> 'is_superuser'",
            )
            .await;
        assert!(answers.len() > 200);
        let exporter = Exporter::watch(&server.dsn("postgres", "postgres"), &[]).await;
        let page = exporter.scrape().await;
        for answer in answers {
            let name = format!("pg_settings_{}", answer[0].as_deref().unwrap());
            let expected: f64 = answer[1].as_deref().unwrap().parse().unwrap();
            let value = page.value(&name, &[]);
            assert_eq!(value, Some(expected), "{major} {name}");
        }
        for (name, expected) in [
            ("pg_settings_shared_buffers_bytes", 134_217_728.0),
            ("pg_settings_work_mem_bytes", 6_291_456.0),
            ("pg_settings_wal_segment_size_bytes", 16_777_216.0),
            ("pg_settings_max_wal_size_bytes", 1_073_741_824.0),
            ("pg_settings_statement_timeout_seconds", 90.0),
            ("pg_settings_lock_timeout_seconds", 1.5),
            (
                "pg_settings_idle_in_transaction_session_timeout_seconds",
                7200.0,
            ),
            ("pg_settings_checkpoint_timeout_seconds", 300.0),
            ("pg_settings_bgwriter_delay_seconds", 0.2),
            ("pg_settings_log_min_duration_statement_seconds", -1.0),
            ("pg_settings_max_slot_wal_keep_size_bytes", -1.0),
            ("pg_settings_random_page_cost", 4.0),
            ("pg_settings_fsync", 0.0),
            ("pg_settings_jit", 1.0),
            ("pg_settings_transaction_read_only", 0.0),
        ] {
            assert_eq!(page.value(name, &[]), Some(expected), "{major} {name}");
        }
    }
}
