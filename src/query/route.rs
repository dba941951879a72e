//! What all walks have in common: how long a piece may take, when it pauses, when it is tried again.

use std::time::{Duration, Instant};

use super::rows::Reader;
use super::{Harvest, QueryError, Reason, Statement};

/// How long a piece is to take; less where the statement timeout is near.
const AIM: Duration = Duration::from_millis(100);

/// How often in a row a piece is tried again that somebody's lock, or the replay on a standby, has
/// kept from being read.
const RETRIES: u32 = 2;

/// What of a walk stays the same.
pub(super) struct Route<'a> {
    pub statement: &'a Statement,
    pub reader: &'a Reader<'a>,
}

impl Route<'_> {
    /// How long a piece is to take.
    pub fn aim(&self) -> Duration {
        AIM.min(self.timeout() / 4)
    }

    /// How long a statement may take.
    pub fn timeout(&self) -> Duration {
        self.reader.context.timeout(self.reader.collector.scope)
    }

    /// Waits until then, or until others have their turn; says whether they have. Where there is no
    /// need to wait, they have none before something was read.
    pub async fn wait(&self, until: Instant, harvest: &mut Harvest) -> bool {
        until > Instant::now() && self.rest(until, harvest).await
    }

    /// Pauses after a piece until then, or until others have their turn; says whether they have.
    pub async fn rest(&self, until: Instant, harvest: &mut Harvest) -> bool {
        let pause = self.reader.context.pause;
        let rest = until.min(pause).saturating_duration_since(Instant::now());
        harvest.rested += rest;
        tokio::time::sleep(rest).await;
        Instant::now() >= pause
    }
}

/// How often in a row a piece could not be read.
#[derive(Debug, Default)]
pub(super) struct Refusals(u32);

impl Refusals {
    /// A piece was read.
    pub fn clear(&mut self) {
        self.0 = 0;
    }

    /// Whether to try again.
    pub fn may_pass(&mut self, error: &QueryError) -> bool {
        let passes = matches!(
            error.reason(),
            Reason::LockTimeout | Reason::RecoveryConflict
        );
        self.0 += 1;
        passes && self.0 <= RETRIES
    }
}
