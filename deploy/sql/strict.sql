-- Grants the role exporter what the collectors of matrix-postgres-exporter read, and no access to
-- query texts, since these contain the bodies of messages.
-- In the databases named here and in postgres, PUBLIC loses CREATE on schemas, and TRIGGER,
-- REFERENCES and MAINTAIN on tables; roles that own something there, or may write there, keep them.
-- PUBLIC loses CONNECT on template databases. What is changed is printed, and --revoke restores it.
-- It sets no password. In psql, this sets one without writing it to the server's log:
--   \password "exporter"
-- Run it as a superuser, as often as you like: psql -v ON_ERROR_STOP=1 -f FILE

\connect "postgres"
SET client_encoding = 'UTF8';
BEGIN READ WRITE;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL client_min_messages = warning;
DO $do$
BEGIN
  IF EXISTS (SELECT
               FROM pg_db_role_setting s
               JOIN pg_database d ON d.oid = s.setdatabase,
                    unnest(s.setconfig) AS c (setting)
              WHERE d.datname = current_database() AND s.setrole = 0
                AND starts_with(c.setting, 'role=')) THEN
    SET LOCAL role = none;
  END IF;
END
$do$;
DO $do$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = E'exporter') THEN
    CREATE ROLE "exporter" LOGIN;
    COMMENT ON ROLE "exporter" IS 'made by matrix-postgres-exporter grants';
  END IF;
END
$do$;

-- Twice the connections and two more: a server may notice late that one was closed.
ALTER ROLE "exporter" LOGIN CONNECTION LIMIT 8;
ALTER ROLE "exporter" SET tcp_keepalives_idle = 30;
ALTER ROLE "exporter" SET tcp_keepalives_interval = 10;
ALTER ROLE "exporter" SET tcp_keepalives_count = 3;
GRANT CONNECT ON DATABASE postgres TO "exporter";

-- From 16 on the role may use reserved connections, so that a server without free ones can be read. It
-- cannot SET ROLE to that role.
DO $do$
BEGIN
  IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'pg_use_reserved_connections') THEN
    EXECUTE format('GRANT pg_use_reserved_connections TO %I WITH INHERIT TRUE, SET FALSE, ADMIN FALSE',
                   E'exporter');
  END IF;
END
$do$;

-- Owns the functions, and stores for --revoke what PUBLIC could do.
DO $do$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = E'matrix_postgres_exporter_owner') THEN
    CREATE ROLE "matrix_postgres_exporter_owner" NOLOGIN;
    COMMENT ON ROLE "matrix_postgres_exporter_owner" IS 'made by matrix-postgres-exporter grants';
  END IF;
END
$do$;
DO $do$
DECLARE
  members text := (SELECT string_agg(DISTINCT m.rolname, ', ')
                     FROM pg_catalog.pg_auth_members a
                     JOIN pg_catalog.pg_roles r ON r.oid = a.roleid
                     JOIN pg_catalog.pg_roles m ON m.oid = a.member
                    WHERE r.rolname = E'matrix_postgres_exporter_owner' AND NOT m.rolsuper
                      AND m.rolname NOT IN (session_user, current_user));
BEGIN
  IF members IS NOT NULL THEN
    RAISE EXCEPTION 'Role matrix_postgres_exporter_owner has members (%), who would get pg_monitor by it. Revoke it from them, and run this again.',
      members;
  END IF;
END
$do$;
DO $do$
DECLARE
  members text := (SELECT string_agg(DISTINCT m.rolname, ', ')
                     FROM pg_catalog.pg_auth_members a
                     JOIN pg_catalog.pg_roles r ON r.oid = a.roleid
                     JOIN pg_catalog.pg_roles m ON m.oid = a.member
                    WHERE r.rolname = E'exporter' AND NOT m.rolsuper
                      AND m.rolname NOT IN (session_user, current_user));
BEGIN
  IF members IS NOT NULL THEN
    RAISE WARNING 'Role % has members (%), who can read what it can read. Revoke it from them if they should not.',
      E'exporter', members;
  END IF;
END
$do$;

-- An application may run, with its own rights, what others create in a schema on its search path, or as
-- a trigger on its tables. So PUBLIC loses CREATE, and TRIGGER, REFERENCES and MAINTAIN on tables here;
-- roles that own something in this database, or may write to it, get it instead. What is made in a
-- template is in each new database, so PUBLIC loses CONNECT there. --revoke restores what was.
DO $do$
DECLARE
  me name := current_user;
  here oid := (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database());
  cluster text := (SELECT c.system_identifier FROM pg_catalog.pg_control_system() AS c);
  stored record;
  memory jsonb;
  known boolean := false;
  changes jsonb := '[]';
  roles jsonb := '[]';
  change jsonb;
  command text;
  open record;
  keeper record;
