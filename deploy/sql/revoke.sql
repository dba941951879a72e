-- Revokes what `matrix-postgres-exporter grants` granted to the role exporter, and all its other
-- privileges in these databases. Restores what PUBLIC could create there before, unless the role of
-- another exporter relies on the change. Stop the exporter first. Name the same databases as when the
-- role was created. A role that `grants` created is dropped; one that existed before, or owns
-- something, is kept, and a warning says so.
-- Run it as a superuser, as often as you like: psql -v ON_ERROR_STOP=1 -f FILE

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
DO $do$
BEGIN
  IF EXISTS (SELECT FROM pg_catalog.pg_shdepend d
               JOIN pg_catalog.pg_roles r ON r.oid = d.refobjid
              WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.deptype = 'o'
                AND d.dbid IN (0, (SELECT oid FROM pg_catalog.pg_database
                                    WHERE datname = current_database()))
                AND r.rolname = E'exporter') THEN
    RAISE WARNING 'Role % owns something in database %, so what it may do there stays. Give that to another role (REASSIGN OWNED) and run this again.',
      E'exporter', current_database();
  ELSIF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = E'exporter') THEN
    DROP OWNED BY "exporter";
  END IF;
END
$do$;
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
  others text;
  command text;
  change record;
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
  others := (SELECT string_agg(quote_ident(q.rolname), ', ' ORDER BY q.rolname)
               FROM pg_catalog.pg_roles q
              WHERE q.rolname <> E'exporter' AND q.oid IN (SELECT r.oid
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
                                 AND s.deptype = 'a')));
  IF others IS NOT NULL THEN
    IF changes <> '[]' THEN
      RAISE INFO 'Database %: who may create or make triggers stays as it is, since other roles of exporters rely on that: %. When the last of them is revoked, what was before is restored.',
        current_database(), others;
    END IF;
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'matrix_postgres_exporter_owner') THEN
    EXECUTE format('ALTER ROLE matrix_postgres_exporter_owner IN DATABASE %I RESET matrix_postgres_exporter.revoked_create', current_database());
    EXECUTE format('ALTER ROLE matrix_postgres_exporter_owner IN DATABASE %I SET matrix_postgres_exporter.remembered = %L', current_database(),
      jsonb_build_object('cluster', cluster, 'database', here,
        'roles', (SELECT coalesce(jsonb_agg(jsonb_build_object('role', r.rolname, 'oid', r.oid)
                                            ORDER BY r.oid), '[]')
                    FROM pg_catalog.pg_roles r WHERE r.oid IN (SELECT q.oid FROM pg_catalog.pg_roles q
                      WHERE q.rolname <> E'exporter' AND q.oid IN (SELECT r.oid
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
                                 AND s.deptype = 'a')))),
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
    RETURN;
  END IF;
  FOR change IN
    SELECT c.*, p.place, p.owner, p.oid AS found, p.schema AS schema_now,
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
                    ELSE g.rolname = c.grantor END
  LOOP
    CONTINUE WHEN change.found IS NULL AND change.role IS NOT NULL;
    IF change.found IS NULL THEN
      RAISE WARNING 'Database %: not found, so nothing is restored there: %. One of the same name is another.',
        current_database(),
        CASE WHEN change.relation IS NOT NULL THEN format('table %I.%I', change.schema, change.relation)
             WHEN change.schema IS NOT NULL THEN format('schema %I', change.schema)
             ELSE format('database %I', change.database) END
        || CASE change.oid WHEN 0 THEN '' ELSE format(' (oid %s)', change.oid) END;
      CONTINUE;
    END IF;
    IF change.role IS NOT NULL THEN
      IF change.role_found IS NULL THEN
        RAISE INFO 'Database %: role % is gone, and with it what was granted to it on %.',
          current_database(), quote_ident(change.role), change.place;
      END IF;
      CONTINUE WHEN change.role_found IS NULL OR change.role_found = change.owner;
    END IF;
    command := CASE WHEN change.role IS NULL
                    THEN format('GRANT %s ON %s TO PUBLIC', change.privileges, change.place)
                    ELSE format('REVOKE %s ON %s FROM %I', change.privileges, change.place,
                                change.role_now) END;
    RAISE INFO 'Database %: %', current_database(), command;
    IF change.grantor_found IS NOT NULL THEN
      IF (CASE WHEN change.relation IS NOT NULL AND change.place LIKE 'SEQUENCE %'
                 THEN has_sequence_privilege(change.grantor_found, change.found, replace(change.privileges, ',', ' WITH GRANT OPTION,') || ' WITH GRANT OPTION')
                 WHEN change.relation IS NOT NULL
                 THEN has_table_privilege(change.grantor_found, change.found, replace(change.privileges, ',', ' WITH GRANT OPTION,') || ' WITH GRANT OPTION')
                 WHEN change.schema IS NOT NULL
                 THEN has_schema_privilege(change.grantor_found, change.found, replace(change.privileges, ',', ' WITH GRANT OPTION,') || ' WITH GRANT OPTION')
                 ELSE has_database_privilege(change.grantor_found, change.found, replace(change.privileges, ',', ' WITH GRANT OPTION,') || ' WITH GRANT OPTION') END) THEN
        EXECUTE format('SET LOCAL ROLE %I', change.grantor_now);
      END IF;
    END IF;
    EXECUTE command;
    EXECUTE format('SET LOCAL ROLE %I', me);
  END LOOP;
  IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'matrix_postgres_exporter_owner') THEN
    EXECUTE format('ALTER ROLE matrix_postgres_exporter_owner IN DATABASE %I RESET matrix_postgres_exporter.revoked_create', current_database());
    EXECUTE format('ALTER ROLE matrix_postgres_exporter_owner IN DATABASE %I RESET matrix_postgres_exporter.remembered', current_database());
  END IF;
