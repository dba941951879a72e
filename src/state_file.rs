//! A file in `state_dir`: what is kept from one run of the program to the next.
//!
//! It holds one line that says what it is, with a checksum, and one of JSON. It is replaced as a
//! whole, and nothing in it is a secret.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How each file begins.
const MAGIC: &str = "matrix-postgres-exporter";

/// What is kept, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateFile {
    path: PathBuf,
    /// What it is, in one word.
    kind: &'static str,
    /// Rises when the content means something else than before.
    format: u32,
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

impl StateFile {
    /// That of a server, or of one of its databases.
    pub fn new(
        folder: &Path,
        server: &str,
        database: Option<&str>,
        (kind, format): (&'static str, u32),
    ) -> Self {
        let database = database.map_or_else(String::new, |name| {
            format!(".{}", utf8_percent_encode(name, NON_ALPHANUMERIC))
        });
        let path = folder.join(format!("{server}{database}.{kind}"));
        Self { path, kind, format }
    }

    /// What was kept, if anything was.
    ///
    /// # Errors
    ///
    /// Fails where the file is torn, foreign, or written by another version of this program.
    pub fn load<T: DeserializeOwned>(&self) -> Result<Option<T>, Unusable> {
        let path = || self.path.clone();
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let path = path();
                return Err(Unusable::Unreadable { path, error });
            }
        };
        let text = String::from_utf8_lossy(&text);
        let kept = self.parse(&text).map(Some);
        kept.map_err(|what| Unusable::Strange { path: path(), what })
    }

    fn parse<T: DeserializeOwned>(&self, text: &str) -> Result<T, String> {
        let foreign = || "not a file of this program".to_owned();
        let (head, body) = text.split_once('\n').ok_or_else(foreign)?;
        let words: Vec<_> = head.split(' ').collect();
        let [MAGIC, kind, format, sum] = words[..] else {
            return Err(foreign());
        };
        if kind != self.kind {
            return Err(foreign());
        }
        if format != self.format.to_string() {
            return Err(format!(
                "of format {format}, and this version of the program reads format {}",
                self.format
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
    pub fn save<T: Serialize>(&self, kept: &T) -> io::Result<()> {
        let body = serde_json::to_string(kept)? + "\n";
        let (kind, format, sum) = (self.kind, self.format, checksum(&body));
        let new = self.path.with_extension(format!("{kind}.new"));
        let mut file = File::create(&new)?;
        file.write_all(format!("{MAGIC} {kind} {format} {sum}\n").as_bytes())?;
        file.write_all(body.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        match self.path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

impl fmt::Display for StateFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
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
        let file = StateFile::new(folder.path(), "main", Some("a/b"), ("counts", 2));
        let path = folder.path().join("main.a%2Fb.counts");
        assert_eq!(file.to_string(), path.display().to_string());
        assert!(file.load::<Vec<u64>>().unwrap().is_none());
        file.save(&[1_u64, 2, 3]).unwrap();
        file.save(&[4_u64, 5, 6]).unwrap();
        assert_eq!(file.load::<Vec<u64>>().unwrap().unwrap(), [4, 5, 6]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

        let whole = fs::read_to_string(&path).unwrap();
        for (text, words) in [
            (&whole[..whole.len() - 3], "damaged"),
            (&whole.replace('5', "7"), "damaged"),
            (&whole.replace("counts 2 ", "counts 3 "), "of format 3"),
            (&whole.replace("counts", "others"), "not a file of this"),
            ("", "not a file of this program"),
            ("PNG\n", "not a file of this program"),
        ] {
            fs::write(&path, text).unwrap();
            let said = file.load::<Vec<u64>>().unwrap_err().to_string();
            assert!(said.contains(words), "{said}");
            assert!(said.contains(&path.display().to_string()), "{said}");
        }
    }

    #[test]
    fn a_server_has_a_file_beside_those_of_its_databases() {
        let file = |database| StateFile::new(Path::new("/state"), "main", database, ("clock", 1));
        assert_eq!(file(None).to_string(), "/state/main.clock");
        assert_eq!(file(Some("b")).to_string(), "/state/main.b.clock");
    }
}
