//! Statistics views that the strict set-up replaces by functions.
//!
//! A role without `pg_monitor` sees nothing of other sessions, a role with it sees their query
//! texts, and these hold message bodies. The strict set-up gives the role functions instead that
//! return named columns without any text. A definition writes `{pg_stat_activity}` and means
//! either.

/// The schema of the functions, in the maintenance database.
pub const SCHEMA: &str = "matrix_postgres_exporter";

/// A view or function of the system, and the function that stands in for it.
#[derive(Debug)]
pub struct View {
    /// The placeholder's name, and the function's.
    pub name: &'static str,
    /// What a role that may read it writes in FROM.
    pub plain: &'static str,
    /// The role that may read it: membership is asked of the server.
    pub privilege: &'static str,
    /// What the function returns: the list after RETURNS TABLE.
    pub columns: &'static str,
    /// What the function selects: named columns, in the order of `columns`.
    pub body: &'static str,
}

/// Every view that has a placeholder.
pub const VIEWS: &[View] = &[];