END
$do$;
COMMIT;

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
  IF EXISTS (SELECT FROM pg_catalog.pg_shdepend d
               JOIN pg_catalog.pg_roles r ON r.oid = d.refobjid
              WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.deptype = 'o'
                AND d.dbid IN (0, (SELECT oid FROM pg_catalog.pg_database
                                    WHERE datname = current_database()))
                AND r.rolname = E'exporter') THEN
    RAISE WARNING 'Role % owns something in database %, so what it may do there stays. Give that to another role (REASSIGN OWNED) and run this again.',
      E'exporter', current_database();
  ELSIF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = E'exporter') THEN
    DROP OWNED BY "exporter";
  END IF;
END
$do$;
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
  others text;
  command text;
  change record;
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
  others := (SELECT string_agg(quote_ident(q.rolname), ', ' ORDER BY q.rolname)
               FROM pg_catalog.pg_roles q
              WHERE q.rolname <> E'exporter' AND q.oid IN (SELECT r.oid
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
                                 AND s.deptype = 'a')));
  IF others IS NOT NULL THEN
    IF changes <> '[]' THEN
      RAISE INFO 'Database %: who may create or make triggers stays as it is, since other roles of exporters rely on that: %. When the last of them is revoked, what was before is restored.',
        current_database(), others;
    END IF;
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'matrix_postgres_exporter_owner') THEN
    EXECUTE format('ALTER ROLE matrix_postgres_exporter_owner IN DATABASE %I RESET matrix_postgres_exporter.revoked_create', current_database());
    EXECUTE format('ALTER ROLE matrix_postgres_exporter_owner IN DATABASE %I SET matrix_postgres_exporter.remembered = %L', current_database(),
      jsonb_build_object('cluster', cluster, 'database', here,
        'roles', (SELECT coalesce(jsonb_agg(jsonb_build_object('role', r.rolname, 'oid', r.oid)
                                            ORDER BY r.oid), '[]')
                    FROM pg_catalog.pg_roles r WHERE r.oid IN (SELECT q.oid FROM pg_catalog.pg_roles q
                      WHERE q.rolname <> E'exporter' AND q.oid IN (SELECT r.oid
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
                                 AND s.deptype = 'a')))),
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
    RETURN;
  END IF;
  FOR change IN
    SELECT c.*, p.place, p.owner, p.oid AS found, p.schema AS schema_now,
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
                    ELSE g.rolname = c.grantor END
  LOOP
    CONTINUE WHEN change.found IS NULL AND change.role IS NOT NULL;
    IF change.found IS NULL THEN
      RAISE WARNING 'Database %: not found, so nothing is restored there: %. One of the same name is another.',
        current_database(),
        CASE WHEN change.relation IS NOT NULL THEN format('table %I.%I', change.schema, change.relation)
             WHEN change.schema IS NOT NULL THEN format('schema %I', change.schema)
             ELSE format('database %I', change.database) END
        || CASE change.oid WHEN 0 THEN '' ELSE format(' (oid %s)', change.oid) END;
      CONTINUE;
    END IF;
    IF change.role IS NOT NULL THEN
      IF change.role_found IS NULL THEN
        RAISE INFO 'Database %: role % is gone, and with it what was granted to it on %.',
          current_database(), quote_ident(change.role), change.place;
      END IF;
      CONTINUE WHEN change.role_found IS NULL OR change.role_found = change.owner;
    END IF;
    command := CASE WHEN change.role IS NULL
                    THEN format('GRANT %s ON %s TO PUBLIC', change.privileges, change.place)
                    ELSE format('REVOKE %s ON %s FROM %I', change.privileges, change.place,
                                change.role_now) END;
    RAISE INFO 'Database %: %', current_database(), command;
    IF change.grantor_found IS NOT NULL THEN
      IF (CASE WHEN change.relation IS NOT NULL AND change.place LIKE 'SEQUENCE %'
                 THEN has_sequence_privilege(change.grantor_found, change.found, replace(change.privileges, ',', ' WITH GRANT OPTION,') || ' WITH GRANT OPTION')
                 WHEN change.relation IS NOT NULL
                 THEN has_table_privilege(change.grantor_found, change.found, replace(change.privileges, ',', ' WITH GRANT OPTION,') || ' WITH GRANT OPTION')
                 WHEN change.schema IS NOT NULL
                 THEN has_schema_privilege(change.grantor_found, change.found, replace(change.privileges, ',', ' WITH GRANT OPTION,') || ' WITH GRANT OPTION')
                 ELSE has_database_privilege(change.grantor_found, change.found, replace(change.privileges, ',', ' WITH GRANT OPTION,') || ' WITH GRANT OPTION') END) THEN
        EXECUTE format('SET LOCAL ROLE %I', change.grantor_now);
      END IF;
    END IF;
    EXECUTE command;
    EXECUTE format('SET LOCAL ROLE %I', me);
  END LOOP;
  IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'matrix_postgres_exporter_owner') THEN
    EXECUTE format('ALTER ROLE matrix_postgres_exporter_owner IN DATABASE %I RESET matrix_postgres_exporter.revoked_create', current_database());
    EXECUTE format('ALTER ROLE matrix_postgres_exporter_owner IN DATABASE %I RESET matrix_postgres_exporter.remembered', current_database());
  END IF;
