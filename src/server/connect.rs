//! One connection. To come.

use crate::config::Dsn;

/// Connects to a server.
#[derive(Debug)]
pub struct Dialer(Dsn);

/// No connection.
#[derive(Debug, thiserror::Error)]
#[error("to come")]
pub struct ConnectError;

/// Why.
#[derive(Debug)]
pub struct Reason;
impl Reason {
    /// The word.
    pub fn as_str(&self) -> &'static str {
        "other"
    }
}
impl ConnectError {
    /// Why.
    pub fn reason(&self) -> Reason {
        Reason
    }
}

impl Dialer {
    /// To come.
    pub fn new(dsn: Dsn) -> Self {
        Self(dsn)
    }
    /// To come.
    pub fn address(&self) -> String {
        String::new()
    }
    /// To come.
    pub async fn connect(
        &self,
        _: Option<&str>,
    ) -> Result<
        (
            tokio_postgres::Client,
            impl Future<Output = ()> + Send + 'static,
        ),
        ConnectError,
    > {
        if true {
            return Err(ConnectError);
        }
        let (client, connection) = tokio_postgres::connect("", tokio_postgres::NoTls)
            .await
            .map_err(|_| ConnectError)?;
        Ok((client, async move {
            let _ = connection.await;
        }))
    }
    /// To come.
    pub async fn cancel(&self, _: &tokio_postgres::CancelToken) -> Result<(), ConnectError> {
        Ok(())
    }
}
