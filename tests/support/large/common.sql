-- An index is made quicker anew than by adding row after row.
CREATE TEMPORARY TABLE indexes ON COMMIT DROP AS
SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS definition
  FROM pg_index AS i
  JOIN pg_class AS c ON c.oid = i.indrelid
 WHERE c.relnamespace = '{schema}'::regnamespace AND NOT i.indisunique
   AND (c.relname = 'events') = {of_events};

DO $$ DECLARE index text; BEGIN
    FOR index IN SELECT name FROM indexes LOOP EXECUTE 'DROP INDEX ' || index; END LOOP;
END $$;

-- What the rows are made with. The same number gives the same row, in whatever order the key of
-- the table puts them: keys that people choose stand in no order on disk.

SET session_replication_role = replica;

CREATE FUNCTION pg_temp.dice(n bigint, seed integer, sides bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE AS
    'SELECT (hashint8extended(n, seed) & 9223372036854775807) % sides';

-- From 0 to 1, all alike.
CREATE FUNCTION pg_temp.share(n bigint, seed integer) RETURNS double precision
    LANGUAGE sql IMMUTABLE AS
    'SELECT pg_temp.dice(n, seed, 1000000) / 1000000::double precision';

CREATE FUNCTION pg_temp.hash(what text, n bigint) RETURNS text
    LANGUAGE sql IMMUTABLE AS
    $$SELECT translate(encode(sha256(convert_to(what || n::text, 'UTF8')), 'base64'),
                       '+/=', '-_')$$;

CREATE FUNCTION pg_temp.person(n bigint) RETURNS text
    LANGUAGE sql IMMUTABLE AS
    $$SELECT '@' || left(md5(n::text), 12) || ':large.example'$$;

CREATE FUNCTION pg_temp.device(n bigint) RETURNS text
    LANGUAGE sql IMMUTABLE AS
    $$SELECT upper(left(md5('device' || n::text), 10))$$;

CREATE FUNCTION pg_temp.room(n bigint) RETURNS text
    LANGUAGE sql IMMUTABLE AS
    $$SELECT '!' || pg_temp.hash('room', n)$$;

CREATE FUNCTION pg_temp.event(n bigint) RETURNS text
    LANGUAGE sql IMMUTABLE AS
    $$SELECT '$' || pg_temp.hash('event', n)$$;

-- A few servers have most of everything.
CREATE FUNCTION pg_temp.server(n bigint) RETURNS text
    LANGUAGE sql IMMUTABLE AS
    $$SELECT CASE WHEN pg_temp.dice(n, 1, 3) = 0 THEN 'matrix.example'
                  ELSE 'server' || pg_temp.dice(n, 2, 3 + {users} / 40) || '.example' END$$;

CREATE FUNCTION pg_temp.ago(seconds double precision) RETURNS bigint
    LANGUAGE sql STABLE AS
    $$SELECT ((date_part('epoch', now()) - seconds) * 1000)::bigint$$;
