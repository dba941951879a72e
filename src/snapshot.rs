//! The families of one scrape.
//!
//! A [`Snapshot`] is what a scrape has gathered so far: families by name, each with its samples.
//! It merges what several databases (and servers) give to the same family, and drops a second
//! sample with the labels of a first.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// Everything one scrape serves, ordered by family name.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    families: BTreeMap<Arc<str>, Family>,
}

impl Snapshot {
    /// Adds one sample; its family is made on first sight, with the help text given then.
    pub fn push(&mut self, metric: &Arc<Metric>, sample: Sample) {
        let family = self
            .families
            .entry(metric.name.clone())
            .or_insert_with(|| Family {
                metric: metric.clone(),
                samples: Vec::new(),
            });
        family.samples.push(sample);
    }

    /// Adds many samples of one metric.
    pub fn extend(&mut self, metric: &Arc<Metric>, samples: Vec<Sample>) {
        match self.families.get_mut(&metric.name) {
            Some(family) => family.samples.extend(samples),
            None => {
                let metric = metric.clone();
                let family = Family { metric, samples };
                self.families.insert(family.metric.name.clone(), family);
            }
        }
    }

    /// The sum of all samples of a metric, if it has any.
    pub fn sum(&self, metric: &str) -> Option<f64> {
        let samples = &self.families.get(metric)?.samples;
        let values = samples.iter().map(|sample| sample.value);
        (!samples.is_empty()).then(|| values.sum())
    }

    /// Adds a copy of the samples of another snapshot.
    pub fn merge(&mut self, other: &Self) {
        for (name, family) in &other.families {
            match self.families.get_mut(name) {
                Some(known) => known.samples.extend_from_slice(&family.samples),
                None => drop(self.families.insert(name.clone(), family.clone())),
            }
        }
    }

    /// Adds the samples of another snapshot.
    pub fn append(&mut self, other: Self) {
        for Family { metric, samples } in other.families.into_values() {
            self.extend(&metric, samples);
        }
    }

    /// Gives every sample these labels, in the place of others of the same names. Returns whether
    /// there were such: samples may have the same labels now.
    pub fn set_labels(&mut self, labels: &BTreeMap<String, String>) -> bool {
        if labels.is_empty() {
            return false;
        }
        let mut replaced = false;
        let added: Vec<(Arc<str>, Arc<str>)> = labels
            .iter()
            .map(|(name, value)| (Arc::from(name.as_str()), Arc::from(value.as_str())))
            .collect();
        for family in self.families.values_mut() {
            for sample in &mut family.samples {
                let before = sample.labels.len();
                let own = sample.labels.iter();
                let mut labels: Vec<_> = own
                    .filter(|(name, _)| !labels.contains_key(&**name))
                    .cloned()
                    .collect();
                replaced |= labels.len() < before;
                labels.extend(added.iter().cloned());
                sample.labels = labels.into();
            }
        }
        replaced
    }

    /// Drops the samples that have one of these values in a label.
    pub fn drop_labelled(&mut self, label: &str, values: &BTreeSet<String>) {
        for family in self.families.values_mut() {
            family.samples.retain(|sample| {
                let mut labels = sample.labels.iter();
                !labels.any(|(name, value)| **name == *label && values.contains(&**value))
            });
        }
    }

    /// Drops every sample whose labels were already there, the first one stays; returns how many
    /// were dropped, by metric name.
    pub fn dedupe(&mut self) -> BTreeMap<Arc<str>, usize> {
        let mut dropped = BTreeMap::new();
        // The metrics of one collector share their rows' labels: what is distinct once need not be
        // compared again.
        let mut distinct: Vec<Labels> = Vec::new();
        for (name, family) in &mut self.families {
            let samples = &mut family.samples;
            let pairs = distinct.iter().zip(samples.iter());
            let known = distinct.len() == samples.len()
                && pairs
                    .into_iter()
                    .all(|(labels, sample)| Arc::ptr_eq(labels, &sample.labels));
            if known {
                continue;
            }
            let before = samples.len();
            let mut seen = HashSet::with_capacity(before);
            samples.retain(|sample| seen.insert(sample.labels.clone()));
            if samples.len() < before {
                dropped.insert(name.clone(), before - samples.len());
            }
            distinct = samples.iter().map(|sample| sample.labels.clone()).collect();
        }
        dropped
    }

