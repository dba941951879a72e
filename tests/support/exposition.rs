//! A strict reader of both exposition formats, stricter than Prometheus, which forgives much: no
//! sample without HELP and TYPE, no timestamp, nothing that an exporter has no reason to write.

use std::collections::{BTreeMap, BTreeSet, HashSet};

/// A format of the exposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The format that a Content-Type announces.
    pub fn of(content_type: &str) -> Option<Self> {
        let mut parts = content_type.split(';').map(str::trim);
        let media = parts.next()?;
        let version = parts.find_map(|part| part.strip_prefix("version="))?;
        match (media, version) {
            ("text/plain", "0.0.4") => Some(Self::Text),
            ("application/openmetrics-text", "1.0.0") => Some(Self::OpenMetrics),
            _ => None,
        }
    }

    fn kinds(self) -> &'static [&'static str] {
        match self {
            Self::Text => &["counter", "gauge", "histogram", "summary", "untyped"],
            Self::OpenMetrics => &[
                "counter",
                "gauge",
                "histogram",
                "summary",
                "unknown",
                "info",
                "stateset",
            ],
        }
    }

    /// What a sample's name may have after its family's.
    fn suffixes(self, kind: &str) -> &'static [&'static str] {
        match (self, kind) {
            (Self::OpenMetrics, "counter") => &["_total", "_created"],
            (Self::OpenMetrics, "info") => &["_info"],
            (_, "histogram") => &["_bucket", "_sum", "_count"],
            (_, "summary") => &["", "_sum", "_count"],
            _ => &[""],
        }
    }
}

/// Everything a page holds.
#[derive(Debug, Default)]
pub struct Page {
    /// The families by name; in OpenMetrics a counter's family does not have the `_total` of its samples.
    pub families: BTreeMap<String, Family>,
}

/// A metric as it is described, and its samples.
#[derive(Debug, Default)]
pub struct Family {
    /// The type.
    pub kind: String,
    /// The help, unescaped.
    pub help: String,
    /// The samples, in the order of the page.
    pub samples: Vec<Sample>,
}

/// One line with a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The name, with the suffix that the type adds.
    pub name: String,
    /// The labels, unescaped.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

impl Page {
    /// Reads a page; an error names the line and what is wrong with it.
    pub fn parse(page: &[u8], format: Format) -> Result<Self, String> {
        let page = std::str::from_utf8(page).map_err(|error| error.to_string())?;
        let mut lines = page
            .strip_suffix('\n')
            .ok_or("the page does not end with a newline")?;
        if format == Format::OpenMetrics {
            lines = match lines {
                "# EOF" => return Ok(Self::default()),
                _ => lines
                    .strip_suffix("\n# EOF")
                    .ok_or("the page does not end with # EOF")?,
            };
        }
        let mut reader = Reader::new(format);
        for (number, line) in lines.split('\n').enumerate() {
            reader
                .line(line)
                .map_err(|error| format!("line {}: {error}: {line}", number + 1))?;
        }
        reader.end_family()?;
        Ok(reader.page)
    }

    /// The samples of this name.
    pub fn samples<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        let samples = self.families.values().flat_map(|family| &family.samples);
        samples.filter(move |sample| sample.name == name)
    }

    /// The value of the one sample of this name that has these labels, and maybe others; panics
    /// where there are several.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = self.samples(name).filter(|sample| {
            labels
                .iter()
                .all(|(name, value)| sample.labels.get(*name).is_some_and(|v| v == value))
        });
        let value = found.next()?.value;
        assert!(found.next().is_none(), "several {name} have {labels:?}");
        Some(value)
    }

    /// The names of all samples.
    pub fn names(&self) -> BTreeSet<&str> {
        let samples = self.families.values().flat_map(|family| &family.samples);
        samples.map(|sample| sample.name.as_str()).collect()
    }
}

struct Reader {
    format: Format,
    page: Page,
    /// The family that is being read, and which of HELP, TYPE and UNIT it has had.
    name: String,
    family: Family,
    described: BTreeSet<String>,
    series: HashSet<(String, BTreeMap<String, String>)>,
}

impl Reader {
    fn new(format: Format) -> Self {
        Self {
            format,
            page: Page::default(),
            name: String::new(),
            family: Family::default(),
            described: BTreeSet::new(),
            series: HashSet::new(),
        }
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        match line.strip_prefix('#') {
            Some(comment) => self.comment(comment),
            None => self.sample(sample(line)?),
        }
    }

