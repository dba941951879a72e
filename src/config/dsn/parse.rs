//! A connection string, in either form, taken apart into keys and values.
//!
//! Where URIs are read differently by different programs (RFC 3986, libpq, Go), that is where a
//! password has an unescaped `@`, `/`, `?` or `#`, none of the readings is taken: the password is
//! cut in half in one of them, and its rest looked up as the name of a host.

use percent_encoding::percent_decode_str;

use super::keys::{self, Key};
use super::{DsnError, parameters};

/// What stands before an equals sign.
pub(super) enum Word {
    /// A key of libpq.
    Key(&'static Key),
    /// A parameter that has no effect.
    Parameter(String),
    /// Nothing that anybody knows.
    Unknown(DsnError),
}

impl Word {
    fn key(&self) -> Option<&'static str> {
        match self {
            Self::Key(key) => Some(key.name),
            Self::Parameter(_) | Self::Unknown(_) => None,
        }
    }

    fn is_password(&self) -> bool {
        self.key() == Some("password")
    }
}

/// The words of the string, in their order, with their values.
pub(super) fn pairs(text: &str) -> Result<Vec<(Word, String)>, DsnError> {
    let text = text.trim_ascii_start();
    let uri = text
        .strip_prefix("postgres://")
        .or_else(|| text.strip_prefix("postgresql://"));
    match uri {
        Some(uri) => read_uri(uri.trim_ascii_end()),
        None => read_words(text),
    }
}

