//! The two formats, and which of them a scraper wants.

/// How a page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format 0.0.4, as postgres_exporter serves it.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The format that an `Accept` header likes best; of equals the one named first. Text is the
    /// answer to everything that is not understood, and to wildcards.
    pub fn negotiate(accept: Option<&str>, openmetrics_enabled: bool) -> Self {
        let mut best = (Self::Text, 0.0);
        for range in accept.unwrap_or_default().split(',') {
            let (format, quality) = match parse_range(range) {
                Some((Self::OpenMetrics, _)) if !openmetrics_enabled => continue,
                Some(wish) => wish,
                None => continue,
            };
            if quality > best.1 {
                best = (format, quality);
            }
        }
        best.0
    }

    /// The `Content-Type` of a page.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// One media range of the header: the format it means, if it is one of ours, and its weight.
fn parse_range(range: &str) -> Option<(Format, f32)> {
    let mut parts = range.split(';').map(str::trim);
    let (format, ours) = match parts.next()?.to_ascii_lowercase().as_str() {
        "application/openmetrics-text" => (Format::OpenMetrics, "1.0.0"),
        "text/plain" | "text/*" | "*/*" => (Format::Text, "0.0.4"),
        _ => return None,
    };
    let mut quality = 1.0;
    for part in parts {
        let (name, value) = part.split_once('=')?;
        match name.trim_end().to_ascii_lowercase().as_str() {
            "q" => quality = value.trim().parse().ok()?,
            "version" if value.trim().trim_matches('"') != ours => return None,
            _ => {}
        }
    }
    (0.0..=1.0).contains(&quality).then_some((format, quality))
}

#[cfg(test)]
mod tests {
    use super::Format::{self, OpenMetrics, Text};

    #[test]
    fn the_best_liked_format_wins() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,\
             application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,\
             */*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, expected) in [
            (None, Text),
            (Some(""), Text),
            (Some("*/*"), Text),
            (Some("text/html"), Text),
            (Some("text/plain, application/openmetrics-text"), Text),
            (
                Some("application/openmetrics-text, text/plain"),
                OpenMetrics,
            ),
            (
                Some("Application/OpenMetrics-Text; Version=\"1.0.0\"; Q=0.4"),
                OpenMetrics,
            ),
            (
                Some("application/openmetrics-text; q=0.4, text/plain; q=0.5"),
                Text,
            ),
            (
                Some("application/openmetrics-text; q=0.4, */*; q=0.5"),
                Text,
            ),
            (
                Some("text/plain; q=0.4, application/openmetrics-text; q=0.5"),
                OpenMetrics,
            ),
            (Some("application/openmetrics-text; q=0"), Text),
            (Some("application/openmetrics-text; q=7"), Text),
            (Some("application/openmetrics-text; q=NaN"), Text),
            (Some("application/openmetrics-text; version=2.0.0"), Text),
            (Some(";;,=,q=,\u{fffd}"), Text),
            (Some(prometheus_2), OpenMetrics),
            (Some(prometheus_3), OpenMetrics),
        ] {
            assert_eq!(Format::negotiate(accept, true), expected, "{accept:?}");
            assert_eq!(Format::negotiate(accept, false), Text, "{accept:?}");
        }
    }
}
