//! Reads settings one by one, and notes everything that is wrong.
//!
//! What is read is thereby known: whatever a section still holds in the end is a key that nobody
//! knows.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use ::config::{Map, Value, ValueKind};

use super::problem::{Fault, Problem, nearest};

/// One table of the settings.
pub struct Section<'a> {
    path: String,
    settings: Map<String, Value>,
    known: Vec<String>,
    notes: &'a mut Notes,
}

/// What is known of the whole: where tables stand, and what is wrong so far.
#[derive(Default)]
pub struct Notes {
    /// The file of the settings.
    pub file: Option<FileName>,
    /// Where each key of the file stands.
    pub places: BTreeMap<String, String>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What is accepted without effect.
    pub warnings: Vec<String>,
}

/// How places in the file begin.
pub struct FileName(String);

impl FileName {
    /// For this file.
    pub fn new(path: &Path) -> Self {
        Self(format!("{}:", path.display()))
    }

    /// The line of a place in the file; 0 for other places.
    pub fn line(&self, place: &str) -> usize {
        place
            .strip_prefix(&self.0)
            .and_then(|rest| rest.split(':').next()?.parse().ok())
            .unwrap_or(0)
    }
}

/// Every key of the file; NAME is one that the user chose. A key in the wrong place is looked up here.
pub(super) const KEYS: &[&str] = &[
    "openmetrics",
    "state_dir",
    "custom_queries",
    "web.listen",
    "web.telemetry_path",
    "web.config_file",
    "web.lifecycle",
    "servers.NAME.dsn",
    "servers.NAME.user",
    "servers.NAME.password",
    "servers.NAME.password_file",
    "servers.NAME.connections",
    "servers.NAME.page_mib",
    "servers.NAME.databases",
    "servers.NAME.databases.include",
    "servers.NAME.databases.exclude",
    "servers.NAME.databases.interval",
    "servers.NAME.cluster",
    "servers.NAME.labels",
    "servers.NAME.labels.NAME",
    "scrape.timeout",
    "scrape.statement_cap",
    "collectors.enable",
    "collectors.disable",
    "events.share",
    "events.recount",
    "events.settle",
    "events.max_age",
    "log.level",
    "log.format",
    "web.connections",
    "web.scrapes",
    "web.unread_mib",
    "web.least_kib_per_second",
    "collectors.NAME.limit",
    "collectors.NAME.ttl",
];

/// Whether a key, or a table of keys, is one of them.
fn is_listed(path: &str) -> bool {
    KEYS.iter().any(|key| {
        let mut parts = key.split('.');
        path.split('.').all(|given| {
            let part = parts.next();
            part.is_some_and(|part| part == "NAME" || part == given)
        })
    })
}

impl<'a> Section<'a> {
    /// The table of all settings.
    pub fn root(settings: Map<String, Value>, notes: &'a mut Notes) -> Self {
        Self {
            path: String::new(),
            settings,
            known: Vec::new(),
            notes,
        }
    }