/// `[user[:password]@][host][:port][/dbname][?key=value&...]`
fn read_uri(uri: &str) -> Result<Vec<(Word, String)>, DsnError> {
    let (authority, tail) = split_before(uri, ['/', '?', '#']);
    let (path, query) = split_before(tail, ['?']);
    let (credentials, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (host, port) = read_place(place)?;

    let is_port = port
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b',');
    let credentials_are_missing = !authority.contains('@');
    let is_cut = credentials.contains('@')
        || tail.starts_with('#')
        || path.contains('@')
        // libpq finds the end of the password before the beginning of the query.
        || (credentials_are_missing && split_before(tail, ['@', '/']).1.starts_with('@'))
        || (!is_port && tail.contains('@'));
    if is_cut {
        return Err(unescaped(uri));
    }

    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let database = path.strip_prefix('/').unwrap_or_default();
    let mut found = Vec::new();
    for (name, value) in [
        ("user", user),
        ("password", password),
        ("host", host),
        ("port", port),
        ("dbname", database),
    ] {
        let value = decode(value)?;
        found.extend(keys::find(name).map(|key| (Word::Key(key), value)));
    }
    // An `@` after what is not a list of keys: the `?` was a part of the password.
    let query = query.strip_prefix('?').unwrap_or_default();
    found.extend(
        read_query(query).map_err(|error| match query.contains('@') {
            true => unescaped(uri),
            false => error,
        })?,
    );
    Ok(found)
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`
fn read_place(place: &str) -> Result<(&str, &str), DsnError> {
    match place.strip_prefix('[') {
        None => Ok(place.split_once(':').unwrap_or((place, ""))),
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']').ok_or(DsnError::Brackets)?;
            match rest.strip_prefix(':') {
                _ if host.is_empty() => Err(DsnError::Brackets),
                None if rest.is_empty() => Ok((host, "")),
                None => Err(DsnError::Brackets),
                Some(port) => Ok((host, port)),
            }
        }
    }
}

/// `key=value&key=value`
fn read_query(query: &str) -> Result<Vec<(Word, String)>, DsnError> {
    let mut found: Vec<(Word, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let after_password = found.last().is_some_and(|(word, _)| word.is_password());
        let (name, value) = pair.split_once('=').ok_or(DsnError::QueryPair)?;
        if value.contains('=') {
            return Err(DsnError::QueryPair);
        }
        let (name, value) = (decode(name)?, decode(value)?);
        // As the JDBC driver writes it; libpq takes it too.
        let (name, value) = match (name.as_str(), value.as_str()) {
            ("ssl", "true") => ("sslmode", "require".to_owned()),
            _ => (name.as_str(), value),
        };
        let before = found.last().and_then(|(word, _)| word.key());
        found.push((known(name, before, after_password)?, value));
    }
    Ok(found)
}

/// `key=value key = 'quoted value'`
fn read_words(text: &str) -> Result<Vec<(Word, String)>, DsnError> {
    let mut found: Vec<(Word, String)> = Vec::new();
    let mut open_password = false;
    let mut rest = text;
    while !rest.is_empty() {
        let (name, more) = rest
            .find(|c: char| c == '=' || c.is_ascii_whitespace())
            .map_or((rest, ""), |end| rest.split_at(end));
        if name.contains([':', '@', '/']) && found.is_empty() {
            return Err(DsnError::Scheme);
        }
        let more = more
            .trim_ascii_start()
            .strip_prefix('=')
            .ok_or(DsnError::NoEquals {
                after: found.last().and_then(|(word, _)| word.key()),
            })?
            .trim_ascii_start();
        let before = found.last().and_then(|(word, _)| word.key());
        let word = known(name, before, open_password)?;
        let is_quoted = more.starts_with('\'');
        let (value, more) = match more.strip_prefix('\'') {
            Some(quoted) => read_quoted(quoted)
                .ok_or(DsnError::OpenQuote(word.key().unwrap_or("a parameter")))?,
            None => read_bare(more),
        };
        let is_closed = is_quoted && more.starts_with(|c: char| c.is_ascii_whitespace());
        open_password = word.is_password() && !is_closed;
        found.push((word, value));
        rest = more.trim_ascii_start();
    }
    Ok(found)
}

/// A value up to the closing quote, and what follows it.
fn read_quoted(text: &str) -> Option<(String, &str)> {
    read_escaped(text, |c| c == '\'')
        .and_then(|(value, rest)| Some((value, rest.strip_prefix('\'')?)))
}

/// A value up to the next space, and what follows it.
fn read_bare(text: &str) -> (String, &str) {
    read_escaped(text, |c| c.is_ascii_whitespace()).unwrap_or_default()
}

/// What stands before the character that ends it, or before the end; a backslash makes the next
/// character a plain one.
fn read_escaped(text: &str, ends: impl Fn(char) -> bool) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            end if ends(end) => return Some((value, &text[at..])),
            plain => value.push(plain),
        }
    }
    Some((value, ""))
}

/// What a name stands for. An unknown one is named in the error if it is almost a known one. It may
/// be a piece of a password that was not quoted: that ends the reading, since more may follow.
fn known(name: &str, after: Option<&'static str>, after_password: bool) -> Result<Word, DsnError> {
    if let Some(key) = keys::find(name) {
        Ok(Word::Key(key))
    } else if parameters::is_known(name) {
        Ok(Word::Parameter(name.to_owned()))
    } else if after_password {
        Err(DsnError::UnknownKeyAfterPassword)
    } else if parameters::is_of_an_extension(name) {
        Ok(Word::Parameter(name.to_owned()))
    } else {
        Ok(Word::Unknown(match keys::nearest(name) {
            None => DsnError::StrangeKey { after },
            Some(nearest) => DsnError::UnknownKey {
                key: name.to_owned(),
                nearest,
            },
        }))
    }
}

fn decode(text: &str) -> Result<String, DsnError> {
    if text.contains(|c: char| c.is_ascii_whitespace()) {
        return Err(DsnError::Space);
    }
    let is_escape = |part: &str| {
        part.as_bytes()
            .get(..2)
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !text.split('%').skip(1).all(is_escape) {
        return Err(DsnError::Percent);
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(decoded) if !decoded.contains('\0') => Ok(decoded.into_owned()),
        _ => Err(DsnError::NotText),
    }
}

/// Names what stands unescaped before the last `@`, which is the one before the host.
fn unescaped(uri: &str) -> DsnError {
    let credentials = uri.rsplit_once('@').map_or("", |(before, _)| before);
    let mut characters: Vec<char> = credentials
        .chars()
        .filter(|character| "@/?#".contains(*character))
        .collect();
    characters.sort_unstable();
    characters.dedup();
    if characters.is_empty() {
        characters.push('#');
    }
    DsnError::Unescaped(characters)
}

fn split_before<const N: usize>(text: &str, delimiters: [char; N]) -> (&str, &str) {
    text.split_at(text.find(delimiters).unwrap_or(text.len()))
}
