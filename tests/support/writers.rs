//! Writers of events, as fast and as disorderly as Synapse's event persisters may be.
//!
//! Each does as they do: it takes ids from the sequence in one transaction, writes the events in a
//! later one, which may fail, and then says in `stream_positions` how far it has come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::postgres::{Postgres, rows};

/// Rooms that they write to.
pub const ROOMS: u64 = 20;

/// Several writers at work. They stop when this is dropped.
pub struct Writers {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
    written: Arc<AtomicU64>,
}

impl Writers {
    /// Starts so many of them.
    pub async fn start(server: &Postgres, number: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new(AtomicU64::new(0));
        let mut tasks = Vec::new();
        for writer in 0..number {
            let client = server.client("synapse", "postgres").await;
            let (stop, written) = (stop.clone(), written.clone());
            tasks.push(tokio::spawn(async move {
                // A number of its own for each round.
                let mut round = writer * 7919;
                while !stop.load(Ordering::Relaxed) {
                    round += 1;
                    let rows = write(&client, writer, round).await;
                    written.fetch_add(rows, Ordering::Relaxed);
                }
            }));
        }
        Self {
            stop,
            tasks,
            written,
        }
    }

    /// How many events they have written until now.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Lets them end what they do; how many events they have written.
    pub async fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for task in std::mem::take(&mut self.tasks) {
            task.await.unwrap();
        }
        self.written()
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// One round; how many events have come of it.
async fn write(client: &Client, writer: u64, round: u64) -> u64 {
    let backfill = round.is_multiple_of(5);
    let (stream, sequence, sign, further) = match backfill {
        true => ("backfill", "events_backfill_stream_seq", "-", ">"),
        false => ("events", "events_stream_seq", "", "<"),
    };
    let number = 1 + round % 4;
    let ids = format!("SELECT {sign}nextval('{sequence}') FROM generate_series(1, {number})");
    let ids = rows(client, &ids).await;
    let ids: Vec<_> = ids.into_iter().flatten().flatten().collect();
    tokio::time::sleep(Duration::from_millis(round * 31 % 17)).await;

    rows(client, "BEGIN").await;
    for (at, id) in ids.iter().enumerate() {
        let event = round + at as u64;
        let kind = match event % 7 {
            0 => "m.room.member",
            1 | 2 => "m.room.message",
            3 => "m.room.redaction",
            _ => "m.room.encrypted",
        };
        let state = if event.is_multiple_of(7) {
            "'@a:b'"
        } else {
            "NULL"
        };
        let rejection = if event.is_multiple_of(13) {
            "'auth_error'"
        } else {
            "NULL"
        };
        let room = event % ROOMS;
        insert(
            client,
            &format!("({id}, '{kind}', '!{room}:made', {state}, {rejection})"),
        )
        .await;
    }
    tokio::time::sleep(Duration::from_millis(round * 13 % 29)).await;
    let commits = !round.is_multiple_of(6);
    rows(client, if commits { "COMMIT" } else { "ROLLBACK" }).await;

    let last = ids.last().unwrap();
    advance(client, stream, &format!("writer{writer}"), last, further).await;
    if commits { number } else { 0 }
}

/// Inserts events: rows of stream ordering, type, room, state key and reason for a rejection.
pub async fn insert(client: &Client, events: &str) {
    let insert = format!(
        "INSERT INTO events (stream_ordering, type, room_id, state_key, rejection_reason, event_id,
                             topological_ordering, depth, processed, outlier, received_ts)
         SELECT e.id, e.type, e.room, e.state::text, e.rejection::text, gen_random_uuid(),
                1, 1, true, false, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
           FROM (VALUES {events}) AS e (id, type, room, state, rejection)"
    );
    rows(client, &insert).await;
}

/// A writer that takes ids long before it writes its events, and says how far it is after that.
pub struct LateWriter {
    client: Client,
    name: &'static str,
    ids: Vec<String>,
}

impl LateWriter {
    /// Takes so many ids for live events.
    pub async fn start(server: &Postgres, name: &'static str, number: u64) -> Self {
        let client = server.client("synapse", "postgres").await;
        let ids = format!("SELECT nextval('events_stream_seq') FROM generate_series(1, {number})");
        let ids = rows(&client, &ids).await.into_iter().flatten().flatten();
        let ids = ids.collect();
        Self { client, name, ids }
    }

    /// Writes its events.
    pub async fn write(self) {
        let event = |id| format!("({id}, 'm.room.message', '!98:made', NULL, NULL)");
        let events: Vec<_> = self.ids.iter().map(event).collect();
        insert(&self.client, &events.join(", ")).await;
        let last = self.ids.last().unwrap();
        advance(&self.client, "events", self.name, last, "<").await;
    }
}

/// A writer says how far it has come.
async fn advance(client: &Client, stream: &str, writer: &str, position: &str, further: &str) {
    let advance = format!(
        "INSERT INTO stream_positions (stream_name, instance_name, stream_id)
         VALUES ('{stream}', '{writer}', {position})
         ON CONFLICT (stream_name, instance_name) DO UPDATE SET stream_id = EXCLUDED.stream_id
          WHERE stream_positions.stream_id {further} EXCLUDED.stream_id"
    );
    rows(client, &advance).await;
}

/// Inserts ten messages.
pub async fn insert_ten(server: &Postgres) {
    let client = server.client("synapse", "postgres").await;
    let event = "(nextval('events_stream_seq'), 'm.room.message', '!99:made', NULL, NULL)";
    insert(&client, &[event; 10].join(", ")).await;
}

/// Makes so many live events, in one statement; they are what a server with a history has.
pub async fn make_history(server: &Postgres, events: u64) {
    let make = new_events(events) + "; ANALYZE events";
    server.sql("synapse", &make).await;
}

/// The same, and the planner does not know of them.
pub async fn make_history_quietly(server: &Postgres, events: u64) {
    server.sql("synapse", &new_events(events)).await;
}

fn new_events(number: u64) -> String {
    let ids =
        format!("SELECT nextval('events_stream_seq') AS id FROM generate_series(1, {number})");
    history(&ids)
        + "INSERT INTO stream_positions (stream_name, instance_name, stream_id)
           SELECT 'events', 'master', max(stream_ordering) FROM events
           ON CONFLICT (stream_name, instance_name) DO UPDATE SET stream_id = EXCLUDED.stream_id"
}

/// Makes so many live events whose ids were given before, as a copy of another database does.
pub async fn copy_history(server: &Postgres, events: u64) {
    let given = format!("SELECT generate_series(1, {events}) AS id");
    server.sql("synapse", &history(&given)).await;
}

fn history(ids: &str) -> String {
    format!(
        "SET session_replication_role = replica;
         INSERT INTO events (stream_ordering, type, room_id, state_key, event_id,
                             topological_ordering, depth, processed, outlier, received_ts)
         SELECT id,
                CASE id % 10 WHEN 0 THEN 'm.room.member' WHEN 1 THEN 'm.room.message'
                             ELSE 'm.room.encrypted' END,
                '!' || id % {ROOMS} || ':made', CASE id % 10 WHEN 0 THEN '@a:b' END,
                'made' || id, id, id, true, false,
                (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
           FROM ({ids}) AS ids;"
    )
}