BEGIN
  FOR stored IN
    SELECT o.option_name AS name, o.option_value AS value
      FROM pg_catalog.pg_db_role_setting s
      JOIN pg_catalog.pg_roles r ON r.oid = s.setrole AND r.rolname = 'matrix_postgres_exporter_owner',
           pg_options_to_table(s.setconfig) AS o
     WHERE s.setdatabase = here AND o.option_name IN ('matrix_postgres_exporter.remembered', 'matrix_postgres_exporter.revoked_create')
     ORDER BY o.option_name DESC
  LOOP
    BEGIN
      memory := stored.value::jsonb;
      IF stored.name = 'matrix_postgres_exporter.revoked_create' THEN
        memory := jsonb_build_object('cluster', '', 'database', 0, 'roles', '[]'::jsonb, 'changes',
          (SELECT coalesce(jsonb_agg(
                    CASE WHEN c ? 'schema' AND c - '{schema,role,grantor}'::text[] = '{}'
                         THEN jsonb_build_object(
                           'schema', c -> 'schema', 'relation', NULL,
                           'database', CASE WHEN c ->> 'schema' IS NULL THEN current_database() END,
                           'oid', 0, 'privileges', 'CREATE', 'role', c -> 'role', 'role_oid', 0,
                           'grantor', c -> 'grantor', 'grantor_oid', 0) END), '[]')
             FROM jsonb_array_elements(memory) AS c));
      END IF;
      IF (ARRAY(SELECT jsonb_object_keys(memory) COLLATE "C" ORDER BY 1)
            = '{changes,cluster,database,roles}'
          AND jsonb_typeof(memory -> 'cluster') = 'string'
          AND (memory ->> 'database')::oid IS NOT NULL
          AND NOT EXISTS (
            SELECT FROM jsonb_array_elements(memory -> 'roles') AS c
             WHERE (ARRAY(SELECT jsonb_object_keys(c) COLLATE "C" ORDER BY 1) = '{oid,role}'
                    AND jsonb_typeof(c -> 'role') = 'string' AND (c ->> 'oid')::oid IS NOT NULL)
                   IS NOT TRUE)
          AND NOT EXISTS (
            SELECT FROM jsonb_array_elements(memory -> 'changes') AS c
             WHERE (ARRAY(SELECT jsonb_object_keys(c) COLLATE "C" ORDER BY 1)
                      = '{database,grantor,grantor_oid,oid,privileges,relation,role,role_oid,schema}'
                    AND NOT EXISTS (
                      SELECT FROM jsonb_each(c) AS e (key, value)
                       WHERE CASE WHEN e.key ~ 'oid$' THEN (e.value #>> '{}')::oid IS NULL
                                  ELSE jsonb_typeof(e.value) NOT IN ('string', 'null') END)
                    AND (c ->> 'schema' IS NULL) = (c ->> 'database' IS NOT NULL)
                    AND (c ->> 'relation' IS NULL OR c ->> 'schema' IS NOT NULL)
                    AND c ->> 'privileges' ~ CASE
                          WHEN c ->> 'relation' IS NOT NULL
                          THEN '^(MAINTAIN|REFERENCES|TRIGGER)(, (MAINTAIN|REFERENCES|TRIGGER))*$'
                          WHEN c ->> 'schema' IS NOT NULL THEN '^CREATE$'
                          ELSE '^(CREATE|CONNECT)$' END)
                   IS NOT TRUE)) IS NOT TRUE THEN
        RAISE data_exception USING MESSAGE = 'it is not what `grants` of this version writes';
      END IF;
    EXCEPTION WHEN data_exception THEN
      RAISE EXCEPTION 'Database %: what --revoke has to restore cannot be read from the setting % of the role matrix_postgres_exporter_owner: %. Nothing was changed in this database.',
        current_database(), stored.name, SQLERRM
        USING HINT = format('Look at it in pg_db_role_setting and repair it, or give it up: ALTER ROLE matrix_postgres_exporter_owner IN DATABASE %I RESET %s. Then run this again; who could create or make triggers before, cannot again.',
                            current_database(), stored.name);
    END;
    known := known OR stored.name = 'matrix_postgres_exporter.remembered';
    IF (memory ->> 'cluster', (memory ->> 'database')::oid) <> (cluster, here) THEN
      memory := jsonb_build_object('roles',
        (SELECT coalesce(jsonb_agg(c || '{"oid": 0}'), '[]')
           FROM jsonb_array_elements(memory -> 'roles') AS c),
        'changes',
        (SELECT coalesce(jsonb_agg(c || '{"oid": 0, "role_oid": 0, "grantor_oid": 0}'), '[]')
           FROM jsonb_array_elements(memory -> 'changes') AS c));
    END IF;
    changes := changes || (memory -> 'changes');
    roles := roles || (memory -> 'roles');
  END LOOP;
  -- What is granted to everybody comes first: the role may have granted it itself.
  FOR open IN
    SELECT p.schema, p.relation, p.database, p.oid, p.place, a.grantee = 0 AS of_all,
           g.rolname AS grantor, coalesce(g.oid, 0) AS grantor_oid,
           string_agg(DISTINCT a.privilege_type, ', ' ORDER BY a.privilege_type) AS privileges
      FROM (
      SELECT n.nspname AS schema, NULL::name AS relation, NULL::name AS database, n.oid,
             'SCHEMA ' || quote_ident(n.nspname) AS place, n.nspowner AS owner, n.nspacl AS acl,
             '{CREATE}'::text[] AS closed, '{CREATE}'::text[] AS taken
        FROM pg_catalog.pg_namespace n
       WHERE n.nspname !~ '^pg_(toast_)?temp_'
         AND (getdatabaseencoding() <> 'SQL_ASCII' OR n.nspname ~ '^[ -~]*$')
      UNION ALL
      SELECT n.nspname, c.relname, NULL, c.oid,
             CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END
             || quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relowner, c.relacl,
             CASE c.relkind WHEN 'S' THEN '{}' ELSE '{MAINTAIN,REFERENCES,TRIGGER}' END::text[],
             '{DELETE,INSERT,MAINTAIN,REFERENCES,TRIGGER,TRUNCATE,UPDATE,USAGE}'::text[]
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
         AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
         AND (getdatabaseencoding() <> 'SQL_ASCII' OR n.nspname || c.relname ~ '^[ -~]*$')
      UNION ALL
      SELECT NULL, NULL, d.datname, d.oid, 'DATABASE ' || quote_ident(d.datname), d.datdba,
             coalesce(d.datacl, acldefault('d', d.datdba)),
             CASE WHEN d.datname = current_database() THEN '{CREATE}' ELSE '{CONNECT}' END::text[],
             CASE WHEN d.datname = current_database() THEN '{CREATE}' ELSE '{}' END::text[]
        FROM pg_catalog.pg_database d
       WHERE d.datname = current_database()
          OR current_database() = 'postgres' AND d.datistemplate AND d.datallowconn
      UNION ALL 
      SELECT n.nspname, c.relname, NULL, c.oid,
             'TABLE ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relowner,
             t.attacl, '{}'::text[], '{INSERT,REFERENCES,UPDATE}'::text[]
        FROM pg_catalog.pg_attribute t
        JOIN pg_catalog.pg_class c ON c.oid = t.attrelid AND c.relpersistence <> 't'
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       WHERE t.attacl IS NOT NULL AND n.nspname NOT IN ('pg_catalog', 'information_schema')
         AND (getdatabaseencoding() <> 'SQL_ASCII' OR n.nspname || c.relname ~ '^[ -~]*$')
           ) AS p
     CROSS JOIN LATERAL aclexplode(p.acl) AS a
      LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantor AND g.oid <> p.owner
     WHERE a.grantee = 0 AND a.privilege_type = ANY (p.closed)
        OR a.grantee = (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = E'exporter')
           AND a.privilege_type = ANY (p.taken)
     GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
     ORDER BY a.grantee = 0 DESC, p.place
  LOOP
    command := format('REVOKE %s ON %s FROM %s', open.privileges, open.place,
                      CASE WHEN open.of_all THEN 'PUBLIC' ELSE quote_ident(E'exporter') END);
    RAISE INFO 'Database %: %', current_database(), command;
    -- A superuser takes back what the owner gave; others have to take back theirs.
    IF open.grantor IS NOT NULL THEN
      EXECUTE format('SET LOCAL ROLE %I', open.grantor);
    END IF;
    EXECUTE command;
    EXECUTE format('SET LOCAL ROLE %I', me);
    CONTINUE WHEN NOT open.of_all;
    change := jsonb_build_object(
      'schema', open.schema, 'relation', open.relation, 'database', open.database, 'oid', open.oid,
      'privileges', open.privileges, 'role', NULL, 'role_oid', 0,
      'grantor', open.grantor, 'grantor_oid', open.grantor_oid);
    changes := changes || CASE WHEN changes @> jsonb_build_array(change) THEN '[]' ELSE change END;
    -- Nobody has to connect to a template.
    CONTINUE WHEN open.privileges = 'CONNECT';
    FOR keeper IN
      SELECT r.oid, r.rolname, string_agg(a.privilege, ', ' ORDER BY a.privilege) AS privileges
        FROM pg_catalog.pg_roles r, unnest(string_to_array(open.privileges, ', ')) AS a (privilege)
       WHERE r.oid IN (
      SELECT d.refobjid
        FROM pg_catalog.pg_shdepend d
        JOIN pg_catalog.pg_database b ON b.oid = d.dbid AND b.datname = current_database()
       WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.deptype = 'o'
      UNION
      SELECT a.grantee
        FROM pg_catalog.pg_class c, aclexplode(c.relacl) a
       WHERE a.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
      UNION
      SELECT d.datdba FROM pg_catalog.pg_database d WHERE d.datname = current_database()
      UNION
      SELECT a.grantee
        FROM pg_catalog.pg_database d, aclexplode(d.datacl) a
       WHERE d.datname = current_database() AND a.privilege_type = 'CREATE'
             )
         AND r.rolname NOT IN (E'exporter', 'matrix_postgres_exporter_owner')
         AND NOT (CASE WHEN open.relation IS NOT NULL AND open.place LIKE 'SEQUENCE %'
                 THEN has_sequence_privilege(r.oid, open.oid, a.privilege)
                 WHEN open.relation IS NOT NULL
                 THEN has_table_privilege(r.oid, open.oid, a.privilege)
                 WHEN open.schema IS NOT NULL
                 THEN has_schema_privilege(r.oid, open.oid, a.privilege)
                 ELSE has_database_privilege(r.oid, open.oid, a.privilege) END)
       GROUP BY r.oid, r.rolname
       ORDER BY r.rolname
    LOOP
      command := format('GRANT %s ON %s TO %I', keeper.privileges, open.place, keeper.rolname);
      RAISE INFO 'Database %: %', current_database(), command;
      EXECUTE command;
      change := change || jsonb_build_object(
        'privileges', keeper.privileges, 'role', keeper.rolname, 'role_oid', keeper.oid,
        'grantor', NULL, 'grantor_oid', 0);
      changes := changes || CASE WHEN changes @> jsonb_build_array(change) THEN '[]' ELSE change END;
    END LOOP;
  END LOOP;
  IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'matrix_postgres_exporter_owner') THEN
    EXECUTE format('ALTER ROLE matrix_postgres_exporter_owner IN DATABASE %I RESET matrix_postgres_exporter.revoked_create', current_database());
    EXECUTE format('ALTER ROLE matrix_postgres_exporter_owner IN DATABASE %I SET matrix_postgres_exporter.remembered = %L', current_database(),
      jsonb_build_object('cluster', cluster, 'database', here,
        'roles', (SELECT coalesce(jsonb_agg(jsonb_build_object('role', r.rolname, 'oid', r.oid)
                                            ORDER BY r.oid), '[]')
                    FROM pg_catalog.pg_roles r WHERE r.oid IN (SELECT q.oid FROM pg_catalog.pg_roles q WHERE q.rolname = E'exporter'
                    UNION SELECT r.oid
           FROM jsonb_to_recordset(roles) AS c (role text, oid oid)
           JOIN pg_catalog.pg_roles r
             ON CASE WHEN c.oid <> 0 THEN r.oid = c.oid ELSE r.rolname = c.role END
         UNION
         SELECT a.grantee
           FROM pg_catalog.pg_database d, aclexplode(d.datacl) AS a
          WHERE NOT known AND d.oid = here AND a.privilege_type = 'CONNECT'
            AND a.grantee IN (SELECT s.refobjid
                                FROM pg_catalog.pg_shdepend s
                                JOIN pg_catalog.pg_shdepend o
                                  ON (o.dbid, o.classid, o.objid) = (s.dbid, s.classid, s.objid)
                                 AND o.refclassid = s.refclassid AND o.deptype = 'o'
                                JOIN pg_catalog.pg_roles w
                                  ON w.oid = o.refobjid AND w.rolname = 'matrix_postgres_exporter_owner'
                               WHERE s.refclassid = 'pg_catalog.pg_authid'::regclass
                                 AND s.deptype = 'a'))),
        'changes', (SELECT coalesce(jsonb_agg(jsonb_build_object(
                      'schema', coalesce(c.schema_now, c.schema),
                      'relation', coalesce(c.relation_now, c.relation),
                      'database', coalesce(c.database_now, c.database),
                      'oid', coalesce(c.found, c.oid), 'privileges', c.privileges,
                      'role', coalesce(c.role_now, c.role),
                      'role_oid', coalesce(c.role_found, c.role_oid),
                      'grantor', coalesce(c.grantor_now, c.grantor),
                      'grantor_oid', coalesce(c.grantor_found, c.grantor_oid))), '[]')
                      FROM (SELECT c.*, p.place, p.owner, p.oid AS found, p.schema AS schema_now,
               p.relation AS relation_now, p.database AS database_now,
               r.oid AS role_found, r.rolname AS role_now, g.oid AS grantor_found,
               g.rolname AS grantor_now
          FROM jsonb_to_recordset(changes)
               AS c (schema text, relation text, database text, oid oid, privileges text,
                     role text, role_oid oid, grantor text, grantor_oid oid)
          LEFT JOIN (
      SELECT n.nspname AS schema, NULL::name AS relation, NULL::name AS database, n.oid,
             'SCHEMA ' || quote_ident(n.nspname) AS place, n.nspowner AS owner, n.nspacl AS acl,
             '{CREATE}'::text[] AS closed, '{CREATE}'::text[] AS taken
        FROM pg_catalog.pg_namespace n
       WHERE n.nspname !~ '^pg_(toast_)?temp_'
         AND (getdatabaseencoding() <> 'SQL_ASCII' OR n.nspname ~ '^[ -~]*$')
      UNION ALL
      SELECT n.nspname, c.relname, NULL, c.oid,
             CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END
             || quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relowner, c.relacl,
             CASE c.relkind WHEN 'S' THEN '{}' ELSE '{MAINTAIN,REFERENCES,TRIGGER}' END::text[],
             '{DELETE,INSERT,MAINTAIN,REFERENCES,TRIGGER,TRUNCATE,UPDATE,USAGE}'::text[]
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
         AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
         AND (getdatabaseencoding() <> 'SQL_ASCII' OR n.nspname || c.relname ~ '^[ -~]*$')
      UNION ALL
      SELECT NULL, NULL, d.datname, d.oid, 'DATABASE ' || quote_ident(d.datname), d.datdba,
             coalesce(d.datacl, acldefault('d', d.datdba)),
             CASE WHEN d.datname = current_database() THEN '{CREATE}' ELSE '{CONNECT}' END::text[],
             CASE WHEN d.datname = current_database() THEN '{CREATE}' ELSE '{}' END::text[]
        FROM pg_catalog.pg_database d
       WHERE d.datname = current_database()
          OR current_database() = 'postgres' AND d.datistemplate AND d.datallowconn
               ) AS p
            ON (p.schema IS NULL) = (c.schema IS NULL)
           AND (p.relation IS NULL) = (c.relation IS NULL)
           AND CASE WHEN c.oid <> 0 THEN p.oid = c.oid
                    WHEN c.schema IS NOT NULL
                    THEN p.schema = c.schema AND p.relation IS NOT DISTINCT FROM c.relation
                    ELSE p.oid = here AND c.privileges = 'CREATE' OR p.database = c.database END
          LEFT JOIN pg_catalog.pg_roles r
            ON CASE WHEN c.role_oid <> 0 THEN r.oid = c.role_oid ELSE r.rolname = c.role END
          LEFT JOIN pg_catalog.pg_roles g
            ON CASE WHEN c.grantor_oid <> 0 THEN g.oid = c.grantor_oid
                    ELSE g.rolname = c.grantor END) AS c)));
  END IF;
