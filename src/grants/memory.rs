//! What the script has changed in a database and for which roles, as `--revoke` finds it again.
//!
//! It is a setting of the owner role in that database. Nobody logs in as that role, so the setting has
//! no effect; it is changed in the same transaction as the privileges, and a dump carries both. The
//! server keeps it by oid, so it follows a database that is renamed and goes with one that is dropped.
//!
//! What is in it has name and oid. Where it was written, the oid counts: a schema that was renamed is
//! found, and another one that has its name now is not meant. In another cluster or database, as after
//! a restored dump or pg_upgrade, oids mean nothing, and the name counts.

use super::places::PLACES;
use crate::query::view::OWNER;

/// The name of the setting. Its value is a JSON object: `cluster` and `database` say where oids mean
/// something, `roles` are those of exporters that rely on what was changed, and `changes` is a list.
/// Those with a `role` say what was granted to it, the others what was revoked from PUBLIC; `grantor`
/// had granted it, if not the owner.
const SETTING: &str = "matrix_postgres_exporter.remembered";

/// What earlier versions of this program wrote: a list of `schema`, null for the database itself,
/// with `role` or `grantor`, all by name.
const FORMER: &str = "matrix_postgres_exporter.revoked_create";

/// A SELECT of the databases of which the role `role_oid` remembers something.
pub fn remembering() -> String {
    format!(
        "SELECT s.setdatabase
                            FROM pg_catalog.pg_db_role_setting s,
                                 pg_options_to_table(s.setconfig) AS o
                           WHERE s.setrole = role_oid
                             AND o.option_name IN ('{SETTING}', '{FORMER}')"
    )
}

/// The variables of a block that reads the memory.
pub const VARIABLES: &str = "
  me name := current_user;
  here oid := (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database());
  cluster text := (SELECT c.system_identifier FROM pg_catalog.pg_control_system() AS c);
  stored record;
  memory jsonb;
  known boolean := false;
  changes jsonb := '[]';
  roles jsonb := '[]';";

