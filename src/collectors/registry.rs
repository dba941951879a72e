//! The collectors that there are, as a value that is handed to whoever needs them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::faults::{self, Fault};
use crate::query::{Application, Collector, ColumnKind, Query, SourceSettings, Sql, Text};

/// The collectors, in the order in which the catalogue lists them; cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct Registry(Arc<[Arc<Collector>]>);

impl Registry {
    /// Those that are built in.
    pub fn built_in() -> Self {
        Self(super::all().into_iter().map(Arc::new).collect())
    }

    /// These, and more.
    ///
    /// # Errors
    ///
    /// Fails with all that is wrong with what is added: its definitions, names that are taken, and
    /// metrics that are something else elsewhere.
    pub fn with(&self, more: impl IntoIterator<Item = Collector>) -> Result<Self, Faults> {
        let more: Vec<_> = more.into_iter().map(Arc::new).collect();
        let mut faults = Faults(more.iter().flat_map(|one| faults::of(one)).collect());
        let all = Self(self.iter().cloned().chain(more).collect());
        faults.0.extend(all.conflicts());
        match faults.0.is_empty() {
            true => Ok(all),
            false => Err(faults),
        }
    }

    /// The same, with these settings of a source, where they have it.
    pub fn with_settings(&self, settings: impl SourceSettings) -> Self {
        let kind = settings.type_id();
        let settings: Arc<dyn SourceSettings> = Arc::new(settings);
        let collectors = self.iter().map(|collector| match &collector.source {
            Some(source) if (**source).type_id() == kind => Arc::new(Collector {
                source: Some(settings.clone()),
                ..(**collector).clone()
            }),
            _ => collector.clone(),
        });
        Self(collectors.collect())
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Collector>> {
        self.0.iter()
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|collector| &*collector.name)
    }

    /// The one of this name.
    pub fn find(&self, name: &str) -> Option<&Arc<Collector>> {
        self.iter().find(|collector| collector.name == name)
    }

    /// The applications whose tables they read, each once.
    pub fn applications(&self) -> Vec<&'static Application> {
        let mut applications = Vec::new();
        for collector in self.iter() {
            if let Some(application) = collector.scope.application()
                && !applications.contains(&application)
            {
                applications.push(application);
            }
        }
        applications
    }

    /// The schemas with tables of any of these applications: `oid`.
    pub fn schemas(&self) -> Sql {
        let applications = self.applications().into_iter();
        let schemas = applications.map(|application| {
            let schemas = application.schemas();
            Sql::from("SELECT s.oid FROM (")
                .with(schemas)
                .with(") AS s")
        });
        let schemas: Vec<_> = schemas.collect();
        match schemas.is_empty() {
            true => Sql::from("SELECT NULL::oid AS oid WHERE false"),
            false => Sql::join(schemas, "\n        UNION\n        "),
        }
    }

    /// Every table of an application that a definition reads, with every column of it.
    pub fn reads(
        &self,
        application: &Application,
    ) -> BTreeMap<&'static str, BTreeSet<&'static str>> {
        let mut tables: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        let readers = self
            .iter()
            .filter(|one| one.scope.application() == Some(application));
        let queries = readers.flat_map(|collector| &collector.queries);
        for (table, column) in queries.flat_map(Query::privileges) {
            tables.entry(table).or_default().insert(column);
        }
        tables
    }

    /// What two of them say differently: a name is of one collector, and a metric has one type, one
    /// help and one set of labels.
    fn conflicts(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut names = BTreeSet::new();
        let mut metrics = BTreeMap::new();
        let mut applications = BTreeMap::new();
        for collector in self.iter() {
            if !names.insert(&collector.name) {
                faults.push(Fault::new(collector, "another collector has this name"));
            }
            if let Some(application) = collector.scope.application() {
                let known = applications.entry(application.key).or_insert(application);
                if *known != application {
                    let sentence = format!("another application has the key {}", application.key);
                    faults.push(Fault::new(collector, sentence));
                }
            }
            for metric in collector.metrics() {
                let column = metric.column;
                let this: (ColumnKind, &Text, _) = (column.kind, &column.help, metric.labels);
                let before = metrics.entry(metric.name.clone()).or_insert(this.clone());
                if *before != this {
                    let sentence = format!(
                        "the metric {} has another type, help or set of labels elsewhere",
                        metric.name
                    );
                    faults.push(Fault::new(collector, sentence));
                }
            }
        }
        faults
    }
}

/// Everything that is wrong with definitions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Faults(pub Vec<Fault>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events;
    use crate::query::ALL;

    fn hello(name: &'static str) -> Collector {
        let query = Query::new()
            .sql(ALL, "SELECT 1 AS one FROM pg_catalog.pg_class")
            .gauge("one", "One");
        let collector = Collector::new(name, "Says hello").prefix("pg_hello");
        collector.query(query)
    }

    fn refused(more: impl IntoIterator<Item = Collector>) -> String {
        Registry::built_in().with(more).unwrap_err().to_string()
    }

    #[test]
    fn what_is_built_in_has_no_faults() {
        let registry = Registry::built_in();
        let faults: Vec<_> = registry.iter().flat_map(|one| faults::of(one)).collect();
        assert_eq!(faults, []);
        assert_eq!(registry.conflicts(), []);
    }

    #[test]
    fn more_collectors_stand_behind_those_that_are_built_in() {
        let registry = Registry::built_in().with([hello("hello")]).unwrap();
        assert_eq!(registry.names().last(), Some("hello"));
        assert_eq!(registry.find("hello").unwrap().about, "Says hello");
        assert_ne!(registry, Registry::built_in());
        assert_eq!(
            registry,
            Registry::built_in().with([hello("hello")]).unwrap()
        );
    }

    #[test]
    fn settings_are_for_the_collectors_with_their_source() {
        let settings = events::Settings {
            share: 0.5,
            ..events::Settings::default()
        };
        let registry = Registry::built_in().with_settings(settings.clone());
        let changed = Registry::built_in();
        let changed = registry.iter().zip(changed.iter());
        let changed = changed.filter(|(after, before)| after != before);
        let changed: Vec<_> = changed.map(|(after, _)| after).collect();
        let [collector] = &changed[..] else {
            panic!("{changed:?}");
        };
        let source = collector.source.as_deref();
        assert_eq!(source, Some(&settings as &dyn SourceSettings));
        assert_eq!(registry, Registry::built_in().with_settings(settings));
    }

    #[test]
    fn a_name_is_taken_once_and_a_metric_is_one_thing() {
        assert_eq!(
            refused([hello("locks")]),
            "collector \"locks\": another collector has this name"
        );
        let other = Query::new()
            .sql(ALL, "SELECT 1 AS one FROM pg_catalog.pg_class")
            .gauge("one", "Another one");
        assert_eq!(
            refused([
                hello("hello"),
                Collector::new("again", "Says it again")
                    .prefix("pg_hello")
                    .query(other)
            ]),
            "collector \"again\": the metric pg_hello_one has another type, help or set of labels \
             elsewhere"
        );
    }
}
