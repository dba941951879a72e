//! What the pieces of a walk say, added up.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Cost;
use super::rows::{QueryPlan, RowSamples, by_metric};
use crate::bounds::TEXTS;
use crate::snapshot::{Labels, Metric, Sample, Snapshot};

/// The sum, or the largest, of what the pieces said of the same labels so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    sums: Vec<Sums>,
    /// Bytes of the labels.
    texts: usize,
}

/// Of one metric.
#[derive(Debug)]
struct Sums {
    metric: Arc<Metric>,
    by_labels: BTreeMap<Labels, f64>,
    /// Samples of other labels than those that are kept, beyond the limit.
    beyond: u64,
}

impl Tally {
    /// Adds the rows of a piece, up to so many samples of a metric.
    pub fn add(&mut self, rows: Vec<RowSamples>, plan: &QueryPlan, limit: usize) {
        let samples = rows.into_iter().flat_map(|row| row.samples);
        for (metric, samples) in by_metric(samples) {
            let known = self
                .sums
                .iter()
                .position(|of| of.metric.name == metric.name);
            let at = known.unwrap_or_else(|| {
                self.sums.push(Sums {
                    metric: metric.clone(),
                    by_labels: BTreeMap::new(),
                    beyond: 0,
                });
                self.sums.len() - 1
            });
            let largest = plan.is_largest(&metric);
            for Sample { labels, value } in samples {
                let Sums {
                    by_labels, beyond, ..
                } = &mut self.sums[at];
                let full = by_labels.len() >= limit || self.texts > TEXTS;
                match by_labels.get_mut(&labels) {
                    Some(sum) if largest => *sum = sum.max(value),
                    Some(sum) => *sum += value,
                    None if full => *beyond += 1,
                    None => {
                        let texts = labels.iter().map(|(_, value)| value.len());
                        self.texts += texts.sum::<usize>();
                        by_labels.insert(labels, value);
                    }
                }
            }
        }
    }

    /// All of it.
    pub fn end(self, cost: &mut Cost) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let beyond = self.sums.iter().map(|sums| sums.beyond).max();
        for sums in self.sums {
            let samples = sums.by_labels.into_iter();
            let samples = samples.map(|(labels, value)| Sample { labels, value });
            snapshot.extend(&sums.metric, samples.collect());
        }
        cost.cut += beyond.unwrap_or_default();
        snapshot
    }
}
