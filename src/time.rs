//! Time limits for others that count only while this process runs.
//!
//! A process that was stopped, or was given no CPU, finds a time limit over before it has looked for
//! what came meanwhile: it would call a server silent that has answered.

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::time::error::Elapsed;

/// How long is waited at once. What takes twice as long was a time in which this process did not run.
const STEP: Duration = Duration::from_millis(250);

/// Waits for the work so long at most.
///
/// # Errors
///
/// Fails when the time is over.
pub async fn timeout<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, Elapsed> {
    let mut work = pin!(work);
    let mut left = limit;
    loop {
        let step = left.min(STEP);
        let begun = Instant::now();
        let ended = tokio::time::timeout(step, &mut work).await;
        let took = begun.elapsed();
        if took < step + STEP {
            left = left.saturating_sub(took);
        }
        if ended.is_ok() || left.is_zero() {
            return ended;
        }
    }
}

/// The same, until a moment that comes later by the time in which this process does not run.
///
/// # Errors
///
/// Fails when the time is over.
pub async fn timeout_at<T>(deadline: Instant, work: impl Future<Output = T>) -> Result<T, Elapsed> {
    timeout(deadline.saturating_duration_since(Instant::now()), work).await
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::thread;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_limit_is_kept() {
        let begun = Instant::now();
        let limit = Duration::from_millis(600);
        assert!(timeout(limit, pending::<()>()).await.is_err());
        assert!(begun.elapsed() >= limit);
        assert!(timeout(Duration::ZERO, pending::<()>()).await.is_err());
        assert_eq!(timeout(Duration::ZERO, async { 7 }).await, Ok(7));
    }

    /// All of the runtime does not advance, as when the process is stopped.
    #[tokio::test]
    async fn time_in_which_nothing_runs_does_not_count() {
        let (answer, answered) = oneshot::channel();
        let work = async {
            // Whoever answers is at work only after the one who waits was looked at.
            tokio::spawn(async move {
                thread::sleep(Duration::from_secs(2));
                tokio::task::yield_now().await;
                answer.send(7)
            });
            answered.await
        };
        let limit = Duration::from_millis(100);
        assert_eq!(timeout(limit, work).await.unwrap(), Ok(7));
    }
}