END
$do$;
DO $do$
DECLARE
  command text;
BEGIN
  FOR command IN
    SELECT DISTINCT format('REVOKE %I FROM %I', r.rolname, m.rolname)
      FROM pg_catalog.pg_auth_members a
      JOIN pg_catalog.pg_roles r ON r.oid = a.roleid
      JOIN pg_catalog.pg_roles m ON m.oid = a.member
     WHERE m.rolname = E'exporter' AND r.rolname IN ('pg_monitor', 'pg_read_all_stats', 'pg_use_reserved_connections')
  LOOP
    EXECUTE command;
  END LOOP;
END
$do$;
DO $do$
DECLARE
  schema_oid oid := (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'matrix_postgres_exporter');
  others text := (SELECT string_agg(DISTINCT quote_ident(r.rolname), ', ')
                    FROM pg_catalog.pg_namespace n, aclexplode(n.nspacl) a
                    JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
                   WHERE n.oid = schema_oid AND r.oid <> n.nspowner AND r.rolname <> E'exporter');
  function regprocedure;
BEGIN
  IF others IS NOT NULL THEN
    RAISE INFO 'The functions in schema matrix_postgres_exporter stay, since other roles call them: %.', others;
    RETURN;
  END IF;
  FOR function IN
    SELECT p.oid
      FROM pg_catalog.pg_proc p
      JOIN pg_catalog.pg_roles r ON r.oid = p.proowner AND r.rolname = 'matrix_postgres_exporter_owner'
     WHERE p.pronamespace = schema_oid
  LOOP
    EXECUTE format('DROP FUNCTION %s', function);
  END LOOP;
  DROP SCHEMA IF EXISTS matrix_postgres_exporter;
