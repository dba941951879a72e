//! Tables that may be large are read in pieces.
//!
//! A long statement holds back the removal of dead rows, and a migration has to wait for its end.
//! So such a table is walked through: a piece at a time, and after each piece a pause as long as
//! the piece took, with no transaction open. A walk that is not over when others
//! have their turn goes on from there in the next run.
//!
//! - [`pages`](super::pages): by ranges of pages, each read once; a single statement where that is
//!   short enough
//! - [`keys`](super::keys): in the order of a key, where rows of the same value have to come together

use super::harvest::Answer;
use super::keys::Keys;
use super::pages::{Pace, Pages};
use super::route::Route;
use super::{Harvest, QueryError, definition};

/// A walk through a table: how far it is, and what it has counted.
#[derive(Debug)]
pub(super) enum Walk {
    Pages(Pages),
    Keys(Keys),
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
