//! Any PostgreSQL.

super::collectors! {
    stat_archiver,
}
