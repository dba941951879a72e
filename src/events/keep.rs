//! The count in a file, from one run of the program to the next.
//!
//! The file of a database holds one line that says what it is, with a checksum, and one of JSON. It
//! is replaced as a whole, and nothing in it is a secret.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The first words of a file.
const MAGIC: &str = "matrix-postgres-exporter events";

/// Rises when the content means something else than before.
const FORMAT: u32 = 2;

/// The file of a database of a server.
pub fn path(folder: &Path, server: &str, database: &str) -> PathBuf {
    let database = utf8_percent_encode(database, NON_ALPHANUMERIC);
    folder.join(format!("{server}.{database}.events"))
}

/// What cannot be used of a file.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It cannot be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is not whole, or something else.
    #[error("{} is {what}; it is ignored, and will be overwritten", path.display())]
    Strange {
        /// Which.
        path: PathBuf,
        /// What it seems to be.
        what: String,
    },
}

/// What was kept, if anything was.
///
/// # Errors
///
/// Fails where the file is torn, foreign, or written by another version of this program.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Unusable> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let path = path.to_owned();
            return Err(Unusable::Unreadable { path, error });
        }
    };
    let text = String::from_utf8_lossy(&text);
    parse(&text).map(Some).map_err(|what| Unusable::Strange {
        path: path.to_owned(),
        what,
    })
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let foreign = || "not a file of this program".to_owned();
    let (head, body) = text.split_once('\n').ok_or_else(foreign)?;
    let head = head.strip_prefix(MAGIC).ok_or_else(foreign)?;
    let (format, sum) = head.trim().split_once(' ').ok_or_else(foreign)?;
    if format != FORMAT.to_string() {
        return Err(format!(
            "of format {format}, and this version of the program reads format {FORMAT}"
        ));
    }
    if sum != checksum(body) {
        return Err("damaged: its checksum does not match".to_owned());
    }
    serde_json::from_str(body).map_err(|error| format!("not readable: {error}"))
}

/// Replaces the file; whoever reads it sees the old one or the new one.
///
/// # Errors
///
/// Fails as the file system does.
pub fn save<T: Serialize>(path: &Path, kept: &T) -> io::Result<()> {
    let body = serde_json::to_string(kept)? + "\n";
    let head = format!("{MAGIC} {FORMAT} {}\n", checksum(&body));
    let new = path.with_extension("events.new");
    let mut file = File::create(&new)?;
    file.write_all(head.as_bytes())?;
    file.write_all(body.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// FNV-1a: enough to tell a torn file from a whole one.
fn checksum(text: &str) -> String {
    let sum = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{sum:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_comes_back_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path(), "main", "a/b");
        assert_eq!(path.file_name().unwrap(), "main.a%2Fb.events");
        assert!(load::<Vec<u64>>(&path).unwrap().is_none());
        save(&path, &[1_u64, 2, 3]).unwrap();
        save(&path, &[4_u64, 5, 6]).unwrap();
        assert_eq!(load::<Vec<u64>>(&path).unwrap().unwrap(), [4, 5, 6]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

        let whole = fs::read_to_string(&path).unwrap();
        let newer = whole.replace("events 2 ", "events 3 ");
        for (text, words) in [
            (&whole[..whole.len() - 3], "damaged"),
            (&whole.replace('5', "7"), "damaged"),
            (&newer, "of format 3"),
            ("", "not a file of this program"),
            ("PNG\n", "not a file of this program"),
        ] {
            fs::write(&path, text).unwrap();
            let said = load::<Vec<u64>>(&path).unwrap_err().to_string();
            assert!(said.contains(words), "{said}");
            assert!(said.contains(&path.display().to_string()), "{said}");
        }
    }
}
