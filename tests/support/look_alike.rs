//! What looks like a Synapse to the exporter, as far as tests need it.

/// What a Synapse is known by, and tables that are read whole, in pieces and by the count of events,
/// which finds five.
pub const SYNAPSE: &str = "
    CREATE TABLE applied_schema_deltas ();
    CREATE TABLE background_updates (update_name text, ordering int, depends_on text,
                                     progress_json text);
    CREATE TABLE schema_version (version int);
    CREATE TABLE state_groups_state ();
    CREATE TABLE events (stream_ordering bigint UNIQUE, type text, state_key text,
                         rejection_reason text, received_ts bigint);
    CREATE TABLE stream_positions (stream_name text, instance_name text, stream_id bigint);
    CREATE TABLE rooms (room_id text PRIMARY KEY, room_version text, is_public boolean,
                        creator text);
    CREATE TABLE event_forward_extremities (room_id text);
    CREATE TABLE local_current_membership (room_id text, membership text);
    CREATE TABLE room_stats_current (room_id text);
    CREATE TABLE room_stats_state (room_id text);
    CREATE TABLE users (name text);
    CREATE SEQUENCE events_stream_seq;
    INSERT INTO events SELECT i, 'm.room.message', NULL, NULL, 1 FROM generate_series(1, 5) AS i;
    INSERT INTO stream_positions VALUES ('events', 'master', 5)";
