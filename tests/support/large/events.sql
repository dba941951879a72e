-- Events, {events} live ones and one in twenty more from backfill, in one room per 25 of them, of
-- which a few have most. One number in ten was never used, as after a rollback.

CREATE TEMPORARY TABLE first ON COMMIT DROP AS
SELECT greatest(max(stream_ordering), 1000) AS live, least(min(stream_ordering), -1000) AS backfill
  FROM {schema}.events;

INSERT INTO {schema}.events
       (topological_ordering, event_id, type, room_id, processed, outlier, depth, origin_server_ts,
        received_ts, sender, contains_url, instance_name, stream_ordering, state_key,
        rejection_reason)
SELECT depth, pg_temp.event(n),
       CASE WHEN kind < 350 THEN 'm.room.message'
            WHEN kind < 750 THEN 'm.room.encrypted'
            WHEN kind < 840 THEN 'm.reaction'
            WHEN kind < 950 THEN 'm.room.member'
            WHEN kind < 970 THEN 'm.room.redaction'
            WHEN kind < 980 THEN 'm.room.power_levels'
            WHEN kind < 990 THEN 'm.room.topic'
            ELSE 'org.example.' || kind END,
       pg_temp.room(room), true, pg_temp.dice(n, 4, 100) = 0, depth,
       pg_temp.ago(last - depth * 12), pg_temp.ago(last - depth * 12 - 1), pg_temp.person(sender),
       pg_temp.dice(n, 5, 20) = 0, 'master',
       CASE WHEN n > 0 THEN live + n + n / 9 ELSE backfill + n + n / 9 END,
       CASE WHEN kind BETWEEN 840 AND 949 THEN pg_temp.person(sender)
            WHEN kind BETWEEN 970 AND 989 THEN '' END,
       CASE WHEN pg_temp.dice(n, 6, 1000) = 0 THEN 'auth_error' END
  FROM (SELECT n, abs(n) AS depth, pg_temp.dice(n, 3, 1000) AS kind, {events} * 12::float AS last,
               -- The third power: a few rooms have most events.
               1 + floor(({events} / 25) * pg_temp.share(n, 7) ^ 3)::bigint AS room,
               1 + pg_temp.dice(n, 8, {events} / 5) AS sender
          FROM generate_series(-({events} / 20), {events}) AS n
         WHERE n <> 0) AS numbers,
       first;

SELECT setval('{schema}.events_stream_seq', (SELECT max(stream_ordering) FROM {schema}.events)),
       setval('{schema}.events_backfill_stream_seq',
              -(SELECT min(stream_ordering) FROM {schema}.events));

INSERT INTO {schema}.stream_positions (stream_name, instance_name, stream_id)
SELECT 'events', 'master', max(stream_ordering) FROM {schema}.events
 UNION ALL
SELECT 'backfill', 'master', min(stream_ordering) FROM {schema}.events
    ON CONFLICT (stream_name, instance_name) DO UPDATE SET stream_id = excluded.stream_id;