END
$do$;
DO $do$
DECLARE
  role name := E'exporter';
  found record;
  places text;
  objects bigint := (SELECT count(*)
                       FROM pg_catalog.pg_shdepend d
                       JOIN pg_catalog.pg_roles r ON r.oid = d.refobjid
                       JOIN pg_catalog.pg_database b ON b.oid = d.dbid
                      WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.deptype = 'o'
                        AND r.rolname = role AND b.datname = current_database());
BEGIN
  FOR found IN
    SELECT 'may create in' AS does, 'A function that it makes there, other roles may run with their rights.' AS harm,
           string_agg(coalesce('schema ' || quote_ident(c.schema), 'new schemas'), ', ') AS places
      FROM (WITH mine AS MATERIALIZED (
        SELECT r.oid
          FROM pg_catalog.pg_roles me
          JOIN pg_catalog.pg_roles r ON pg_catalog.pg_has_role(me.oid, r.oid, 'MEMBER')
         WHERE NOT me.rolsuper AND me.rolname = E'exporter'
    )
    SELECT n.nspname AS schema, NULL::pg_catalog.name AS name
      FROM pg_catalog.pg_namespace n
     WHERE n.nspname !~ '^pg_(toast_)?temp_'
       AND EXISTS (SELECT FROM mine
                    WHERE pg_catalog.has_schema_privilege(mine.oid, n.oid, 'CREATE'))
    UNION ALL
    SELECT NULL, NULL
      FROM pg_catalog.pg_database d
     WHERE d.datname = pg_catalog.current_database()
       AND EXISTS (SELECT FROM mine
                    WHERE pg_catalog.has_database_privilege(mine.oid, d.oid, 'CREATE'))) AS c
    UNION ALL
    SELECT 'may change, lock or make triggers on', 'Revoke that from the role, from PUBLIC and from roles that it is a member of, unless the application itself needs it.',
           string_agg(quote_ident(c.schema) || '.' || quote_ident(c.name), ', ' ORDER BY c.number)
             FILTER (WHERE c.number <= 10)
           || CASE WHEN count(*) > 10 THEN format(' and %s more', count(*) - 10) ELSE '' END
      FROM (SELECT w.*, row_number() OVER (ORDER BY w.schema, w.name) AS number
              FROM (WITH mine AS MATERIALIZED (
        SELECT r.oid
          FROM pg_catalog.pg_roles me
          JOIN pg_catalog.pg_roles r ON pg_catalog.pg_has_role(me.oid, r.oid, 'MEMBER')
         WHERE NOT me.rolsuper AND me.rolname = E'exporter'
    ), grantee AS MATERIALIZED (
        SELECT mine.oid FROM mine UNION ALL SELECT 0 WHERE EXISTS (SELECT FROM mine)
    ), application AS MATERIALIZED (SELECT s.oid FROM (SELECT c.relnamespace AS oid, string_agg(c.relname::text, ' ') AS marks,
               bool_and(c.relowner = (SELECT d.datdba FROM pg_catalog.pg_database d
                                       WHERE d.datname = current_database())) AS of_owner
          FROM pg_catalog.pg_class c
         WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
           AND c.relname IN (E'events', E'state_groups_state', E'schema_version', E'applied_schema_deltas', E'background_updates')
         GROUP BY c.relnamespace
        HAVING count(*) > 3
           AND count(*) FILTER (WHERE c.relname NOT IN (E'events', E'state_groups_state')) = 3) AS s
    ), columns AS MATERIALIZED (
        SELECT DISTINCT t.attrelid AS oid
          FROM pg_catalog.pg_attribute t
         CROSS JOIN LATERAL pg_catalog.aclexplode(t.attacl) AS a
         WHERE t.attacl IS NOT NULL AND a.privilege_type <> 'SELECT'
           AND a.grantee IN (SELECT grantee.oid FROM grantee)
    )
    SELECT n.nspname AS schema, c.relname AS name
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN columns ON columns.oid = c.oid
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
       AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
       AND (c.relowner IN (SELECT mine.oid FROM mine)
            OR c.relacl IS NOT NULL
               AND EXISTS (SELECT
                             FROM pg_catalog.aclexplode(c.relacl) AS a
                            WHERE a.privilege_type <> 'SELECT'
                              AND a.grantee IN (SELECT grantee.oid FROM grantee))
            OR columns.oid IS NOT NULL
               AND c.relnamespace IN (SELECT application.oid FROM application))) AS w) AS c
    UNION ALL
    SELECT 'may call, with the rights of the owner,', 'If others need not call these, revoke EXECUTE on them from PUBLIC.',
           string_agg(quote_ident(c.schema) || '.' || quote_ident(c.name), ', ' ORDER BY c.number)
             FILTER (WHERE c.number <= 10)
           || CASE WHEN count(*) > 10 THEN format(' and %s more', count(*) - 10) ELSE '' END
      FROM (SELECT w.*, row_number() OVER (ORDER BY w.schema, w.name) AS number
              FROM (WITH mine AS MATERIALIZED (
        SELECT r.oid
          FROM pg_catalog.pg_roles me
          JOIN pg_catalog.pg_roles r ON pg_catalog.pg_has_role(me.oid, r.oid, 'MEMBER')
         WHERE NOT me.rolsuper AND me.rolname = E'exporter'
    )
    SELECT DISTINCT n.nspname AS schema, p.proname AS name
      FROM pg_catalog.pg_proc p
      JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
      JOIN pg_catalog.pg_roles o ON o.oid = p.proowner AND o.rolname <> E'matrix_postgres_exporter_owner'
     WHERE p.prosecdef AND p.oid >= 16384 AND o.oid NOT IN (SELECT mine.oid FROM mine)
       AND EXISTS (SELECT FROM mine
                    WHERE pg_catalog.has_schema_privilege(mine.oid, n.oid, 'USAGE'))
       AND EXISTS (SELECT FROM mine
                    WHERE pg_catalog.has_function_privilege(mine.oid, p.oid, 'EXECUTE'))) AS w) AS c
  LOOP
    CONTINUE WHEN found.places IS NULL;
    places := found.places;
    IF getdatabaseencoding() = 'SQL_ASCII' THEN
      places := encode(convert_to(places, 'SQL_ASCII'), 'escape');
    END IF;
    RAISE WARNING 'Role % % in database %: %. %', role, found.does, current_database(), places, found.harm;
  END LOOP;
  IF objects > 0 THEN
    RAISE WARNING 'Role % owns % objects in database %. Other roles may run them with their rights: look at them, and drop them or give them to another role.',
      role, objects, current_database();
  END IF;
END
$do$;

-- Members of these can read query texts.
DO $do$
DECLARE
  command text;
BEGIN
  FOR command IN
    SELECT DISTINCT format('REVOKE %I FROM %I', r.rolname, m.rolname)
      FROM pg_catalog.pg_auth_members a
      JOIN pg_catalog.pg_roles r ON r.oid = a.roleid
      JOIN pg_catalog.pg_roles m ON m.oid = a.member
     WHERE m.rolname = E'exporter' AND r.rolname IN ('pg_monitor', 'pg_read_all_stats')
  LOOP
    EXECUTE command;
  END LOOP;
END
$do$;

-- SECURITY DEFINER functions that give the statistics without query texts.
GRANT pg_monitor TO matrix_postgres_exporter_owner;
DO $do$
DECLARE
  owner text := (SELECT r.rolname
                   FROM pg_catalog.pg_namespace n
                   JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner
                  WHERE n.nspname = 'matrix_postgres_exporter' AND r.rolname <> 'matrix_postgres_exporter_owner' AND NOT r.rolsuper);
