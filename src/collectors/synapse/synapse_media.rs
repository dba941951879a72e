//! Files that Synapse keeps.

use crate::query::{ALL, Collector, Query};

/// From `local_media_repository`, `remote_media_cache`, the thumbnails of both and
/// `local_media_repository_url_cache`.
///
/// Local files hold the pictures of URL previews too: what tells them apart is the URL, which
/// somebody wrote in a message. The id of a file is never read: where Synapse does not ask who
/// downloads, it is all that a download needs.
pub fn collector() -> Collector {
    Collector::synapse("synapse_media", "Files that Synapse keeps, and their size")
        .ttl(3600)
        .query(local())
        .query(media!("remote", "remote_media_cache", [], ""))
        .query(thumbnails!("local", "local_media_repository_thumbnails"))
        .query(thumbnails!("remote", "remote_media_cache_thumbnails"))
        .query(previews())
}

/// An upload that was announced and never came has no length, and is no file. One that nobody ever
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
                            count(media_length) FILTER (WHERE unused) AS media_files_unused_90d,
                            coalesce(sum(media_length) FILTER (WHERE unused), 0)
                                AS media_bytes_unused_90d,
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
                "Files: uploaded here or pictures of URL previews (local), or fetched (remote)",
            )
            .gauge("media_bytes", "Size of these files, without thumbnails")
            .gauge(
                "media_files_unused_90d",
                "Such files that nobody has looked at for 90 days",
            )
            .gauge(
                "media_bytes_unused_90d",
                "Size of the files that nobody has looked at for 90 days, without thumbnails",
            )
            .gauge(
                "media_files_quarantined",
                "Files that an administrator has put under quarantine",
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
        "Uploads that were announced and never came, or are still to come",
    )
    .without_labels()
    .gauge(
        "media_files_protected",
        "Files uploaded here that an administrator has protected from quarantine",
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
                "Thumbnails, of which a picture has several",
            )
            .gauge("media_thumbnail_bytes", "Size of these thumbnails")
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
        .gauge("url_previews", "Previews of web pages that are kept")
        .gauge(
            "url_previews_expired",
            "Such previews whose time is over; Synapse clears them away as it goes",
        )
}
