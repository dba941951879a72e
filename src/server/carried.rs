//! Errors of ours that travel as errors of the driver.
//!
//! A pool of deadpool-postgres carries no others, and the one open door to them is an I/O error of
//! a connection's stream.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::NoTls;

/// An error of ours as one of the driver's.
pub async fn carry<E: Error + Send + Sync + Unpin + 'static>(error: E) -> tokio_postgres::Error {
    let attempt = tokio_postgres::Config::new()
        .user("nobody")
        .connect_raw(Failing(Some(error)), NoTls)
        .await;
    match attempt {
        Err(error) => error,
        Ok(_) => unreachable!("the stream fails at the first byte"),
    }
}

/// The error of ours that a pool's error carries.
pub fn carried<E: Error + Clone + 'static>(error: &(dyn Error + 'static)) -> Option<E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.get_ref()?.downcast_ref::<E>().cloned();
        }
        next = error.source();
    }
    None
}

/// A stream that fails at once, with this error.
struct Failing<E>(Option<E>);

impl<E: Error + Send + Sync + 'static> Failing<E> {
    fn fail<T>(&mut self) -> Poll<io::Result<T>> {
        Poll::Ready(Err(match self.0.take() {
            Some(error) => io::Error::other(error),
            None => io::ErrorKind::BrokenPipe.into(),
        }))
    }
}

impl<E: Error + Send + Sync + Unpin + 'static> AsyncRead for Failing<E> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.fail()
    }
}

impl<E: Error + Send + Sync + Unpin + 'static> AsyncWrite for Failing<E> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.fail()
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fail()
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, thiserror::Error)]
    #[error("the door is shut")]
    struct Shut;

    #[tokio::test]
    async fn an_error_arrives_as_it_was_sent() {
        let error = deadpool_postgres::PoolError::Backend(carry(Shut).await);
        assert_eq!(carried(&error), Some(Shut));
        assert_eq!(carried::<Shut>(&io::Error::other("another")), None);
    }
}
