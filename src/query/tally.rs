//! What the pieces of a walk say, added up.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::rows::{RowSamples, by_metric};
use super::{Cost, Query};
use crate::snapshot::{Labels, Metric, Sample, Snapshot};

/// The sum, or the largest, of what the pieces said of the same labels so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    sums: Vec<(Arc<Metric>, BTreeMap<Labels, f64>)>,
}

impl Tally {
    /// Adds the rows of a piece.
    pub fn add(&mut self, rows: Vec<RowSamples>, query: &Query) {
        let samples = rows.into_iter().flat_map(|row| row.samples);
        for (metric, samples) in by_metric(samples) {
            let known = self.sums.iter().position(|(of, _)| of.name == metric.name);
            let at = known.unwrap_or_else(|| {
                self.sums.push((metric.clone(), BTreeMap::new()));
                self.sums.len() - 1
            });
            let mut columns = query.columns.iter();
            let largest = columns.any(|c| c.largest && query.metric_name(c) == *metric.name);
            for Sample { labels, value } in samples {
                let sum = self.sums[at].1.entry(labels);
                sum.and_modify(|sum| match largest {
                    true => *sum = sum.max(value),
                    false => *sum += value,
                })
                .or_insert(value);
            }
        }
    }

    /// All of it, up to so many samples of a metric.
    pub fn end(self, limit: usize, cost: &mut Cost) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let mut beyond = 0;
        for (metric, sums) in self.sums {
            // Each piece has kept to the limit; together they may not.
            beyond = beyond.max(sums.len().saturating_sub(limit));
            let samples = sums.into_iter().take(limit);
            let samples = samples.map(|(labels, value)| Sample { labels, value });
            snapshot.extend(&metric, samples.collect());
        }
        cost.cut += beyond as u64;
        snapshot
    }
}
