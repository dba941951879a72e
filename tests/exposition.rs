//! Whatever the databases hold, the page is one that a strict reader takes and understands.

use matrix_postgres_exporter::exposition::{Format, render};
use matrix_postgres_exporter::snapshot::{Kind, Metric, Sample, Snapshot, labels};
use proptest::prelude::*;

#[allow(dead_code, reason = "a part of it serves other tests")]
#[path = "support/exposition.rs"]
mod reader;

use reader::Page;

proptest! {
    #[test]
    fn any_text_and_number_comes_back(
        help in text(),
        series in prop::collection::vec((text(), text(), any::<f64>()), 1..5),
        kind in prop::sample::select(vec![Kind::Counter, Kind::Gauge, Kind::Untyped]),
        name in prop::sample::select(vec!["pg_x", "pg_x_total", "pg_x_inf", "pg_x_unknown"]),
        openmetrics in any::<bool>(),
    ) {
        let metric = Metric::new(name, kind, &help);
        let mut snapshot = Snapshot::default();
        for (first, second, value) in series {
            // A counter below zero is not a counter.
            let value = match kind {
                Kind::Counter if value.is_nan() => 0.0,
                Kind::Counter => value.abs(),
                Kind::Gauge | Kind::Untyped => value,
            };
            let labels = labels([("first", &first), ("second", &second)]);
            snapshot.push(&metric, Sample { labels, value });
        }
        snapshot.push(&Metric::new("pg_z", Kind::Gauge, "Z"), Sample {
            labels: labels([]),
            value: 1.0,
        });
        snapshot.dedupe();

        let (format, known_as) = match openmetrics {
            true => (Format::OpenMetrics, reader::Format::OpenMetrics),
            false => (Format::Text, reader::Format::Text),
        };
        prop_assert_eq!(reader::Format::of(format.content_type()), Some(known_as));
        let text = render(snapshot.clone(), format);
        let page = Page::parse(text.as_bytes(), known_as).map_err(TestCaseError::fail)?;

        let (family, named) = match (openmetrics, kind, name.strip_suffix("_total")) {
            (true, Kind::Counter, Some(stem)) => (stem, "counter"),
            (true, Kind::Counter, None) | (true, Kind::Untyped, _) => (name, "unknown"),
            (false, Kind::Untyped, _) => (name, "untyped"),
            (false, Kind::Counter, _) => (name, "counter"),
            (_, Kind::Gauge, _) => (name, "gauge"),
        };
        prop_assert_eq!(&page.families[family].kind, named);
        prop_assert_eq!(&page.families[family].help, &help);
        prop_assert_eq!(page.value("pg_z", &[]), Some(1.0));
        let pushed = snapshot.families().flat_map(|family| &family.samples);
        prop_assert_eq!(page.names().len(), 2);
        for sample in pushed.filter(|sample| !sample.labels.is_empty()) {
            let wanted: Vec<_> = sample.labels.iter().map(|(n, v)| (&**n, &**v)).collect();
            let found = page.value(name, &wanted).expect("the sample is on the page");
            prop_assert!(found == sample.value || found.is_nan() && sample.value.is_nan());
        }
    }
}

/// Text with much in it that has to be escaped. The reader objects to carriage returns, which both
/// formats pass on as they are.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![r#"["\\\n a,={}]{0,8}"#, r"\PC{0,20}", r"[^\r]{0,20}"]
}