END
$do$;
DO $do$
DECLARE
  role_oid oid := (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = E'matrix_postgres_exporter_owner');
  needed text := (SELECT string_agg(DISTINCT coalesce(b.datname, 'shared'), ', ')
                    FROM (SELECT dbid
                            FROM pg_catalog.pg_shdepend
                           WHERE refclassid = 'pg_catalog.pg_authid'::regclass
                             AND refobjid = role_oid
                          UNION
                          SELECT s.setdatabase
                            FROM pg_catalog.pg_db_role_setting s,
                                 pg_options_to_table(s.setconfig) AS o
                           WHERE s.setrole = role_oid
                             AND o.option_name IN ('matrix_postgres_exporter.remembered', 'matrix_postgres_exporter.revoked_create')) AS d
                    LEFT JOIN pg_catalog.pg_database b ON b.oid = d.dbid);
BEGIN
  IF role_oid IS NULL THEN
    RETURN;
  ELSIF shobj_description(role_oid, 'pg_authid') IS DISTINCT FROM 'made by matrix-postgres-exporter grants' THEN
    RAISE WARNING 'Role % existed before grants was run, so it is not dropped.', E'matrix_postgres_exporter_owner';
  ELSIF needed IS NOT NULL THEN
    RAISE WARNING 'Role % still owns, may do or remembers something in databases (%), so it stays. If no role of another exporter needs that, name these too and run this again.',
      E'matrix_postgres_exporter_owner', needed;
  ELSE
    DROP ROLE "matrix_postgres_exporter_owner";
  END IF;
END
$do$;
DO $do$
DECLARE
  role_oid oid := (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = E'exporter');
  needed text := (SELECT string_agg(DISTINCT coalesce(b.datname, 'shared'), ', ')
                    FROM (SELECT dbid
                            FROM pg_catalog.pg_shdepend
                           WHERE refclassid = 'pg_catalog.pg_authid'::regclass
                             AND refobjid = role_oid
                          UNION
                          SELECT s.setdatabase
                            FROM pg_catalog.pg_db_role_setting s,
                                 pg_options_to_table(s.setconfig) AS o
                           WHERE s.setrole = role_oid
                             AND o.option_name IN ('matrix_postgres_exporter.remembered', 'matrix_postgres_exporter.revoked_create')) AS d
                    LEFT JOIN pg_catalog.pg_database b ON b.oid = d.dbid);
BEGIN
  IF role_oid IS NULL THEN
    RETURN;
  ELSIF shobj_description(role_oid, 'pg_authid') IS DISTINCT FROM 'made by matrix-postgres-exporter grants' THEN
    RAISE WARNING 'Role % existed before grants was run, so it is not dropped.', E'exporter';
  ELSIF needed IS NOT NULL THEN
    RAISE WARNING 'Role % still owns, may do or remembers something in databases (%), so it stays. If no role of another exporter needs that, name these too and run this again.',
      E'exporter', needed;
  ELSE
    DROP ROLE "exporter";
  END IF;
END
$do$;
COMMIT;