    /// The families, ordered by name.
    pub fn families(&self) -> impl Iterator<Item = &Family> {
        self.families.values()
    }

    /// About how many bytes the samples have on the page.
    pub fn page_bytes(&self) -> usize {
        let families = self.families.values().map(|family| {
            let name = family.metric.name.len();
            let samples = family.samples.iter().map(|sample| {
                let pairs = sample.labels.iter();
                let labels = pairs.map(|(name, value)| name.len() + value.len() + r#"="","#.len());
                name + labels.sum::<usize>() + VALUE
            });
            samples.sum::<usize>()
        });
        families.sum()
    }

    /// The number of samples in all families.
    pub fn series(&self) -> usize {
        self.families
            .values()
            .map(|family| family.samples.len())
            .sum()
    }
}

/// Bytes of a value on the page, its line's end and more included.
const VALUE: usize = 12;

/// A metric and its samples.
#[derive(Clone, Debug)]
pub struct Family {
    /// Name, type and help.
    pub metric: Arc<Metric>,
    /// The samples, in the order in which they came.
    pub samples: Vec<Sample>,
}

/// What a metric is called and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The full name, the same in every format.
    pub name: Arc<str>,
    /// The help text, unescaped.
    pub help: Arc<str>,
    /// The type.
    pub kind: Kind,
}

impl Metric {
    /// A metric, ready to be shared by its samples.
    pub fn new(name: &str, kind: Kind, help: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            help: help.into(),
            kind,
        })
    }
}

/// A metric's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever rises, apart from resets.
    Counter,
    /// May rise and fall.
    Gauge,
    /// Neither is known: `untyped` in the text format, `unknown` in OpenMetrics.
    Untyped,
}

/// One value with its labels.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Label names and values, in the order of the definition.
    pub labels: Labels,
    /// The value.
    pub value: f64,
}

/// Label names and values; cheap to clone, since many samples share one set.
pub type Labels = Arc<[(Arc<str>, Arc<str>)]>;

/// Builds labels from pairs.
pub fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    pairs
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_label_takes_the_place_of_its_namesake() {
        let metric = Metric::new("pg_a", Kind::Gauge, "Help");
        let mut page = Snapshot::default();
        for datname in ["x", "y"] {
            let labels = labels([("datname", datname), ("mode", "m")]);
            page.push(&metric, Sample { labels, value: 1.0 });
        }
        let constant = |name: &str| BTreeMap::from([(name.to_owned(), "z".to_owned())]);
        assert!(!page.set_labels(&BTreeMap::new()));
        assert!(!page.set_labels(&constant("team")));
        assert!(page.set_labels(&constant("datname")));
        assert_eq!(page.dedupe(), BTreeMap::from([("pg_a".into(), 1)]));
        let sample = &page.families().next().unwrap().samples[0];
        let pairs: Vec<_> = sample.labels.iter().map(|(n, v)| (&**n, &**v)).collect();
        assert_eq!(pairs, [("mode", "m"), ("team", "z"), ("datname", "z")]);
    }

    #[test]
    fn a_second_sample_with_the_same_labels_is_dropped_and_counted() {
        let metrics = ["pg_a", "pg_b"].map(|name| Metric::new(name, Kind::Gauge, "Help"));
        let rows = [labels([("datname", "x")]), labels([("datname", "y")])];
        let mut page = Snapshot::default();
        for metric in &metrics {
            for (value, labels) in rows.iter().enumerate() {
                let labels = labels.clone();
                page.push(
                    metric,
                    Sample {
                        labels,
                        value: value as f64,
                    },
                );
            }
        }
        assert_eq!(page.dedupe(), BTreeMap::new());
        let labels = labels([("datname", "x")]);
        page.push(&metrics[1], Sample { labels, value: 7.0 });
        assert_eq!(page.dedupe(), BTreeMap::from([("pg_b".into(), 1)]));
        let values: Vec<_> = page
            .families()
            .flat_map(|family| family.samples.iter().map(|sample| sample.value))
            .collect();
        assert_eq!(values, [0.0, 1.0, 0.0, 1.0]);
    }
}
