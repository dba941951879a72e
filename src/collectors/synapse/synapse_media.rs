//! Files that Synapse keeps.

use crate::query::{ALL, Collector, Query, Scope};

/// From `local_media_repository`, `remote_media_cache` and `local_media_repository_url_cache`.
///
/// Local files hold the pictures of URL previews too: what tells them apart is the URL, which
/// somebody wrote in a message. Thumbnails are not counted.
pub fn collector() -> Collector {
    Collector::new("synapse_media", "Files that Synapse keeps, and their size")
        .ttl(3600)
        .query(media!(
            "local",
            "local_media_repository",
            "media_id",
            ["media_id"]
        ))
        .query(media!(
            "remote",
            "remote_media_cache",
            "media_origin, media_id",
            ["media_origin", "media_id"]
        ))
        .query(
            Query::new("synapse_db")
                .scope(Scope::Synapse)
                .reads("local_media_repository_url_cache", &["expires_ts"])
                .sql(
                    ALL,
                    "SELECT current_database() AS datname, count(expires_ts) AS url_previews
                       FROM {schema}.local_media_repository_url_cache",
                )
                .label("datname")
                .gauge("url_previews", "Previews of web pages that are kept"),
        )
}

/// An upload that was announced and never came has no length, and is no file.
macro_rules! media {
    ($origin:literal, $table:literal, $key:literal, [$($column:literal),+]) => {
        Query::new("synapse_db")
            .scope(Scope::Synapse)
            .reads($table, &[$($column),+, "media_length", "quarantined_by"])
            .in_pieces($table, $key)
            .sql(
                ALL,
                concat!(
                    "SELECT current_database() AS datname, '",
                    $origin,
                    "' AS origin, count(media_length) AS media_files,
                            coalesce(sum(media_length), 0) AS media_bytes,
                            count(quarantined_by) AS media_files_quarantined
                       FROM {schema}.",
                    $table,
                    " WHERE {piece}"
                ),
            )
            .label("datname")
            .label("origin")
            .gauge(
                "media_files",
                "Files: uploaded here or pictures of URL previews (local), or fetched (remote)",
            )
            .gauge("media_bytes", "Size of these files, without thumbnails")
            .gauge(
                "media_files_quarantined",
                "Files that an administrator has put under quarantine",
            )
    };
}
use media;
