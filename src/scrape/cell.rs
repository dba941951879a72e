//! A value that concurrent callers share.
//!
//! Whoever asks while it is being read joins the one run that goes on; the run is driven by those
//! who wait for it, so that it ends (and its statement is cancelled) when nobody does any more.

use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;

/// The last value, and the run that reads the next.
pub struct Cell<T>(Mutex<State<T>>);

struct State<T> {
    latest: Option<Dated<T>>,
    running: Option<WeakShared<BoxFuture<'static, Arc<T>>>>,
}

struct Dated<T> {
    at: Instant,
    value: Arc<T>,
}

/// A value that is there, or will be.
pub type Awaited<T> = Shared<BoxFuture<'static, Arc<T>>>;

impl<T: Send + Sync + 'static> Cell<T> {
    /// The last value, and when it was set.
    pub fn latest(&self) -> Option<(Instant, Arc<T>)> {
        let state = self.0.lock();
        let dated = state.latest.as_ref()?;
        Some((dated.at, dated.value.clone()))
    }

    /// Sets the value.
    pub fn set(&self, value: Arc<T>) {
        let at = Instant::now();
        self.0.lock().latest = Some(Dated { at, value });
    }

    /// Changes the last value, which stays as old as it is.
    pub fn amend(&self, change: impl FnOnce(&mut T))
    where
        T: Clone,
    {
        if let Some(dated) = &mut self.0.lock().latest {
            change(Arc::make_mut(&mut dated.value));
        }
    }

    /// A value set since then; else that of the run that goes on; else that of a new run.
    pub fn get(
        self: &Arc<Self>,
        since: Instant,
        run: impl FnOnce() -> BoxFuture<'static, T>,
    ) -> Awaited<T> {
        let mut state = self.0.lock();
        if let Some(dated) = &state.latest
            && dated.at >= since
        {
            let value = dated.value.clone();
            return async { value }.boxed().shared();
        }
        if let Some(running) = state.running.as_ref().and_then(WeakShared::upgrade)
            && running.peek().is_none()
        {
            return running;
        }
        let cell = self.clone();
        let run = run();
        let running = async move {
            let value = Arc::new(run.await);
            cell.set(value.clone());
            value
        }
        .boxed()
        .shared();
        state.running = running.downgrade();
        running
    }
}

impl<T> Default for Cell<T> {
    fn default() -> Self {
        Self(Mutex::new(State {
            latest: None,
            running: None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn callers_share_a_run_and_what_it_brought_since_they_came() {
        let cell = Arc::new(Cell::default());
        let runs = AtomicU32::new(0);
        let came = Instant::now();
        let (go, wait) = oneshot::channel::<u32>();
        let run = |wait: oneshot::Receiver<u32>| {
            runs.fetch_add(1, Ordering::Relaxed);
            async { wait.await.unwrap() }.boxed()
        };
        let first = cell.get(came, || run(wait));
        let second = cell.get(came, || unreachable!("it joins"));
        go.send(7).unwrap();
        assert_eq!((*first.await, *second.await), (7, 7));
        let third = cell.get(came, || unreachable!("it was read after this caller came"));
        assert_eq!(*third.await, 7);
        let later = cell.get(Instant::now(), || async { 8 }.boxed());
        assert_eq!(*later.await, 8);
        assert_eq!(runs.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_run_that_nobody_waits_for_ends() {
        struct Ended(Option<oneshot::Sender<()>>);
        impl Drop for Ended {
            fn drop(&mut self) {
                let _ = self.0.take().unwrap().send(());
            }
        }
        let (ended, end) = oneshot::channel();
        let guard = Ended(Some(ended));
        let cell = Arc::new(Cell::<u32>::default());
        let waiting = cell.get(Instant::now(), || {
            async move {
                let _guard = guard;
                std::future::pending().await
            }
            .boxed()
        });
        assert!(waiting.clone().now_or_never().is_none());
        drop(waiting);
        end.await.expect("the run was dropped");
    }
}