    fn comment(&mut self, comment: &str) -> Result<(), String> {
        let mut words = comment.splitn(4, ' ');
        let (Some(""), Some(what), Some(name), Some(text)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err("neither HELP nor TYPE".into());
        };
        if name != self.name {
            self.end_family()?;
            if !is_name(name, true) {
                return Err("a metric cannot have this name".into());
            }
            if self.page.families.contains_key(name) {
                return Err("the family was there before".into());
            }
            self.name = name.to_owned();
        }
        if !self.family.samples.is_empty() {
            return Err("described after its samples".into());
        }
        if !self.described.insert(what.to_owned()) {
            return Err(format!("a second {what}"));
        }
        match what {
            "HELP" => self.family.help = unescape(text, self.format == Format::OpenMetrics)?,
            "TYPE" if self.format.kinds().contains(&text) => self.family.kind = text.to_owned(),
            "TYPE" => return Err("the format has no such type".into()),
            "UNIT" if self.format == Format::OpenMetrics => {
                if !name.ends_with(&format!("_{text}")) {
                    return Err("the name does not end with the unit".into());
                }
            }
            _ => return Err("neither HELP nor TYPE".into()),
        }
        Ok(())
    }

    fn sample(&mut self, sample: Sample) -> Result<(), String> {
        let Family { kind, .. } = &self.family;
        let suffix = sample.name.strip_prefix(&self.name);
        if self.name.is_empty()
            || !suffix.is_some_and(|suffix| self.format.suffixes(kind).contains(&suffix))
        {
            return Err(format!("not a sample of {} {}", kind, self.name));
        }
        if !self.described.contains("HELP") || !self.described.contains("TYPE") {
            return Err("a sample before HELP and TYPE".into());
        }
        if kind == "counter" && (sample.value < 0.0 || sample.value.is_nan()) {
            return Err("a counter is below zero, or not a number".into());
        }
        if suffix == Some("_bucket") && !sample.labels.contains_key("le") {
            return Err("a bucket without le".into());
        }
        if !self
            .series
            .insert((sample.name.clone(), sample.labels.clone()))
        {
            return Err("the series was there before".into());
        }
        self.family.samples.push(sample);
        Ok(())
    }

    fn end_family(&mut self) -> Result<(), String> {
        self.described.clear();
        let name = std::mem::take(&mut self.name);
        let family = std::mem::take(&mut self.family);
        if !name.is_empty() {
            if family.kind.is_empty() {
                return Err(format!("{name} has no TYPE"));
            }
            self.page.families.insert(name, family);
        }
        Ok(())
    }
}

fn sample(line: &str) -> Result<Sample, String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(end);
    if !is_name(name, true) {
        return Err("a metric cannot have this name".into());
    }
    let mut labels = BTreeMap::new();
    if let Some(mut list) = rest.strip_prefix('{') {
        while !list.starts_with('}') {
            let (name, value, after) = label(list)?;
            if labels.insert(name.to_owned(), value).is_some() {
                return Err(format!("the label {name} twice"));
            }
            list = match after.strip_prefix(',') {
                Some(more) if !more.starts_with('}') => more,
                None if after.starts_with('}') => after,
                _ => return Err("a comma that does not stand between two labels".into()),
            };
        }
        rest = &list[1..];
    }
    let value = rest.strip_prefix(' ').ok_or("no space before the value")?;
    Ok(Sample {
        name: name.to_owned(),
        labels,
        value: number(value)?,
    })
}

/// A label's name, its value, and what stands behind it.
fn label(list: &str) -> Result<(&str, String, &str), String> {
    let (name, quoted) = list.split_once("=\"").ok_or("a label without a value")?;
    if !is_name(name, false) || name.starts_with("__") {
        return Err(format!("a label cannot have the name {name}"));
    }
    let mut escaped = false;
    let end = quoted.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    let (value, after) = quoted.split_at(end.ok_or("a label value without an end")?);
    Ok((name, unescape(value, true)?, &after[1..]))
}

fn unescape(text: &str, quotes: bool) -> Result<String, String> {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        plain.push(match c {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some('\\') => '\\',
                Some('"') if quotes => '"',
                other => return Err(format!("no such escape: \\{}", other.unwrap_or(' '))),
            },
            '"' if quotes => return Err("a quote that is not escaped".into()),
            '\r' => return Err("a carriage return".into()),
            c => c,
        });
    }
    Ok(plain)
}

fn number(text: &str) -> Result<f64, String> {
    match text {
        "NaN" => Ok(f64::NAN),
        "+Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        // Rust takes words that the formats do not.
        _ if text
            .chars()
            .all(|c| c.is_ascii_digit() || "+-.eE".contains(c)) =>
        {
            text.parse().map_err(|_| "not a number".into())
        }
        _ => Err("not a number".into()),
    }
}

fn is_name(name: &str, colons: bool) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
    name.chars().all(inner) && name.starts_with(|c: char| !c.is_ascii_digit())
}