    /// A table within this one; empty where it is not given.
    pub fn section(&mut self, key: &str) -> Section<'_> {
        let settings = self
            .read(key, |value| match value.kind {
                ValueKind::Table(table) => Ok(table),
                _ => Err(Fault::NotATable),
            })
            .unwrap_or_default();
        Section {
            path: self.path_of(key),
            settings,
            known: Vec::new(),
            notes: &mut *self.notes,
        }
    }

    /// The keys not read so far, ordered: names that the user chose.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.settings.keys().cloned().collect();
        names.sort();
        names
    }

    /// A text.
    pub fn text(&mut self, key: &str) -> Option<String> {
        self.read(key, text)
    }

    /// What `convert` makes of a text.
    pub fn text_as<T>(
        &mut self,
        key: &str,
        convert: impl FnOnce(String) -> Result<T, Fault>,
    ) -> Option<T> {
        self.read(key, |value| convert(text(value)?))
    }

    /// A list of texts, each with its place.
    pub fn list(&mut self, key: &str) -> Option<Vec<(String, String)>> {
        let path = self.path_of(key);
        self.read(key, |value| {
            let items = match value.kind {
                ValueKind::Array(items) => items,
                _ => return Err(Fault::NotAList),
            };
            items
                .into_iter()
                .map(|item| {
                    let place = item.origin().unwrap_or(&path).to_owned();
                    Ok((place, text(item).map_err(|_| Fault::NotAList)?))
                })
                .collect()
        })
    }

    /// What `convert` makes of each text in a list.
    pub fn list_as<T>(
        &mut self,
        key: &str,
        convert: impl Fn(String) -> Result<T, Fault>,
    ) -> Option<Vec<T>> {
        let items = self.list(key)?;
        let mut converted = Vec::with_capacity(items.len());
        for (place, item) in items {
            match convert(item) {
                Ok(item) => converted.push(item),
                Err(fault) => self.wrong_at(place, fault),
            }
        }
        Some(converted)
    }

    /// Yes or no.
    pub fn truth(&mut self, key: &str) -> Option<bool> {
        self.read(key, |value| value.into_bool().map_err(|_| Fault::NotABool))
    }

    /// A whole number within a range.
    pub fn count(&mut self, key: &str, range: RangeInclusive<usize>) -> Option<usize> {
        self.read(key, |value| {
            match value.kind {
                ValueKind::I64(number) => number.try_into().ok(),
                ValueKind::String(text) => text.parse().ok(),
                _ => None,
            }
            .filter(|count| range.contains(count))
            .ok_or(Fault::NotACount {
                least: *range.start(),
                most: *range.end(),
            })
        })
    }

    /// A duration, in humantime's notation; zero is allowed, and needs no unit.
    pub fn duration(&mut self, key: &str) -> Option<Duration> {
        self.read(key, duration)
    }

    /// A duration that is not zero.
    pub fn time_limit(&mut self, key: &str) -> Option<Duration> {
        self.read(key, |value| match duration(value)? {
            Duration::ZERO => Err(Fault::ZeroDuration),
            limit => Ok(limit),
        })
    }

    /// A value, made from what was said by `convert`.
    pub fn read<T>(
        &mut self,
        key: &str,
        convert: impl FnOnce(Value) -> Result<T, Fault>,
    ) -> Option<T> {
        debug_assert!(is_listed(&self.path_of(key)), "{key} is not in KEYS");
        self.take(key, convert)
    }

    fn take<T>(&mut self, key: &str, convert: impl FnOnce(Value) -> Result<T, Fault>) -> Option<T> {
        self.known.push(key.to_owned());
        let value = self.settings.remove(key)?;
        if value.kind == ValueKind::Nil {
            return None;
        }
        // Whatever is wrong with the key later is wrong where it was said last.
        if let Some(origin) = value.origin() {
            self.notes
                .places
                .insert(self.path_of(key), origin.to_owned());
        }
        let place = self.place(key);
        match convert(value) {
            Ok(converted) => Some(converted),
            Err(fault) => {
                self.notes.problems.push(Problem { place, fault });
                None
            }
        }
    }

    /// A key that is known, but whose time has not come. An empty text asks for nothing.
    pub fn refuse(&mut self, key: &str, why: &str) {
        self.take(key, |value| match value.into_string().as_deref() {
            Ok("") => Ok(()),
            _ => Err(Fault::Invalid(why.to_owned())),
        });
    }

    /// A key that is known and has no effect yet, as the log says where it is given.
    pub fn pass_over(&mut self, key: &str, why: &str) {
        let given = self.settings.contains_key(key);
        self.take(key, |_| Ok(()));
        if given {
            self.warn_of(key, why);
        }
    }

    /// Notes something else that is wrong with a key.
    pub fn wrong(&mut self, key: &str, fault: Fault) {
        let place = self.place(key);
        self.notes.problems.push(Problem { place, fault });
    }

    /// Notes something that is wrong at a place.
    pub fn wrong_at(&mut self, place: String, fault: Fault) {
        self.notes.problems.push(Problem { place, fault });
    }

    /// Notes something that the log should say.
    pub fn warn(&mut self, warning: String) {
        self.notes.warnings.push(warning);
    }

    /// Notes something that the log should say of a key.
    pub fn warn_of(&mut self, key: &str, sentence: &str) {
        let place = self.place(key);
        self.warn(format!("{place}: {sentence}"));
    }

    /// Every key that was not read is one that nobody knows, here.
    pub fn finish(mut self) {
        for name in self.names() {
            let mut keys = KEYS.iter();
            let elsewhere = keys.find(|path| path.rsplit('.').next() == Some(&name));
            match (
                elsewhere,
                nearest(&name, self.known.iter().map(String::as_str)),
            ) {
                (Some(path), _) => self.wrong(&name, Fault::KeyElsewhere(path)),
                (None, None) => self.wrong_unnamed(&name, Fault::StrangeKey),
                (None, nearest) => self.wrong(&name, Fault::UnknownKey(nearest)),
            }
        }
    }

    /// Notes something that is wrong with a key that is not to be named.
    pub fn wrong_unnamed(&mut self, key: &str, fault: Fault) {
        let place = self.place(key);
        let line = place.strip_suffix(&self.path_of(key)).unwrap_or_default();
        let place = format!("{line}{}", self.path);
        let place = place.trim_end_matches([' ', ':']).to_owned();
        self.wrong_at(place, fault);
    }

    /// Where a key was said last.
    pub fn place(&self, key: &str) -> String {
        let path = self.path_of(key);
        self.notes.places.get(&path).cloned().unwrap_or(path)
    }

    fn path_of(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }
}