BEGIN
  IF owner IS NOT NULL THEN
    RAISE EXCEPTION 'Schema matrix_postgres_exporter of database postgres belongs to role %, who could call what is created in it. Drop the schema, and run this again.',
      owner;
  END IF;
END
$do$;
CREATE SCHEMA IF NOT EXISTS matrix_postgres_exporter AUTHORIZATION matrix_postgres_exporter_owner;
ALTER SCHEMA matrix_postgres_exporter OWNER TO matrix_postgres_exporter_owner;
REVOKE ALL ON SCHEMA matrix_postgres_exporter FROM PUBLIC;
GRANT USAGE ON SCHEMA matrix_postgres_exporter TO "exporter";

DO $do$
BEGIN
  IF pg_get_function_result(to_regprocedure('matrix_postgres_exporter.pg_stat_activity()')) <> 'TABLE(pid integer, datname name, usename name, application_name text, backend_type text, state text, wait_event_type text, wait_event text, xact_start timestamp with time zone, query_start timestamp with time zone, state_change timestamp with time zone)' THEN
    DROP FUNCTION matrix_postgres_exporter.pg_stat_activity();
  END IF;
END
$do$;
CREATE OR REPLACE FUNCTION matrix_postgres_exporter.pg_stat_activity() RETURNS TABLE(pid integer, datname name, usename name, application_name text, backend_type text, state text, wait_event_type text, wait_event text, xact_start timestamp with time zone, query_start timestamp with time zone, state_change timestamp with time zone)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $do$
SELECT pid, datname, usename, application_name, backend_type, state, wait_event_type, wait_event, xact_start, query_start, state_change FROM pg_catalog.pg_stat_activity
$do$;
ALTER FUNCTION matrix_postgres_exporter.pg_stat_activity() OWNER TO matrix_postgres_exporter_owner;
REVOKE ALL ON FUNCTION matrix_postgres_exporter.pg_stat_activity() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION matrix_postgres_exporter.pg_stat_activity() TO "exporter";

DO $do$
BEGIN
  IF pg_get_function_result(to_regprocedure('matrix_postgres_exporter.pg_stat_replication()')) <> 'TABLE(pid integer, application_name text, client_addr inet, state text, replay_lsn pg_lsn, flush_lsn pg_lsn)' THEN
    DROP FUNCTION matrix_postgres_exporter.pg_stat_replication();
  END IF;
END
$do$;
CREATE OR REPLACE FUNCTION matrix_postgres_exporter.pg_stat_replication() RETURNS TABLE(pid integer, application_name text, client_addr inet, state text, replay_lsn pg_lsn, flush_lsn pg_lsn)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $do$
SELECT pid, application_name, client_addr, state, replay_lsn, flush_lsn FROM pg_catalog.pg_stat_replication
$do$;
ALTER FUNCTION matrix_postgres_exporter.pg_stat_replication() OWNER TO matrix_postgres_exporter_owner;
REVOKE ALL ON FUNCTION matrix_postgres_exporter.pg_stat_replication() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION matrix_postgres_exporter.pg_stat_replication() TO "exporter";

DO $do$
BEGIN
  IF pg_get_function_result(to_regprocedure('matrix_postgres_exporter.pg_stat_wal_receiver()')) <> 'TABLE(pid integer, status text, last_msg_receipt_time timestamp with time zone, latest_end_lsn pg_lsn)' THEN
    DROP FUNCTION matrix_postgres_exporter.pg_stat_wal_receiver();
  END IF;
END
$do$;
CREATE OR REPLACE FUNCTION matrix_postgres_exporter.pg_stat_wal_receiver() RETURNS TABLE(pid integer, status text, last_msg_receipt_time timestamp with time zone, latest_end_lsn pg_lsn)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $do$
SELECT pid, status, last_msg_receipt_time, latest_end_lsn FROM pg_catalog.pg_stat_wal_receiver
$do$;
ALTER FUNCTION matrix_postgres_exporter.pg_stat_wal_receiver() OWNER TO matrix_postgres_exporter_owner;
REVOKE ALL ON FUNCTION matrix_postgres_exporter.pg_stat_wal_receiver() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION matrix_postgres_exporter.pg_stat_wal_receiver() TO "exporter";

DO $do$
BEGIN
  IF pg_get_function_result(to_regprocedure('matrix_postgres_exporter.pg_stat_progress_vacuum()')) <> 'TABLE(datid oid, relid oid, phase bigint, heap_blks_total bigint, heap_blks_scanned bigint, heap_blks_vacuumed bigint, index_vacuum_count bigint, dead_limit bigint, dead_used bigint, dead_items bigint)' THEN
    DROP FUNCTION matrix_postgres_exporter.pg_stat_progress_vacuum();
  END IF;
END
$do$;
CREATE OR REPLACE FUNCTION matrix_postgres_exporter.pg_stat_progress_vacuum() RETURNS TABLE(datid oid, relid oid, phase bigint, heap_blks_total bigint, heap_blks_scanned bigint, heap_blks_vacuumed bigint, index_vacuum_count bigint, dead_limit bigint, dead_used bigint, dead_items bigint)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $do$
SELECT datid, relid, param1 AS phase, param2 AS heap_blks_total, param3 AS heap_blks_scanned, param4 AS heap_blks_vacuumed, param5 AS index_vacuum_count, param6 AS dead_limit, param7 AS dead_used, param8 AS dead_items FROM pg_catalog.pg_stat_get_progress_info('VACUUM')
$do$;
ALTER FUNCTION matrix_postgres_exporter.pg_stat_progress_vacuum() OWNER TO matrix_postgres_exporter_owner;
REVOKE ALL ON FUNCTION matrix_postgres_exporter.pg_stat_progress_vacuum() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION matrix_postgres_exporter.pg_stat_progress_vacuum() TO "exporter";

DO $do$
BEGIN
  IF pg_get_function_result(to_regprocedure('matrix_postgres_exporter.pg_ls_waldir()')) <> 'TABLE(name text, size bigint)' THEN
    DROP FUNCTION matrix_postgres_exporter.pg_ls_waldir();
  END IF;
END
$do$;
CREATE OR REPLACE FUNCTION matrix_postgres_exporter.pg_ls_waldir() RETURNS TABLE(name text, size bigint)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $do$
SELECT name, size FROM pg_catalog.pg_ls_waldir()
$do$;
ALTER FUNCTION matrix_postgres_exporter.pg_ls_waldir() OWNER TO matrix_postgres_exporter_owner;
REVOKE ALL ON FUNCTION matrix_postgres_exporter.pg_ls_waldir() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION matrix_postgres_exporter.pg_ls_waldir() TO "exporter";

DO $do$
BEGIN
  IF pg_get_function_result(to_regprocedure('matrix_postgres_exporter.pg_ls_archive_statusdir()')) <> 'TABLE(name text, modification timestamp with time zone)' THEN
    DROP FUNCTION matrix_postgres_exporter.pg_ls_archive_statusdir();
  END IF;
END
$do$;
CREATE OR REPLACE FUNCTION matrix_postgres_exporter.pg_ls_archive_statusdir() RETURNS TABLE(name text, modification timestamp with time zone)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $do$
SELECT name, modification FROM pg_catalog.pg_ls_archive_statusdir()
$do$;
ALTER FUNCTION matrix_postgres_exporter.pg_ls_archive_statusdir() OWNER TO matrix_postgres_exporter_owner;
REVOKE ALL ON FUNCTION matrix_postgres_exporter.pg_ls_archive_statusdir() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION matrix_postgres_exporter.pg_ls_archive_statusdir() TO "exporter";

DO $do$
BEGIN
  IF pg_get_function_result(to_regprocedure('matrix_postgres_exporter.pg_database_size()')) <> 'TABLE(datname name, size bigint)' THEN
    DROP FUNCTION matrix_postgres_exporter.pg_database_size();
  END IF;
END
$do$;
CREATE OR REPLACE FUNCTION matrix_postgres_exporter.pg_database_size() RETURNS TABLE(datname name, size bigint)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $do$
SELECT datname, CASE WHEN has_database_privilege(oid, 'CONNECT') OR has_database_privilege(oid, 'CONNECT') IS NOT NULL AND pg_has_role('pg_read_all_stats', 'USAGE') THEN pg_database_size(oid) END AS size FROM pg_catalog.pg_database
$do$;
ALTER FUNCTION matrix_postgres_exporter.pg_database_size() OWNER TO matrix_postgres_exporter_owner;
REVOKE ALL ON FUNCTION matrix_postgres_exporter.pg_database_size() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION matrix_postgres_exporter.pg_database_size() TO "exporter";
COMMIT;

\connect "synapse"
SET client_encoding = 'UTF8';
BEGIN READ WRITE;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL client_min_messages = warning;
DO $do$
BEGIN
  IF EXISTS (SELECT
               FROM pg_db_role_setting s
               JOIN pg_database d ON d.oid = s.setdatabase,
                    unnest(s.setconfig) AS c (setting)
              WHERE d.datname = current_database() AND s.setrole = 0
                AND starts_with(c.setting, 'role=')) THEN
    SET LOCAL role = none;
  END IF;
END
$do$;
GRANT CONNECT ON DATABASE "synapse" TO "exporter";
DO $do$
DECLARE
  command text;
