//! Of users, what they have and what they send.

use super::{ByLabel, Left};

/// Rows as Synapse leaves them, and what is served of them.
pub const LEFT: &[Left] = &[
    // media
    (
        "INSERT INTO remote_media_cache
                (media_origin, media_id, media_type, created_ts, media_length, filesystem_id,
                 quarantined_by)
         VALUES ('well.example', 'one', 'image/png', pg_temp.ago(9), 2000000000, 'one', NULL),
                ('well.example', 'two', 'image/png', pg_temp.ago(9), 2000000000, 'two', 'admin');
         INSERT INTO local_media_repository (media_id, media_length, created_ts)
         VALUES ('announced', NULL, pg_temp.ago(9));
         INSERT INTO local_media_repository_url_cache (url, download_ts, expires_ts)
         VALUES ('https://well.example', pg_temp.ago(9), pg_temp.ago(-9))",
        &[
            ("synapse_db_media_files", &[("origin", "remote")], 2.0),
            ("synapse_db_media_bytes", &[("origin", "remote")], 4e9),
            (
                "synapse_db_media_files_quarantined",
                &[("origin", "remote")],
                1.0,
            ),
            (
                "synapse_db_media_files_quarantined",
                &[("origin", "local")],
                0.0,
            ),
            ("synapse_db_url_previews", &[], 1.0),
        ],
    ),
];

/// Metrics with a label, and the queries that give the same.
pub const BY_LABEL: &[ByLabel] = &[
    (
        "synapse_db_media_files",
        "origin",
        "SELECT 'local', count(*) FROM local_media_repository WHERE media_length IS NOT NULL",
    ),
    (
        "synapse_db_media_bytes",
        "origin",
        "SELECT 'local', sum(media_length) FROM local_media_repository",
    ),
];