fn text(value: Value) -> Result<String, Fault> {
    match value.kind {
        ValueKind::String(text) => Ok(text),
        _ => Err(Fault::NotText),
    }
}

fn duration(value: Value) -> Result<Duration, Fault> {
    let text = match value.kind {
        ValueKind::I64(seconds) => seconds.to_string(),
        ValueKind::Float(seconds) => seconds.to_string(),
        ValueKind::String(text) => text,
        _ => return Err(Fault::NotADuration),
    };
    if let Ok(seconds) = text.parse() {
        return match Duration::try_from_secs_f64(seconds) {
            Ok(Duration::ZERO) => Ok(Duration::ZERO),
            Ok(_) if seconds.fract() == 0.0 => Err(Fault::NoUnit {
                written: format!("{seconds}s"),
                number: text,
            }),
            Ok(_) => Err(Fault::NoUnit {
                written: format!("{}ms", (seconds * 1e3).round()),
                number: text,
            }),
            Err(_) => Err(Fault::NotADuration),
        };
    }
    match humantime::parse_duration(&text).ok() {
        None => Err(Fault::NotADuration),
        // Clocks can add it, whatever it is for.
        Some(duration) if duration > YEAR => Err(Fault::TooLong),
        Some(duration) => Ok(duration),
    }
}

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_in_many_ways() {
        let read = |value: Value| duration(value).map_err(|fault| fault.to_string());
        for (text, milliseconds) in [
            ("60s", 60_000),
            ("1m30s", 90_000),
            ("1h 5m", 3_900_000),
            ("500ms", 500),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(
                read(text.into()),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        assert_eq!(read(0.into()), Ok(Duration::ZERO));
        for (number, said) in [
            (Value::from("60"), "60 has no unit; write 60s"),
            (5.into(), "5 has no unit; write 5s"),
            (0.25.into(), "0.25 has no unit; write 250ms"),
            ("1.5".into(), "1.5 has no unit; write 1500ms"),
        ] {
            assert_eq!(read(number), Err(said.to_owned()));
        }
        for text in [
            "",
            "-1",
            "-1s",
            "1x",
            "s",
            "NaN",
            "inf",
            "1e999",
            "10 seconds or so",
        ] {
            let expected = Fault::NotADuration.to_string();
            assert_eq!(read(text.into()), Err(expected), "{text}");
        }
        assert_eq!(read("2y".into()), Err(Fault::TooLong.to_string()));
    }
}