BEGIN
  FOR command IN
    WITH application AS (
      SELECT s.oid, quote_ident(n.nspname) AS name
        FROM (SELECT c.relnamespace AS oid, string_agg(c.relname::text, ' ') AS marks,
               bool_and(c.relowner = (SELECT d.datdba FROM pg_catalog.pg_database d
                                       WHERE d.datname = current_database())) AS of_owner
          FROM pg_catalog.pg_class c
         WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
           AND c.relname IN (E'events', E'state_groups_state', E'schema_version', E'applied_schema_deltas', E'background_updates')
         GROUP BY c.relnamespace
        HAVING count(*) > 3
           AND count(*) FILTER (WHERE c.relname NOT IN (E'events', E'state_groups_state')) = 3) AS s
        JOIN pg_catalog.pg_namespace n ON n.oid = s.oid
    )
    SELECT format('GRANT USAGE ON SCHEMA %s TO %I', name, E'exporter')
      FROM application
    UNION ALL
    SELECT format('GRANT SELECT (%s) ON TABLE %s.%I TO %I',
                  string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum),
                  s.name, c.relname, E'exporter')
      FROM application s
      JOIN pg_catalog.pg_class c ON c.relnamespace = s.oid
      JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
     WHERE (c.relname, a.attname) IN (
       (E'access_tokens', E'ctid'), (E'access_tokens', E'puppets_user_id'), (E'access_tokens', E'valid_until_ms'),
       (E'account_data_sequence', E'is_called'), (E'account_data_sequence', E'last_value'),
       (E'account_validity', E'ctid'), (E'account_validity', E'expiration_ts_ms'),
       (E'application_services_state', E'as_id'), (E'application_services_state', E'device_list_stream_id'), (E'application_services_state', E'presence_stream_id'), (E'application_services_state', E'read_receipt_stream_id'), (E'application_services_state', E'state'), (E'application_services_state', E'to_device_stream_id'),
       (E'application_services_txn_id_seq', E'is_called'), (E'application_services_txn_id_seq', E'last_value'),
       (E'application_services_txns', E'as_id'), (E'application_services_txns', E'txn_id'),
       (E'appservice_stream_position', E'stream_ordering'),
       (E'background_updates', E'depends_on'), (E'background_updates', E'progress_json'), (E'background_updates', E'update_name'),
       (E'blocked_rooms', E'ctid'),
       (E'cache_invalidation_stream_seq', E'is_called'), (E'cache_invalidation_stream_seq', E'last_value'),
       (E'dehydrated_devices', E'ctid'),
       (E'delayed_events', E'is_processed'), (E'delayed_events', E'send_ts'),
       (E'delayed_events_stream_pos', E'stream_id'),
       (E'destination_rooms', E'destination'), (E'destination_rooms', E'stream_ordering'),
       (E'destinations', E'ctid'), (E'destinations', E'destination'), (E'destinations', E'failure_ts'), (E'destinations', E'last_successful_stream_ordering'), (E'destinations', E'retry_interval'), (E'destinations', E'retry_last_ts'),
       (E'device_federation_outbox', E'destination'), (E'device_federation_outbox', E'queued_ts'), (E'device_federation_outbox', E'stream_id'),
       (E'device_inbox', E'device_id'), (E'device_inbox', E'stream_id'), (E'device_inbox', E'user_id'),
       (E'device_inbox_sequence', E'is_called'), (E'device_inbox_sequence', E'last_value'),
       (E'device_lists_changes_converted_stream_position', E'room_id'), (E'device_lists_changes_converted_stream_position', E'stream_id'),
       (E'device_lists_changes_in_room', E'converted_to_destinations'), (E'device_lists_changes_in_room', E'inserted_ts'), (E'device_lists_changes_in_room', E'room_id'), (E'device_lists_changes_in_room', E'stream_id'),
       (E'device_lists_outbound_pokes', E'destination'), (E'device_lists_outbound_pokes', E'sent'), (E'device_lists_outbound_pokes', E'stream_id'), (E'device_lists_outbound_pokes', E'ts'),
       (E'device_lists_remote_resync', E'added_ts'),
       (E'device_lists_sequence', E'is_called'), (E'device_lists_sequence', E'last_value'),
       (E'devices', E'ctid'), (E'devices', E'device_id'), (E'devices', E'hidden'), (E'devices', E'last_seen'), (E'devices', E'user_id'),
       (E'e2e_cross_signing_keys', E'keytype'), (E'e2e_cross_signing_keys', E'user_id'),
       (E'e2e_cross_signing_keys_sequence', E'is_called'), (E'e2e_cross_signing_keys_sequence', E'last_value'),
       (E'e2e_device_keys_json', E'device_id'), (E'e2e_device_keys_json', E'user_id'),
       (E'e2e_fallback_keys_json', E'algorithm'), (E'e2e_fallback_keys_json', E'device_id'), (E'e2e_fallback_keys_json', E'user_id'),
       (E'e2e_one_time_keys_json', E'algorithm'), (E'e2e_one_time_keys_json', E'device_id'), (E'e2e_one_time_keys_json', E'user_id'),
       (E'e2e_room_keys_versions', E'ctid'), (E'e2e_room_keys_versions', E'deleted'), (E'e2e_room_keys_versions', E'user_id'), (E'e2e_room_keys_versions', E'version'),
       (E'erased_users', E'ctid'),
       (E'event_auth_chain_id', E'is_called'), (E'event_auth_chain_id', E'last_value'),
       (E'event_auth_chain_to_calculate', E'ctid'),
       (E'event_auth_chains', E'chain_id'),
       (E'event_expiry', E'expiry_ts'),
       (E'event_failed_pull_attempts', E'last_attempt_ts'), (E'event_failed_pull_attempts', E'num_attempts'), (E'event_failed_pull_attempts', E'room_id'),
       (E'event_forward_extremities', E'event_id'), (E'event_forward_extremities', E'room_id'),
       (E'event_push_actions_staging', E'inserted_ts'),
       (E'event_push_summary_last_receipt_stream_id', E'stream_id'),
       (E'event_push_summary_stream_ordering', E'stream_ordering'),
       (E'event_reports', E'id'), (E'event_reports', E'received_ts'),
       (E'event_to_state_groups', E'event_id'),
       (E'events', E'event_id'), (E'events', E'received_ts'), (E'events', E'rejection_reason'), (E'events', E'state_key'), (E'events', E'stream_ordering'), (E'events', E'type'),
       (E'events_backfill_stream_seq', E'is_called'), (E'events_backfill_stream_seq', E'last_value'),
       (E'events_stream_seq', E'is_called'), (E'events_stream_seq', E'last_value'),
       (E'federation_inbound_events_staging', E'received_ts'),
       (E'federation_stream_position', E'instance_name'), (E'federation_stream_position', E'stream_id'), (E'federation_stream_position', E'type'),
       (E'local_current_membership', E'ctid'), (E'local_current_membership', E'membership'), (E'local_current_membership', E'room_id'),
       (E'local_media_repository', E'created_ts'), (E'local_media_repository', E'ctid'), (E'local_media_repository', E'last_access_ts'), (E'local_media_repository', E'media_length'), (E'local_media_repository', E'quarantined_by'), (E'local_media_repository', E'safe_from_quarantine'),
       (E'local_media_repository_thumbnails', E'ctid'), (E'local_media_repository_thumbnails', E'thumbnail_length'),
       (E'local_media_repository_url_cache', E'ctid'), (E'local_media_repository_url_cache', E'expires_ts'),
       (E'login_tokens', E'expiry_ts'), (E'login_tokens', E'used_ts'),
       (E'monthly_active_users', E'ctid'), (E'monthly_active_users', E'user_id'),
       (E'open_id_tokens', E'ts_valid_until_ms'),
       (E'partial_state_rooms', E'device_lists_stream_id'), (E'partial_state_rooms', E'join_event_id'),
       (E'presence_stream', E'state'),
       (E'presence_stream_sequence', E'is_called'), (E'presence_stream_sequence', E'last_value'),
       (E'profile_updates_sequence', E'is_called'), (E'profile_updates_sequence', E'last_value'),
       (E'push_rules_stream_sequence', E'is_called'), (E'push_rules_stream_sequence', E'last_value'),
       (E'pushers', E'ctid'), (E'pushers', E'enabled'), (E'pushers', E'failing_since'), (E'pushers', E'kind'),
       (E'pushers_sequence', E'is_called'), (E'pushers_sequence', E'last_value'),
       (E'quarantined_media_id_seq', E'is_called'), (E'quarantined_media_id_seq', E'last_value'),
       (E'receipts_sequence', E'is_called'), (E'receipts_sequence', E'last_value'),
       (E'received_transactions', E'ts'),
       (E'redactions', E'have_censored'), (E'redactions', E'received_ts'),
       (E'refresh_tokens', E'ctid'), (E'refresh_tokens', E'next_token_id'),
       (E'registration_tokens', E'completed'), (E'registration_tokens', E'expiry_time'), (E'registration_tokens', E'pending'), (E'registration_tokens', E'uses_allowed'),
       (E'remote_media_cache', E'created_ts'), (E'remote_media_cache', E'ctid'), (E'remote_media_cache', E'last_access_ts'), (E'remote_media_cache', E'media_length'), (E'remote_media_cache', E'quarantined_by'),
       (E'remote_media_cache_thumbnails', E'ctid'), (E'remote_media_cache_thumbnails', E'thumbnail_length'),
       (E'room_forgetter_stream_pos', E'stream_id'),
       (E'room_reports', E'id'), (E'room_reports', E'received_ts'),
       (E'room_stats_current', E'banned_members'), (E'room_stats_current', E'ctid'), (E'room_stats_current', E'current_state_events'), (E'room_stats_current', E'invited_members'), (E'room_stats_current', E'joined_members'), (E'room_stats_current', E'knocked_members'), (E'room_stats_current', E'left_members'), (E'room_stats_current', E'local_users_in_room'), (E'room_stats_current', E'room_id'),
       (E'room_stats_state', E'ctid'), (E'room_stats_state', E'encryption'), (E'room_stats_state', E'history_visibility'), (E'room_stats_state', E'join_rules'), (E'room_stats_state', E'room_id'), (E'room_stats_state', E'room_type'),
       (E'rooms', E'creator'), (E'rooms', E'ctid'), (E'rooms', E'is_public'), (E'rooms', E'room_id'), (E'rooms', E'room_version'),
       (E'scheduled_tasks', E'action'), (E'scheduled_tasks', E'status'), (E'scheduled_tasks', E'timestamp'),
       (E'schema_compat_version', E'compat_version'),
       (E'schema_version', E'version'),
       (E'sliding_sync_connection_positions', E'ctid'),
       (E'sliding_sync_connections', E'ctid'),
       (E'sliding_sync_joined_rooms_to_recalculate', E'ctid'),
       (E'state_group_id_seq', E'is_called'), (E'state_group_id_seq', E'last_value'),
       (E'state_groups', E'id'),
       (E'state_groups_pending_deletion', E'ctid'), (E'state_groups_pending_deletion', E'insertion_ts'),
       (E'stats_incremental_position', E'stream_id'),
       (E'sticky_events_sequence', E'is_called'), (E'sticky_events_sequence', E'last_value'),
       (E'stream_positions', E'instance_name'), (E'stream_positions', E'stream_id'), (E'stream_positions', E'stream_name'),
       (E'thread_subscriptions_sequence', E'is_called'), (E'thread_subscriptions_sequence', E'last_value'),
       (E'ui_auth_sessions', E'creation_time'),
       (E'un_partial_stated_event_stream_sequence', E'is_called'), (E'un_partial_stated_event_stream_sequence', E'last_value'),
       (E'un_partial_stated_room_stream_sequence', E'is_called'), (E'un_partial_stated_room_stream_sequence', E'last_value'),
       (E'user_daily_visits', E'timestamp'), (E'user_daily_visits', E'user_id'),
       (E'user_directory', E'ctid'),
       (E'user_directory_stale_remote_users', E'ctid'),
       (E'user_directory_stream_pos', E'stream_id'),
       (E'user_external_ids', E'auth_provider'), (E'user_external_ids', E'ctid'),
       (E'user_ips', E'last_seen'), (E'user_ips', E'user_id'),
       (E'user_reports', E'id'), (E'user_reports', E'received_ts'),
       (E'user_threepids', E'ctid'), (E'user_threepids', E'medium'),
       (E'users', E'admin'), (E'users', E'approved'), (E'users', E'appservice_id'), (E'users', E'creation_ts'), (E'users', E'ctid'), (E'users', E'deactivated'), (E'users', E'is_guest'), (E'users', E'locked'), (E'users', E'name'), (E'users', E'shadow_banned'), (E'users', E'suspended'), (E'users', E'user_type'),
       (E'users_pending_deactivation', E'user_id'),
       (E'worker_locks', E'last_renewed_ts'), (E'worker_locks', E'lock_name'),
       (E'worker_read_write_locks', E'last_renewed_ts'), (E'worker_read_write_locks', E'lock_name'), (E'worker_read_write_locks', E'write_lock'))
     GROUP BY s.name, c.relname
    UNION ALL
    SELECT format('REVOKE SELECT (%I) ON TABLE %s.%I FROM %I',
                  a.attname, s.name, c.relname, E'exporter')
      FROM application s
      JOIN pg_catalog.pg_class c ON c.relnamespace = s.oid
      JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
     WHERE (c.relname, a.attname) IN ((E'access_tokens', E'id'), (E'account_validity', E'user_id'), (E'blocked_rooms', E'room_id'), (E'dehydrated_devices', E'user_id'), (E'erased_users', E'user_id'), (E'event_auth_chain_to_calculate', E'event_id'), (E'local_current_membership', E'user_id'), (E'local_media_repository', E'media_id'), (E'local_media_repository_thumbnails', E'media_id'), (E'pushers', E'id'), (E'refresh_tokens', E'id'), (E'remote_media_cache', E'media_id'), (E'remote_media_cache', E'media_origin'), (E'remote_media_cache_thumbnails', E'media_id'), (E'remote_media_cache_thumbnails', E'media_origin'), (E'sliding_sync_connection_positions', E'connection_position'), (E'sliding_sync_connections', E'connection_key'), (E'sliding_sync_joined_rooms_to_recalculate', E'room_id'), (E'state_groups_pending_deletion', E'state_group'), (E'user_directory', E'user_id'), (E'user_directory_stale_remote_users', E'user_id'), (E'user_external_ids', E'user_id'), (E'user_threepids', E'user_id'))
  LOOP
    EXECUTE command;
  END LOOP;
