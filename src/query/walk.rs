//! Tables that may be large are read in pieces.
//!
//! A long statement holds back the removal of dead rows, and a migration has to wait for its end.
//! So such a table is walked through: a piece at a time, of about [`AIM`], and after each piece a
//! rest as long as the piece took, with no transaction open. A walk that is not over when others
//! have their turn goes on from there in the next run.
//!
//! - [`pages`](super::pages): by ranges of pages, each read once; a single statement where that is
//!   short enough
//! - [`keys`](super::keys): in the order of a key, where rows of the same value have to come together

use std::time::{Duration, Instant};

use super::harvest::Answer;
use super::keys::Keys;
use super::pages::{Pace, Pages};
use super::rows::Reader;
use super::{Harvest, QueryError, Reason, Statement, definition};

/// How long a piece is to take; less where the statement timeout is near.
const AIM: Duration = Duration::from_millis(100);

/// How often in a row a piece is tried again that somebody's lock, or the replay on a standby, has
/// kept from being read.
const RETRIES: u32 = 2;

/// A walk through a table: how far it is, and what it has counted.
#[derive(Debug)]
pub(super) enum Walk {
    Pages(Pages),
    Keys(Keys),
}

/// What of a walk stays the same.
pub(super) struct Route<'a> {
    pub statement: &'a Statement,
    pub reader: &'a Reader<'a>,
}

impl Walk {
    /// Nothing is read yet.
    pub fn begin(walk: &definition::Walk) -> Self {
        match walk {
            definition::Walk::Pages { table } => Self::Pages(Pages::begin(table)),
            definition::Walk::Keys(key) => Self::Keys(Keys::begin(walk.table(), key.clone())),
        }
    }

    /// Goes on until the end of the table, or until others have their turn: then it brings nothing.
    pub async fn go_on(
        &mut self,
        route: &Route<'_>,
        pace: &mut Pace,
        harvest: &mut Harvest,
    ) -> Result<Option<Answer>, QueryError> {
        match self {
            Self::Pages(pages) => pages.go_on(route, pace, harvest).await,
            Self::Keys(keys) => keys.go_on(route, harvest).await,
        }
    }
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

    /// Rests after a piece until then, or until others have their turn; says whether they have.
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
