//! How much of the time the work in the background takes, and how long its statements are.

use std::time::{Duration, Instant};

use super::buckets::{Task, What};

/// What a statement of the work is to take.
const AIM: Duration = Duration::from_millis(100);

/// The positions that such a statement spans at first, at least, and at most.
const SPAN: u64 = 8_192;
const SPAN_LEAST: u64 = 256;
const SPAN_MOST: u64 = 1 << 20;

/// What of the work may be done at once; a small database is counted with it.
const ADVANCE: Duration = Duration::from_secs(1);

/// What may be done at once when no work was done for a while.
const SLICE: Duration = Duration::from_secs(5);

/// The budget of the work, and the spans of its statements.
#[derive(Debug)]
pub struct Pace {
    /// What of the time may be used, in seconds; less than nothing after a long statement.
    budget: f64,
    earned: Instant,
    count_span: u64,
    total_span: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            budget: ADVANCE.as_secs_f64(),
            earned: Instant::now(),
            count_span: SPAN,
            total_span: SPAN,
        }
    }
}

impl Pace {
    /// Whether there is time, when this share of it may be used.
    pub fn has_time(&mut self, share: f64) -> bool {
        let earned = std::mem::replace(&mut self.earned, Instant::now()).elapsed();
        let most = SLICE.as_secs_f64();
        self.budget = (self.budget + share * earned.as_secs_f64()).min(most);
        self.budget > 0.0
    }

    /// How many positions a statement may span.
    pub fn span(&self, what: What) -> u64 {
        match what {
            What::Fill | What::Recount => self.count_span,
            What::Verify => self.total_span,
        }
    }

    /// A statement has taken so long. The next ones span twice as much while they are short, and
    /// half as much once they are long.
    pub fn took(&mut self, task: &Task, took: Duration, ended: bool) {
        self.budget -= took.as_secs_f64();
        let span = match task.what {
            What::Fill | What::Recount => &mut self.count_span,
            What::Verify => &mut self.total_span,
        };
        let whole = task.to - task.from >= *span;
        *span = match ended {
            false => *span / 8,
            true if took > AIM * 3 / 2 => *span / 2,
            true if took < AIM / 2 && whole => *span * 2,
            true => *span,
        };
        *span = (*span).clamp(SPAN_LEAST, SPAN_MOST);
    }
}