END
$do$;

-- An application may run, with its own rights, what others create in a schema on its search path, or as
-- a trigger on its tables. So PUBLIC loses CREATE, and TRIGGER, REFERENCES and MAINTAIN on tables here;
-- roles that own something in this database, or may write to it, get it instead. What is made in a
-- template is in each new database, so PUBLIC loses CONNECT there. --revoke restores what was.
DO $do$
DECLARE
  me name := current_user;
  here oid := (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database());
  cluster text := (SELECT c.system_identifier FROM pg_catalog.pg_control_system() AS c);
  stored record;
  memory jsonb;
  known boolean := false;
  changes jsonb := '[]';
  roles jsonb := '[]';
  change jsonb;
  command text;
  open record;
  keeper record;
BEGIN
  FOR stored IN
    SELECT o.option_name AS name, o.option_value AS value
      FROM pg_catalog.pg_db_role_setting s
      JOIN pg_catalog.pg_roles r ON r.oid = s.setrole AND r.rolname = 'matrix_postgres_exporter_owner',
           pg_options_to_table(s.setconfig) AS o
     WHERE s.setdatabase = here AND o.option_name IN ('matrix_postgres_exporter.remembered', 'matrix_postgres_exporter.revoked_create')
     ORDER BY o.option_name DESC
  LOOP
    BEGIN
      memory := stored.value::jsonb;
      IF stored.name = 'matrix_postgres_exporter.revoked_create' THEN
        memory := jsonb_build_object('cluster', '', 'database', 0, 'roles', '[]'::jsonb, 'changes',
          (SELECT coalesce(jsonb_agg(
                    CASE WHEN c ? 'schema' AND c - '{schema,role,grantor}'::text[] = '{}'
                         THEN jsonb_build_object(
                           'schema', c -> 'schema', 'relation', NULL,
                           'database', CASE WHEN c ->> 'schema' IS NULL THEN current_database() END,
                           'oid', 0, 'privileges', 'CREATE', 'role', c -> 'role', 'role_oid', 0,
                           'grantor', c -> 'grantor', 'grantor_oid', 0) END), '[]')
             FROM jsonb_array_elements(memory) AS c));
      END IF;
      IF (ARRAY(SELECT jsonb_object_keys(memory) COLLATE "C" ORDER BY 1)
            = '{changes,cluster,database,roles}'
          AND jsonb_typeof(memory -> 'cluster') = 'string'
          AND (memory ->> 'database')::oid IS NOT NULL
          AND NOT EXISTS (
            SELECT FROM jsonb_array_elements(memory -> 'roles') AS c
             WHERE (ARRAY(SELECT jsonb_object_keys(c) COLLATE "C" ORDER BY 1) = '{oid,role}'
                    AND jsonb_typeof(c -> 'role') = 'string' AND (c ->> 'oid')::oid IS NOT NULL)
                   IS NOT TRUE)
          AND NOT EXISTS (
            SELECT FROM jsonb_array_elements(memory -> 'changes') AS c
             WHERE (ARRAY(SELECT jsonb_object_keys(c) COLLATE "C" ORDER BY 1)
                      = '{database,grantor,grantor_oid,oid,privileges,relation,role,role_oid,schema}'
                    AND NOT EXISTS (
                      SELECT FROM jsonb_each(c) AS e (key, value)
                       WHERE CASE WHEN e.key ~ 'oid$' THEN (e.value #>> '{}')::oid IS NULL
                                  ELSE jsonb_typeof(e.value) NOT IN ('string', 'null') END)
                    AND (c ->> 'schema' IS NULL) = (c ->> 'database' IS NOT NULL)
                    AND (c ->> 'relation' IS NULL OR c ->> 'schema' IS NOT NULL)
                    AND c ->> 'privileges' ~ CASE
                          WHEN c ->> 'relation' IS NOT NULL
                          THEN '^(MAINTAIN|REFERENCES|TRIGGER)(, (MAINTAIN|REFERENCES|TRIGGER))*$'
                          WHEN c ->> 'schema' IS NOT NULL THEN '^CREATE$'
                          ELSE '^(CREATE|CONNECT)$' END)
                   IS NOT TRUE)) IS NOT TRUE THEN
        RAISE data_exception USING MESSAGE = 'it is not what `grants` of this version writes';
      END IF;
    EXCEPTION WHEN data_exception THEN
      RAISE EXCEPTION 'Database %: what --revoke has to restore cannot be read from the setting % of the role matrix_postgres_exporter_owner: %. Nothing was changed in this database.',
        current_database(), stored.name, SQLERRM
        USING HINT = format('Look at it in pg_db_role_setting and repair it, or give it up: ALTER ROLE matrix_postgres_exporter_owner IN DATABASE %I RESET %s. Then run this again; who could create or make triggers before, cannot again.',
                            current_database(), stored.name);
    END;
    known := known OR stored.name = 'matrix_postgres_exporter.remembered';
    IF (memory ->> 'cluster', (memory ->> 'database')::oid) <> (cluster, here) THEN
      memory := jsonb_build_object('roles',
        (SELECT coalesce(jsonb_agg(c || '{"oid": 0}'), '[]')
           FROM jsonb_array_elements(memory -> 'roles') AS c),
        'changes',
        (SELECT coalesce(jsonb_agg(c || '{"oid": 0, "role_oid": 0, "grantor_oid": 0}'), '[]')
           FROM jsonb_array_elements(memory -> 'changes') AS c));
    END IF;
    changes := changes || (memory -> 'changes');
    roles := roles || (memory -> 'roles');
  END LOOP;
  -- What is granted to everybody comes first: the role may have granted it itself.
  FOR open IN
    SELECT p.schema, p.relation, p.database, p.oid, p.place, a.grantee = 0 AS of_all,
           g.rolname AS grantor, coalesce(g.oid, 0) AS grantor_oid,
           string_agg(DISTINCT a.privilege_type, ', ' ORDER BY a.privilege_type) AS privileges
      FROM (
      SELECT n.nspname AS schema, NULL::name AS relation, NULL::name AS database, n.oid,
             'SCHEMA ' || quote_ident(n.nspname) AS place, n.nspowner AS owner, n.nspacl AS acl,
             '{CREATE}'::text[] AS closed, '{CREATE}'::text[] AS taken
        FROM pg_catalog.pg_namespace n
       WHERE n.nspname !~ '^pg_(toast_)?temp_'
         AND (getdatabaseencoding() <> 'SQL_ASCII' OR n.nspname ~ '^[ -~]*$')
      UNION ALL
      SELECT n.nspname, c.relname, NULL, c.oid,
             CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END
             || quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relowner, c.relacl,
             CASE c.relkind WHEN 'S' THEN '{}' ELSE '{MAINTAIN,REFERENCES,TRIGGER}' END::text[],
             '{DELETE,INSERT,MAINTAIN,REFERENCES,TRIGGER,TRUNCATE,UPDATE,USAGE}'::text[]
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
         AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
         AND (getdatabaseencoding() <> 'SQL_ASCII' OR n.nspname || c.relname ~ '^[ -~]*$')
      UNION ALL
      SELECT NULL, NULL, d.datname, d.oid, 'DATABASE ' || quote_ident(d.datname), d.datdba,
             coalesce(d.datacl, acldefault('d', d.datdba)),
             CASE WHEN d.datname = current_database() THEN '{CREATE}' ELSE '{CONNECT}' END::text[],
             CASE WHEN d.datname = current_database() THEN '{CREATE}' ELSE '{}' END::text[]
        FROM pg_catalog.pg_database d
       WHERE d.datname = current_database()
          OR current_database() = 'postgres' AND d.datistemplate AND d.datallowconn
      UNION ALL 
      SELECT n.nspname, c.relname, NULL, c.oid,
             'TABLE ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relowner,
             t.attacl, '{}'::text[], '{INSERT,REFERENCES,UPDATE}'::text[]
        FROM pg_catalog.pg_attribute t
        JOIN pg_catalog.pg_class c ON c.oid = t.attrelid AND c.relpersistence <> 't'
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       WHERE t.attacl IS NOT NULL AND n.nspname NOT IN ('pg_catalog', 'information_schema')
         AND (getdatabaseencoding() <> 'SQL_ASCII' OR n.nspname || c.relname ~ '^[ -~]*$')
           ) AS p
     CROSS JOIN LATERAL aclexplode(p.acl) AS a
      LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantor AND g.oid <> p.owner
     WHERE a.grantee = 0 AND a.privilege_type = ANY (p.closed)
        OR a.grantee = (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = E'exporter')
           AND a.privilege_type = ANY (p.taken)
     GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
     ORDER BY a.grantee = 0 DESC, p.place
  LOOP
    command := format('REVOKE %s ON %s FROM %s', open.privileges, open.place,
                      CASE WHEN open.of_all THEN 'PUBLIC' ELSE quote_ident(E'exporter') END);
    RAISE INFO 'Database %: %', current_database(), command;
    -- A superuser takes back what the owner gave; others have to take back theirs.
    IF open.grantor IS NOT NULL THEN
      EXECUTE format('SET LOCAL ROLE %I', open.grantor);
    END IF;
    EXECUTE command;
    EXECUTE format('SET LOCAL ROLE %I', me);
    CONTINUE WHEN NOT open.of_all;
    change := jsonb_build_object(
      'schema', open.schema, 'relation', open.relation, 'database', open.database, 'oid', open.oid,
      'privileges', open.privileges, 'role', NULL, 'role_oid', 0,
      'grantor', open.grantor, 'grantor_oid', open.grantor_oid);
    changes := changes || CASE WHEN changes @> jsonb_build_array(change) THEN '[]' ELSE change END;
    -- Nobody has to connect to a template.
    CONTINUE WHEN open.privileges = 'CONNECT';
    FOR keeper IN
      SELECT r.oid, r.rolname, string_agg(a.privilege, ', ' ORDER BY a.privilege) AS privileges
        FROM pg_catalog.pg_roles r, unnest(string_to_array(open.privileges, ', ')) AS a (privilege)
       WHERE r.oid IN (
      SELECT d.refobjid
        FROM pg_catalog.pg_shdepend d
        JOIN pg_catalog.pg_database b ON b.oid = d.dbid AND b.datname = current_database()
       WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.deptype = 'o'
      UNION
      SELECT a.grantee
        FROM pg_catalog.pg_class c, aclexplode(c.relacl) a
       WHERE a.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
      UNION
      SELECT d.datdba FROM pg_catalog.pg_database d WHERE d.datname = current_database()
      UNION
      SELECT a.grantee
        FROM pg_catalog.pg_database d, aclexplode(d.datacl) a
       WHERE d.datname = current_database() AND a.privilege_type = 'CREATE'
             )
         AND r.rolname NOT IN (E'exporter', 'matrix_postgres_exporter_owner')
         AND NOT (CASE WHEN open.relation IS NOT NULL AND open.place LIKE 'SEQUENCE %'
                 THEN has_sequence_privilege(r.oid, open.oid, a.privilege)
                 WHEN open.relation IS NOT NULL
                 THEN has_table_privilege(r.oid, open.oid, a.privilege)
                 WHEN open.schema IS NOT NULL
                 THEN has_schema_privilege(r.oid, open.oid, a.privilege)
                 ELSE has_database_privilege(r.oid, open.oid, a.privilege) END)
       GROUP BY r.oid, r.rolname
       ORDER BY r.rolname
    LOOP
      command := format('GRANT %s ON %s TO %I', keeper.privileges, open.place, keeper.rolname);
      RAISE INFO 'Database %: %', current_database(), command;
      EXECUTE command;
      change := change || jsonb_build_object(
        'privileges', keeper.privileges, 'role', keeper.rolname, 'role_oid', keeper.oid,
        'grantor', NULL, 'grantor_oid', 0);
      changes := changes || CASE WHEN changes @> jsonb_build_array(change) THEN '[]' ELSE change END;
    END LOOP;
  END LOOP;
  IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'matrix_postgres_exporter_owner') THEN
    EXECUTE format('ALTER ROLE matrix_postgres_exporter_owner IN DATABASE %I RESET matrix_postgres_exporter.revoked_create', current_database());
    EXECUTE format('ALTER ROLE matrix_postgres_exporter_owner IN DATABASE %I SET matrix_postgres_exporter.remembered = %L', current_database(),
      jsonb_build_object('cluster', cluster, 'database', here,
        'roles', (SELECT coalesce(jsonb_agg(jsonb_build_object('role', r.rolname, 'oid', r.oid)
                                            ORDER BY r.oid), '[]')
                    FROM pg_catalog.pg_roles r WHERE r.oid IN (SELECT q.oid FROM pg_catalog.pg_roles q WHERE q.rolname = E'exporter'
                    UNION SELECT r.oid
           FROM jsonb_to_recordset(roles) AS c (role text, oid oid)
           JOIN pg_catalog.pg_roles r
             ON CASE WHEN c.oid <> 0 THEN r.oid = c.oid ELSE r.rolname = c.role END
         UNION
         SELECT a.grantee
           FROM pg_catalog.pg_database d, aclexplode(d.datacl) AS a
          WHERE NOT known AND d.oid = here AND a.privilege_type = 'CONNECT'
            AND a.grantee IN (SELECT s.refobjid
                                FROM pg_catalog.pg_shdepend s
                                JOIN pg_catalog.pg_shdepend o
                                  ON (o.dbid, o.classid, o.objid) = (s.dbid, s.classid, s.objid)
                                 AND o.refclassid = s.refclassid AND o.deptype = 'o'
                                JOIN pg_catalog.pg_roles w
                                  ON w.oid = o.refobjid AND w.rolname = 'matrix_postgres_exporter_owner'
                               WHERE s.refclassid = 'pg_catalog.pg_authid'::regclass
                                 AND s.deptype = 'a'))),
        'changes', (SELECT coalesce(jsonb_agg(jsonb_build_object(
                      'schema', coalesce(c.schema_now, c.schema),
                      'relation', coalesce(c.relation_now, c.relation),
                      'database', coalesce(c.database_now, c.database),
                      'oid', coalesce(c.found, c.oid), 'privileges', c.privileges,
                      'role', coalesce(c.role_now, c.role),
                      'role_oid', coalesce(c.role_found, c.role_oid),
                      'grantor', coalesce(c.grantor_now, c.grantor),
                      'grantor_oid', coalesce(c.grantor_found, c.grantor_oid))), '[]')
                      FROM (SELECT c.*, p.place, p.owner, p.oid AS found, p.schema AS schema_now,
               p.relation AS relation_now, p.database AS database_now,
               r.oid AS role_found, r.rolname AS role_now, g.oid AS grantor_found,
               g.rolname AS grantor_now
          FROM jsonb_to_recordset(changes)
               AS c (schema text, relation text, database text, oid oid, privileges text,
                     role text, role_oid oid, grantor text, grantor_oid oid)
          LEFT JOIN (
      SELECT n.nspname AS schema, NULL::name AS relation, NULL::name AS database, n.oid,
             'SCHEMA ' || quote_ident(n.nspname) AS place, n.nspowner AS owner, n.nspacl AS acl,
             '{CREATE}'::text[] AS closed, '{CREATE}'::text[] AS taken
        FROM pg_catalog.pg_namespace n
       WHERE n.nspname !~ '^pg_(toast_)?temp_'
         AND (getdatabaseencoding() <> 'SQL_ASCII' OR n.nspname ~ '^[ -~]*$')
      UNION ALL
      SELECT n.nspname, c.relname, NULL, c.oid,
             CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END
             || quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relowner, c.relacl,
             CASE c.relkind WHEN 'S' THEN '{}' ELSE '{MAINTAIN,REFERENCES,TRIGGER}' END::text[],
             '{DELETE,INSERT,MAINTAIN,REFERENCES,TRIGGER,TRUNCATE,UPDATE,USAGE}'::text[]
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
         AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
         AND (getdatabaseencoding() <> 'SQL_ASCII' OR n.nspname || c.relname ~ '^[ -~]*$')
      UNION ALL
      SELECT NULL, NULL, d.datname, d.oid, 'DATABASE ' || quote_ident(d.datname), d.datdba,
             coalesce(d.datacl, acldefault('d', d.datdba)),
             CASE WHEN d.datname = current_database() THEN '{CREATE}' ELSE '{CONNECT}' END::text[],
             CASE WHEN d.datname = current_database() THEN '{CREATE}' ELSE '{}' END::text[]
        FROM pg_catalog.pg_database d
       WHERE d.datname = current_database()
          OR current_database() = 'postgres' AND d.datistemplate AND d.datallowconn
               ) AS p
            ON (p.schema IS NULL) = (c.schema IS NULL)
           AND (p.relation IS NULL) = (c.relation IS NULL)
           AND CASE WHEN c.oid <> 0 THEN p.oid = c.oid
                    WHEN c.schema IS NOT NULL
                    THEN p.schema = c.schema AND p.relation IS NOT DISTINCT FROM c.relation
                    ELSE p.oid = here AND c.privileges = 'CREATE' OR p.database = c.database END
          LEFT JOIN pg_catalog.pg_roles r
            ON CASE WHEN c.role_oid <> 0 THEN r.oid = c.role_oid ELSE r.rolname = c.role END
          LEFT JOIN pg_catalog.pg_roles g
            ON CASE WHEN c.grantor_oid <> 0 THEN g.oid = c.grantor_oid
                    ELSE g.rolname = c.grantor END) AS c)));
  END IF;