/// Reads the memory into `changes` and `roles`; oids that mean nothing here are 0. What is damaged
/// ends the script: what was before is not to be lost, nor something else to be granted.
pub fn read() -> String {
    format!(
        "FOR stored IN
    SELECT o.option_name AS name, o.option_value AS value
      FROM pg_catalog.pg_db_role_setting s
      JOIN pg_catalog.pg_roles r ON r.oid = s.setrole AND r.rolname = '{OWNER}',
           pg_options_to_table(s.setconfig) AS o
     WHERE s.setdatabase = here AND o.option_name IN ('{SETTING}', '{FORMER}')
     ORDER BY o.option_name DESC
  LOOP
    BEGIN
      memory := stored.value::jsonb;
      IF stored.name = '{FORMER}' THEN
        memory := jsonb_build_object('cluster', '', 'database', 0, 'roles', '[]'::jsonb, 'changes',
          (SELECT coalesce(jsonb_agg(
                    CASE WHEN c ? 'schema' AND c - '{{schema,role,grantor}}'::text[] = '{{}}'
                         THEN jsonb_build_object(
                           'schema', c -> 'schema', 'relation', NULL,
                           'database', CASE WHEN c ->> 'schema' IS NULL THEN current_database() END,
                           'oid', 0, 'privileges', 'CREATE', 'role', c -> 'role', 'role_oid', 0,
                           'grantor', c -> 'grantor', 'grantor_oid', 0) END), '[]')
             FROM jsonb_array_elements(memory) AS c));
      END IF;
      IF (ARRAY(SELECT jsonb_object_keys(memory) COLLATE \"C\" ORDER BY 1)
            = '{{changes,cluster,database,roles}}'
          AND jsonb_typeof(memory -> 'cluster') = 'string'
          AND (memory ->> 'database')::oid IS NOT NULL
          AND NOT EXISTS (
            SELECT FROM jsonb_array_elements(memory -> 'roles') AS c
             WHERE (ARRAY(SELECT jsonb_object_keys(c) COLLATE \"C\" ORDER BY 1) = '{{oid,role}}'
                    AND jsonb_typeof(c -> 'role') = 'string' AND (c ->> 'oid')::oid IS NOT NULL)
                   IS NOT TRUE)
          AND NOT EXISTS (
            SELECT FROM jsonb_array_elements(memory -> 'changes') AS c
             WHERE (ARRAY(SELECT jsonb_object_keys(c) COLLATE \"C\" ORDER BY 1)
                      = '{{database,grantor,grantor_oid,oid,privileges,relation,role,role_oid,schema}}'
                    AND NOT EXISTS (
                      SELECT FROM jsonb_each(c) AS e (key, value)
                       WHERE CASE WHEN e.key ~ 'oid$' THEN (e.value #>> '{{}}')::oid IS NULL
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
      RAISE EXCEPTION 'Database %: what --revoke has to restore cannot be read from the setting % of the role {OWNER}: %. Nothing was changed in this database.',
        current_database(), stored.name, SQLERRM
        USING HINT = format('Look at it in pg_db_role_setting and repair it, or give it up: ALTER ROLE {OWNER} IN DATABASE %I RESET %s. Then run this again; who could create or make triggers before, cannot again.',
                            current_database(), stored.name);
    END;
    known := known OR stored.name = '{SETTING}';
    IF (memory ->> 'cluster', (memory ->> 'database')::oid) <> (cluster, here) THEN
      memory := jsonb_build_object('roles',
        (SELECT coalesce(jsonb_agg(c || '{{\"oid\": 0}}'), '[]')
           FROM jsonb_array_elements(memory -> 'roles') AS c),
        'changes',
        (SELECT coalesce(jsonb_agg(c || '{{\"oid\": 0, \"role_oid\": 0, \"grantor_oid\": 0}}'), '[]')
           FROM jsonb_array_elements(memory -> 'changes') AS c));
    END IF;
    changes := changes || (memory -> 'changes');
    roles := roles || (memory -> 'roles');
  END LOOP;"
    )
}

/// A SELECT of the changes with what they mean now: `place`, `owner` and `found` of the place,
/// `role_now` and `grantor_now` of the roles.
pub fn resolved() -> String {
    format!(
        "SELECT c.*, p.place, p.owner, p.oid AS found, p.schema AS schema_now,
               p.relation AS relation_now, p.database AS database_now,
               r.oid AS role_found, r.rolname AS role_now, g.oid AS grantor_found,
               g.rolname AS grantor_now
          FROM jsonb_to_recordset(changes)
               AS c (schema text, relation text, database text, oid oid, privileges text,
                     role text, role_oid oid, grantor text, grantor_oid oid)
          LEFT JOIN ({PLACES}
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
                    ELSE g.rolname = c.grantor END"
    )
}

/// A SELECT of the oids of the roles that rely on the changes. Earlier versions did not remember
/// them: those that may connect here and call functions of the owner role.
pub fn relying() -> String {
    format!(
        "SELECT r.oid
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
                                  ON w.oid = o.refobjid AND w.rolname = '{OWNER}'
                               WHERE s.refclassid = 'pg_catalog.pg_authid'::regclass
                                 AND s.deptype = 'a')"
    )
}

/// Writes `changes`, with what they mean now, and `roles`, a list of oids.
pub fn write(roles: &str) -> String {
    format!(
        "IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = '{OWNER}') THEN
    EXECUTE format('ALTER ROLE {OWNER} IN DATABASE %I RESET {FORMER}', current_database());
    EXECUTE format('ALTER ROLE {OWNER} IN DATABASE %I SET {SETTING} = %L', current_database(),
      jsonb_build_object('cluster', cluster, 'database', here,
        'roles', (SELECT coalesce(jsonb_agg(jsonb_build_object('role', r.rolname, 'oid', r.oid)
                                            ORDER BY r.oid), '[]')
                    FROM pg_catalog.pg_roles r WHERE r.oid IN ({roles})),
        'changes', (SELECT coalesce(jsonb_agg(jsonb_build_object(
                      'schema', coalesce(c.schema_now, c.schema),
                      'relation', coalesce(c.relation_now, c.relation),
                      'database', coalesce(c.database_now, c.database),
                      'oid', coalesce(c.found, c.oid), 'privileges', c.privileges,
                      'role', coalesce(c.role_now, c.role),
                      'role_oid', coalesce(c.role_found, c.role_oid),
                      'grantor', coalesce(c.grantor_now, c.grantor),
                      'grantor_oid', coalesce(c.grantor_found, c.grantor_oid))), '[]')
                      FROM ({resolved}) AS c)));
  END IF;",
        resolved = resolved()
    )
}

/// Forgets all that is remembered.
pub fn forget() -> String {
    format!(
        "IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = '{OWNER}') THEN
    EXECUTE format('ALTER ROLE {OWNER} IN DATABASE %I RESET {FORMER}', current_database());
    EXECUTE format('ALTER ROLE {OWNER} IN DATABASE %I RESET {SETTING}', current_database());
  END IF;"
    )
}
