//! Files that Synapse keeps.

use crate::query::{ALL, Collector, Query};

/// From `local_media_repository`, `remote_media_cache`, the thumbnails of both and
/// `local_media_repository_url_cache`.
///
/// Local files hold the pictures of URL previews too: what tells them apart is the URL, which
/// somebody wrote in a message. The id of a file is never read: where Synapse does not ask who
/// downloads, it is all that a download needs.
pub fn collector() -> Collector {
    Collector::synapse("synapse_media", "Number and size of media files")
        .ttl(3600)
        .query(local())
        .query(media!("remote", "remote_media_cache", [], ""))
        .query(thumbnails!("local", "local_media_repository_thumbnails"))
        .query(thumbnails!("remote", "remote_media_cache_thumbnails"))
        .query(previews())
}

/// An upload that was announced and never came has no length, and is not a file. One that nobody ever
/// looked at is as old as itself, as it is to Synapse when it deletes what is not used.
macro_rules! media {
    ($origin:literal, $table:literal, [$($column:literal),*], $more:literal) => {
        Query::new()
            .reads(
                $table,
                &[
                    "media_length",
                    "quarantined_by",
                    "last_access_ts",
                    "created_ts",
                    $($column),*
                ],
            )
            .by_pages($table)
            .sql(
                ALL,
                concat!(
                    "SELECT '",
                    $origin,
                    "' AS origin, count(media_length) AS media_files,
                            coalesce(sum(media_length), 0) AS media_bytes,
                            count(media_length) FILTER (WHERE unused)
                                AS media_files_not_accessed_90d,
                            coalesce(sum(media_length) FILTER (WHERE unused), 0)
                                AS media_bytes_not_accessed_90d,
                            count(quarantined_by) AS media_files_quarantined",
                    $more,
                    "  FROM (SELECT media_length, quarantined_by, ",
                    $($column, ", ",)*
                    "
                                    coalesce(last_access_ts, created_ts)
                                    < (SELECT (extract(epoch FROM now())::bigint - 7776000) * 1000)
                                    AS unused
                               FROM {schema}.",
                    $table,
                    "         WHERE {pages}) AS m"
                ),
            )
            .label("origin")
            .gauge(
                "media_files",
                "Media files: uploaded here or images of URL previews (local), or fetched from \
                 remote homeservers (remote)",
            )
            .gauge("media_bytes",
                "Size of media files without thumbnails, in bytes")
            .gauge(
                "media_files_not_accessed_90d",
                "Media files that nobody has accessed for 90 days",
            )
            .gauge(
                "media_bytes_not_accessed_90d",
                "Size of media files that nobody has accessed for 90 days, without thumbnails, in \
                 bytes",
            )
            .gauge(
                "media_files_quarantined",
                "Media files that an administrator has quarantined",
            )
    };
}
use media;

fn local() -> Query {
    media!(
        "local",
        "local_media_repository",
        ["safe_from_quarantine"],
        ", count(*) FILTER (WHERE media_length IS NULL) AS media_uploads_pending,
           count(*) FILTER (WHERE safe_from_quarantine) AS media_files_protected"
    )
    .gauge(
        "media_uploads_pending",
        "Media ids that were created and whose file is not uploaded, or not yet",
    )
    .without_labels()
    .gauge(
        "media_files_protected",
        "Local media files that an administrator has protected from quarantine",
    )
    .without_labels()
}

macro_rules! thumbnails {
    ($origin:literal, $table:literal) => {
        Query::new()
            .reads($table, &["thumbnail_length"])
            .by_pages($table)
            .sql(
                ALL,
                concat!(
                    "SELECT '",
                    $origin,
                    "' AS origin, count(*) AS media_thumbnails,
                            coalesce(sum(thumbnail_length), 0) AS media_thumbnail_bytes
                       FROM {schema}.",
                    $table,
                    " WHERE {pages}"
                ),
            )
            .label("origin")
            .gauge(
                "media_thumbnails",
                "Thumbnails of media files; an image has several",
            )
            .gauge("media_thumbnail_bytes", "Size of thumbnails, in bytes")
    };
}
use thumbnails;

fn previews() -> Query {
    Query::new()
        .reads("local_media_repository_url_cache", &["expires_ts"])
        .by_pages("local_media_repository_url_cache")
        .sql(
            ALL,
            "SELECT count(*) AS url_previews,
                    count(*) FILTER (
                        WHERE expires_ts < (SELECT extract(epoch FROM now())::bigint * 1000))
                        AS url_previews_expired
               FROM {schema}.local_media_repository_url_cache
              WHERE {pages}",
        )
        .gauge("url_previews", "Stored URL previews")
        .gauge(
            "url_previews_expired",
            "Stored URL previews that have expired and that Synapse has not deleted yet",
        )
}
