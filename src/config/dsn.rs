//! Connection strings as libpq takes them. To come.
/// A parsed connection string.
#[derive(Clone, Debug)]
pub struct Dsn;

impl Dsn {
    /// To come.
    pub fn database(&self) -> String {
        String::new()
    }
}
