//! Connection strings as libpq takes them. To come.
/// A parsed connection string.
#[derive(Clone, Debug)]
pub struct Dsn;
