//! One statement in one guarded message, and its rows.
//!
//! The message is one of the simple protocol, hence an implicit transaction in one round trip:
//! read-only, with short timeouts, and nothing left open or set when it ends, with an error or
//! without. Nothing is ever set for the session: behind a transaction pooler that session is the
//! application's.

use std::borrow::Cow;
use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use super::guard::{self, guarded};
use super::{QueryError, Scope, Sql, Version, since};
use crate::text::cut;

/// The statement timeouts there are: up to PostgreSQL 17 every other value would be an entry of
/// its own in `pg_stat_statements`.
pub const TIMEOUTS: [Duration; 8] = [
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(15),
];

/// Below `deadlock_timeout`, so that waiting for a lock never cancels an autovacuum.
const LOCK_TIMEOUT_MS: u32 = 100;

/// What server, database or role may have set by default, and what would change a text, a number
/// or a right of ours. `tests/real/settings.rs` walks all the others, and says why they may stay.
const SETTINGS: &str = "SET LOCAL client_min_messages = warning; \
     SET LOCAL role = none; \
     SET LOCAL search_path = pg_catalog, pg_temp; \
     SET LOCAL row_security = off; \
     SET LOCAL constraint_exclusion = off; \
     SET LOCAL jit = off; \
     SET LOCAL max_parallel_workers_per_gather = 0; \
     SET LOCAL work_mem = '4MB'; \
     SET LOCAL DateStyle = 'ISO'; \
     SET LOCAL IntervalStyle = 'postgres'; \
     SET LOCAL TimeZone = 'UTC'; \
     SET LOCAL extra_float_digits = 1; \
     SET LOCAL quote_all_identifiers = off; ";

const SETTINGS_SINCE_17: &str = "SET LOCAL transaction_timeout = 0; ";

/// What would change how a table is read, of whose size nothing is known: which ways there are, and
/// what they are taken to cost (the server's own values, but for a random page: ours are read by
/// index). It costs a good part of a cheap SELECT, so that what is asked of the server as a whole does
/// without.
const PLAN_SETTINGS: &str = "SET LOCAL enable_seqscan = on; \
     SET LOCAL enable_indexscan = on; \
     SET LOCAL enable_indexonlyscan = on; \
     SET LOCAL enable_bitmapscan = on; \
     SET LOCAL enable_tidscan = on; \
     SET LOCAL enable_nestloop = on; \
     SET LOCAL enable_hashjoin = on; \
     SET LOCAL enable_mergejoin = on; \
     SET LOCAL enable_hashagg = on; \
     SET LOCAL enable_sort = on; \
     SET LOCAL seq_page_cost = 1; \
     SET LOCAL random_page_cost = 1.1; \
     SET LOCAL cpu_tuple_cost = 0.01; \
     SET LOCAL cpu_index_tuple_cost = 0.005; \
     SET LOCAL cpu_operator_cost = 0.0025; ";

/// The longest of [`TIMEOUTS`] that is no longer than this, or the shortest of them.
pub fn timeout_step(left: Duration) -> Duration {
    TIMEOUTS
        .into_iter()
        .rev()
        .find(|step| *step <= left)
        .unwrap_or(TIMEOUTS[0])
}

/// One or more SELECTs, to be sent as one message.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// The statements, separated by semicolons.
    pub sql: &'a Sql,
    /// One of [`TIMEOUTS`].
    pub timeout: Duration,
    /// The server's version, or zero as long as it is not known.
    pub version: Version,
    /// Where it is asked, and so what it reads.
    pub scope: Scope,
}