END
$do$;
DO $do$
DECLARE
  role name := E'exporter';
  found record;
  places text;
  objects bigint := (SELECT count(*)
                       FROM pg_catalog.pg_shdepend d
                       JOIN pg_catalog.pg_roles r ON r.oid = d.refobjid
                       JOIN pg_catalog.pg_database b ON b.oid = d.dbid
                      WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.deptype = 'o'
                        AND r.rolname = role AND b.datname = current_database());
BEGIN
  FOR found IN
    SELECT 'may create in' AS does, 'A function that it makes there, other roles may run with their rights.' AS harm,
           string_agg(coalesce('schema ' || quote_ident(c.schema), 'new schemas'), ', ') AS places
      FROM (WITH mine AS MATERIALIZED (
        SELECT r.oid
          FROM pg_catalog.pg_roles me
          JOIN pg_catalog.pg_roles r ON pg_catalog.pg_has_role(me.oid, r.oid, 'MEMBER')
         WHERE NOT me.rolsuper AND me.rolname = E'exporter'
    )
    SELECT n.nspname AS schema, NULL::pg_catalog.name AS name
      FROM pg_catalog.pg_namespace n
     WHERE n.nspname !~ '^pg_(toast_)?temp_'
       AND EXISTS (SELECT FROM mine
                    WHERE pg_catalog.has_schema_privilege(mine.oid, n.oid, 'CREATE'))
    UNION ALL
    SELECT NULL, NULL
      FROM pg_catalog.pg_database d
     WHERE d.datname = pg_catalog.current_database()
       AND EXISTS (SELECT FROM mine
                    WHERE pg_catalog.has_database_privilege(mine.oid, d.oid, 'CREATE'))) AS c
    UNION ALL
    SELECT 'may change, lock or make triggers on', 'Revoke that from the role, from PUBLIC and from roles that it is a member of, unless the application itself needs it.',
           string_agg(quote_ident(c.schema) || '.' || quote_ident(c.name), ', ' ORDER BY c.number)
             FILTER (WHERE c.number <= 10)
           || CASE WHEN count(*) > 10 THEN format(' and %s more', count(*) - 10) ELSE '' END
      FROM (SELECT w.*, row_number() OVER (ORDER BY w.schema, w.name) AS number
              FROM (WITH mine AS MATERIALIZED (
        SELECT r.oid
          FROM pg_catalog.pg_roles me
          JOIN pg_catalog.pg_roles r ON pg_catalog.pg_has_role(me.oid, r.oid, 'MEMBER')
         WHERE NOT me.rolsuper AND me.rolname = E'exporter'
    ), grantee AS MATERIALIZED (
        SELECT mine.oid FROM mine UNION ALL SELECT 0 WHERE EXISTS (SELECT FROM mine)
    ), application AS MATERIALIZED (SELECT s.oid FROM (SELECT c.relnamespace AS oid, string_agg(c.relname::text, ' ') AS marks,
               bool_and(c.relowner = (SELECT d.datdba FROM pg_catalog.pg_database d
                                       WHERE d.datname = current_database())) AS of_owner
          FROM pg_catalog.pg_class c
         WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
           AND c.relname IN (E'events', E'state_groups_state', E'schema_version', E'applied_schema_deltas', E'background_updates')
         GROUP BY c.relnamespace
        HAVING count(*) > 3
           AND count(*) FILTER (WHERE c.relname NOT IN (E'events', E'state_groups_state')) = 3) AS s
    ), columns AS MATERIALIZED (
        SELECT DISTINCT t.attrelid AS oid
          FROM pg_catalog.pg_attribute t
         CROSS JOIN LATERAL pg_catalog.aclexplode(t.attacl) AS a
         WHERE t.attacl IS NOT NULL AND a.privilege_type <> 'SELECT'
           AND a.grantee IN (SELECT grantee.oid FROM grantee)
    )
    SELECT n.nspname AS schema, c.relname AS name
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN columns ON columns.oid = c.oid
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
       AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
       AND (c.relowner IN (SELECT mine.oid FROM mine)
            OR c.relacl IS NOT NULL
               AND EXISTS (SELECT
                             FROM pg_catalog.aclexplode(c.relacl) AS a
                            WHERE a.privilege_type <> 'SELECT'
                              AND a.grantee IN (SELECT grantee.oid FROM grantee))
            OR columns.oid IS NOT NULL
               AND c.relnamespace IN (SELECT application.oid FROM application))) AS w) AS c
    UNION ALL
    SELECT 'may call, with the rights of the owner,', 'If others need not call these, revoke EXECUTE on them from PUBLIC.',
           string_agg(quote_ident(c.schema) || '.' || quote_ident(c.name), ', ' ORDER BY c.number)
             FILTER (WHERE c.number <= 10)
           || CASE WHEN count(*) > 10 THEN format(' and %s more', count(*) - 10) ELSE '' END
      FROM (SELECT w.*, row_number() OVER (ORDER BY w.schema, w.name) AS number
              FROM (WITH mine AS MATERIALIZED (
        SELECT r.oid
          FROM pg_catalog.pg_roles me
          JOIN pg_catalog.pg_roles r ON pg_catalog.pg_has_role(me.oid, r.oid, 'MEMBER')
         WHERE NOT me.rolsuper AND me.rolname = E'exporter'
    )
    SELECT DISTINCT n.nspname AS schema, p.proname AS name
      FROM pg_catalog.pg_proc p
      JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
      JOIN pg_catalog.pg_roles o ON o.oid = p.proowner AND o.rolname <> E'matrix_postgres_exporter_owner'
     WHERE p.prosecdef AND p.oid >= 16384 AND o.oid NOT IN (SELECT mine.oid FROM mine)
       AND EXISTS (SELECT FROM mine
                    WHERE pg_catalog.has_schema_privilege(mine.oid, n.oid, 'USAGE'))
       AND EXISTS (SELECT FROM mine
                    WHERE pg_catalog.has_function_privilege(mine.oid, p.oid, 'EXECUTE'))) AS w) AS c
  LOOP
    CONTINUE WHEN found.places IS NULL;
    places := found.places;
    IF getdatabaseencoding() = 'SQL_ASCII' THEN
      places := encode(convert_to(places, 'SQL_ASCII'), 'escape');
    END IF;
    RAISE WARNING 'Role % % in database %: %. %', role, found.does, current_database(), places, found.harm;
  END LOOP;
  IF objects > 0 THEN
    RAISE WARNING 'Role % owns % objects in database %. Other roles may run them with their rights: look at them, and drop them or give them to another role.',
      role, objects, current_database();
  END IF;
END
$do$;
COMMIT;
