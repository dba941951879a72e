//! The strict reader of pages: good pages pass, and each fault is caught.

use crate::support::exposition::Format::{self, OpenMetrics, Text};
use crate::support::exposition::Page;

const TEXT: &str = r#"# HELP pg_up Whether PostgreSQL answers
# TYPE pg_up gauge
pg_up 1
# HELP pg_commits_total Commits, a \\ and
# TYPE pg_commits_total counter
pg_commits_total{datname="a"} 1.5e3
pg_commits_total{datname="b\n\"\\",x=""} +Inf
# TYPE pg_static untyped
# HELP pg_static Facts
pg_static{version="ü"} -0.5
# HELP took_seconds Time
# TYPE took_seconds histogram
took_seconds_bucket{le="1"} 1
took_seconds_bucket{le="+Inf"} 2
took_seconds_sum 3
took_seconds_count 2
"#;

#[test]
fn a_good_text_page_is_read() {
    let page = Page::parse(TEXT.as_bytes(), Text).unwrap();
    assert_eq!(page.value("pg_up", &[]), Some(1.0));
    assert_eq!(
        page.value("pg_commits_total", &[("datname", "a")]),
        Some(1500.0)
    );
    let odd = [("datname", "b\n\"\\"), ("x", "")];
    assert_eq!(page.value("pg_commits_total", &odd), Some(f64::INFINITY));
    assert_eq!(page.value("pg_commits_total", &[("datname", "c")]), None);
    assert_eq!(page.value("pg_static", &[("version", "ü")]), Some(-0.5));
    assert_eq!(page.samples("pg_commits_total").count(), 2);
    assert_eq!(page.families["pg_commits_total"].kind, "counter");
    assert_eq!(page.families["pg_commits_total"].help, r"Commits, a \ and");
    assert_eq!(page.families["took_seconds"].samples.len(), 4);
    assert_eq!(page.names().len(), 6);
}

#[test]
fn a_good_openmetrics_page_is_read() {
    let page = r#"# HELP pg_commits Commits, \"all\"
# TYPE pg_commits counter
pg_commits_total{datname="a"} 1
# HELP pg_age_seconds Age
# TYPE pg_age_seconds unknown
# UNIT pg_age_seconds seconds
pg_age_seconds NaN
# EOF
"#;
    let page = Page::parse(page.as_bytes(), OpenMetrics).unwrap();
    assert_eq!(page.value("pg_commits_total", &[]), Some(1.0));
    assert_eq!(page.families["pg_commits"].help, "Commits, \"all\"");
    assert!(page.value("pg_age_seconds", &[]).unwrap().is_nan());
    assert!(
        Page::parse(b"# EOF\n", OpenMetrics)
            .unwrap()
            .families
            .is_empty()
    );
}

#[test]
fn every_fault_is_caught() {
    let faults = [
        ("m 1", "does not end with a newline"),
        ("m 1\n", "not a sample of"),
        ("# HELP m h\nm 1\n", "before HELP and TYPE"),
        ("# TYPE m gauge\nm 1\n", "before HELP and TYPE"),
        ("# HELP m h\n", "no TYPE"),
        ("# TYPE m gauge\n# TYPE m gauge\n", "a second TYPE"),
        ("# HELP m h\n# HELP m h\n", "a second HELP"),
        ("# TYPE m gouge\n", "no such type"),
        ("# TYPE m unknown\n", "no such type"),
        ("# UNIT m seconds\n", "neither HELP nor TYPE"),
        ("# a comment of mine\n", "neither HELP nor TYPE"),
        ("#HELP m h\n", "neither HELP nor TYPE"),
        ("# EOF\n", "neither HELP nor TYPE"),
        ("\n", "no value"),
        ("# TYPE 1m gauge\n", "cannot have this name"),
        ("# HELP m a\\tb\n", "no such escape"),
        ("# HELP m a\r\n", "carriage return"),
        ("M\n", "no value"),
        ("M-m 1\n", "cannot have this name"),
        ("M 1\n# TYPE m gauge\n", "described after"),
        (
            "M 1\n# TYPE n gauge\n# TYPE m gauge\n",
            "family was there before",
        ),
        ("M 1\nM 2\n", "series was there before"),
        (
            "M{a=\"1\",b=\"2\"} 1\nM{b=\"2\",a=\"1\"} 2\n",
            "series was there before",
        ),
        ("M{a=\"1\",a=\"2\"} 1\n", "label a twice"),
        ("M{a=\"1\",} 1\n", "comma"),
        ("M{a=\"1\";b=\"2\"} 1\n", "comma"),
        ("M{1a=\"1\"} 1\n", "label cannot have the name 1a"),
        ("M{a:b=\"1\"} 1\n", "label cannot have the name a:b"),
        ("M{__a=\"1\"} 1\n", "label cannot have the name __a"),
        ("M{a} 1\n", "label without a value"),
        ("M{a=\"1} 1\n", "label value without an end"),
        ("M{a=\"\\t\"} 1\n", "no such escape"),
        ("M{}1\n", "no space"),
        ("M  1\n", "not a number"),
        ("M one\n", "not a number"),
        ("M inf\n", "not a number"),
        ("M 1 1700000000000\n", "not a number"),
        ("M_total 1\n", "not a sample of gauge m"),
        ("n 1\n", "not a sample of"),
        ("# HELP c h\n# TYPE c counter\nc -1\n", "below zero"),
        ("# HELP c h\n# TYPE c counter\nc NaN\n", "below zero"),
        ("# HELP h h\n# TYPE h histogram\nh_bucket 1\n", "without le"),
        ("# HELP h h\n# TYPE h histogram\nh 1\n", "not a sample of"),
    ];
    for (page, fault) in faults {
        expect(Text, page, fault);
    }
    let faults = [
        ("M 1\n", "does not end with # EOF"),
        ("# EOF\nM 1\n", "does not end with # EOF"),
        ("M 1\n# EOF", "does not end with a newline"),
        ("# EOF\n# EOF\n", "neither HELP nor TYPE"),
        ("# TYPE m untyped\n# EOF\n", "no such type"),
        ("# HELP m a \"b\"\n# EOF\n", "not escaped"),
        ("# UNIT m seconds\n# EOF\n", "end with the unit"),
        (
            "# HELP c h\n# TYPE c counter\nc 1\n# EOF\n",
            "not a sample of counter c",
        ),
    ];
    for (page, fault) in faults {
        expect(OpenMetrics, page, fault);
    }
    assert!(
        Page::parse(b"# HELP m \xff\n", Text)
            .unwrap_err()
            .contains("utf-8")
    );
}

/// `M` at the begin stands for a gauge `m` with its description.
fn expect(format: Format, page: &str, fault: &str) {
    let page = match page.strip_prefix('M') {
        Some(rest) => format!(
            "# HELP m h\n# TYPE m gauge\nm{}",
            rest.replace("\nM", "\nm")
        ),
        None => page.to_owned(),
    };
    let error = Page::parse(page.as_bytes(), format).unwrap_err();
    assert!(error.contains(fault), "{page:?} gives {error:?}");
}

#[test]
fn a_content_type_names_the_format() {
    assert_eq!(
        Format::of("text/plain; version=0.0.4; charset=utf-8"),
        Some(Text)
    );
    let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(Format::of(open), Some(OpenMetrics));
    assert_eq!(Format::of("text/html"), None);
}