impl Message<'_> {
    /// Sends it, and hands each row to `each` with the number of the SELECT that it belongs to.
    ///
    /// # Errors
    ///
    /// Fails as the server or `each` does.
    pub async fn send(
        &self,
        client: &Client,
        mut each: impl FnMut(usize, Cells<'_>) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let message = self.text("", self.sql);
        self.stream(client, &message, Encoding::Utf8, &mut each)
            .await
    }

    /// Sends a single SELECT whose text columns may hold bytes that are not UTF-8: names in a
    /// SQL_ASCII database, or those of another database in the shared catalogue. Only when that
    /// happens is the statement sent again, in a form that carries such text as hexadecimal
    /// digits. `reset` forgets what the first attempt has handed out.
    ///
    /// # Errors
    ///
    /// Fails as the server or `each` does.
    pub async fn send_any_text<T>(
        &self,
        client: &Client,
        text_columns: &[&'static str],
        target: &mut T,
        reset: impl Fn(&mut T),
        mut each: impl FnMut(&mut T, Cells<'_>) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let message = self.text("", self.sql);
        let mut once = |_, cells: Cells<'_>| each(target, cells);
        match self
            .stream(client, &message, Encoding::Utf8, &mut once)
            .await
        {
            Err(QueryError::NotUtf8) => {}
            other => return other,
        }
        reset(target);
        let message = self.text(
            "SET LOCAL client_encoding = 'SQL_ASCII'; ",
            &hex_select(self.sql, text_columns),
        );
        let mut again = |_, cells: Cells<'_>| each(target, cells);
        self.stream(client, &message, Encoding::Hex, &mut again)
            .await
    }

    async fn stream(
        &self,
        client: &Client,
        message: &str,
        encoding: Encoding,
        each: &mut impl FnMut(usize, Cells<'_>) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let mut rows = pin!(client.simple_query_raw(message).await?);
        // Each SELECT opens with a description of its rows; SET has none.
        let mut selects = 0_usize;
        let own = match self.sql.tables().is_empty() {
            true => 0,
            false => guard::RESULTS,
        };
        let mut failed = None;
        while let Some(message) = rows.try_next().await? {
            match message {
                SimpleQueryMessage::RowDescription(_) => selects += 1,
                SimpleQueryMessage::Row(row) if failed.is_none() && selects > own => {
                    let cells = Cells {
                        row: &row,
                        encoding,
                    };
                    // The rest of the answer is still read: the connection stays usable.
                    failed = each(selects - own - 1, cells).err();
                }
                _ => {}
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn text(&self, also: &str, sql: &Sql) -> String {
        let newer = match since(17).contains(self.version) {
            true => SETTINGS_SINCE_17,
            false => "",
        };
        let plans = match self.scope {
            Scope::Server => "",
            Scope::Database | Scope::Application(_) => PLAN_SETTINGS,
        };
        format!(
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY, NOT DEFERRABLE; \
             SET LOCAL statement_timeout = {}; \
             SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}; \
             {SETTINGS}{newer}{plans}{also}{}",
            self.timeout.as_millis(),
            if sql.tables().is_empty() {
                sql.clone()
            } else {
                guarded(sql)
            }
            .as_str()
        )
    }
}

/// The cells of one row.
#[derive(Clone, Copy, Debug)]
pub struct Cells<'a> {
    row: &'a SimpleQueryRow,
    encoding: Encoding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Utf8,
    Hex,
}

impl<'a> Cells<'a> {
    /// Where a column stands.
    pub fn position(&self, column: &str) -> Option<usize> {
        self.row.columns().iter().position(|c| c.name() == column)
    }

    /// The text of one of the text columns; bytes that are not UTF-8 are shown as `\xE9`.
    ///
    /// # Errors
    ///
    /// Fails with [`QueryError::NotUtf8`].
    pub fn text(&self, position: usize) -> Result<Option<Cow<'a, str>>, QueryError> {
        let Some(raw) = self.raw(position)? else {
            return Ok(None);
        };
        Ok(Some(match self.encoding {
            Encoding::Utf8 => Cow::Borrowed(raw),
            Encoding::Hex => Cow::Owned(readable(&from_hex(raw))),
        }))
    }

    /// Whether the text of one of the text columns came as it is, without bytes to be shown.
    ///
    /// # Errors
    ///
    /// Fails with [`QueryError::NotUtf8`].
    pub fn is_utf8(&self, position: usize) -> Result<bool, QueryError> {
        let raw = self.raw(position)?.unwrap_or_default();
        Ok(self.encoding == Encoding::Utf8 || str::from_utf8(&from_hex(raw)).is_ok())
    }

    /// A cell that is not a text: a number, a boolean.
    ///
    /// # Errors
    ///
    /// Fails with [`QueryError::NotUtf8`].
    pub fn raw(&self, position: usize) -> Result<Option<&'a str>, QueryError> {
        self.row.try_get(position).map_err(|_| QueryError::NotUtf8)
    }

    /// A number, or a boolean as 1 and 0.
    ///
    /// # Errors
    ///
    /// Fails on anything else.
    pub fn number(&self, position: usize, column: &'static str) -> Result<Option<f64>, QueryError> {
        Ok(match self.raw(position)? {
            None => None,
            Some("t") => Some(1.0),
            Some("f") => Some(0.0),
            Some(text) => Some(text.parse().map_err(|_| QueryError::NotANumber {
                column,
                text: cut(text, 100).into_owned(),
            })?),
        })
    }

    /// Whether a cell is true.
    ///
    /// # Errors
    ///
    /// Fails with [`QueryError::NotUtf8`].
    pub fn truth(&self, position: usize) -> Result<bool, QueryError> {
        Ok(self.raw(position)? == Some("t"))
    }
}

/// The same SELECT with its text columns as hexadecimal digits of their bytes.
fn hex_select(sql: &Sql, text_columns: &[&'static str]) -> Sql {
    let replaced = text_columns.iter().map(|column| {
        let column = Sql::identifier(column);
        Sql::from("encode(textsend(q.")
            .with(column.clone())
            .with("::text), 'hex') AS ")
            .with(column)
    });
    // The replaced columns come first: a column is found by the first of its name.
    Sql::from("SELECT ")
        .with(Sql::join(replaced, ", "))
        .with(", q.* FROM (")
        .with(sql.clone())
        .with(") q")
}

fn from_hex(digits: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).unwrap_or_default() as u8;
    digits
        .as_bytes()
        .chunks_exact(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

fn readable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_rounded_down_to_a_step() {
        let step = |ms| timeout_step(Duration::from_millis(ms)).as_millis();
        assert_eq!(step(0), 100);
        assert_eq!(step(99), 100);
        assert_eq!(step(250), 250);
        assert_eq!(step(999), 500);
        assert_eq!(step(4_700), 4_000);
        assert_eq!(step(60_000), 15_000);
    }

    #[test]
    fn bytes_that_are_no_text_stay_tellable_apart() {
        assert_eq!(readable(&from_hex("636166e9")), "caf\\xE9");
        assert_eq!(readable(&from_hex("636166c3a9")), "café");
        assert_eq!(readable(&from_hex("")), "");
    }
}
