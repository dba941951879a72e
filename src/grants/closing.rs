//! Takes from everybody, and from the exporter's role, the right to make what others run, and gives
//! it back.

use super::memory;
use super::places::{COLUMNS, KEEPERS, PLACES, has_privilege};
use super::script::run;
use crate::query::sql::literal;
use crate::query::view::OWNER;

/// Takes from everybody, and from the role, the right to make what others run.
pub fn close(role: &str) -> String {
    let role = literal(role);
    let sql = run(&format!(
        "DECLARE{variables}
  change jsonb;
  command text;
  open record;
  keeper record;
BEGIN
  {read}
  -- What is granted to everybody comes first: the role may have granted it itself.
  FOR open IN
    SELECT p.schema, p.relation, p.database, p.oid, p.place, a.grantee = 0 AS of_all,
           g.rolname AS grantor, coalesce(g.oid, 0) AS grantor_oid,
           string_agg(DISTINCT a.privilege_type, ', ' ORDER BY a.privilege_type) AS privileges
      FROM ({PLACES}
      UNION ALL {COLUMNS}
           ) AS p
     CROSS JOIN LATERAL aclexplode(p.acl) AS a
      LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantor AND g.oid <> p.owner
     WHERE a.grantee = 0 AND a.privilege_type = ANY (p.closed)
        OR a.grantee = (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = {role})
           AND a.privilege_type = ANY (p.taken)
     GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
     ORDER BY a.grantee = 0 DESC, p.place
  LOOP
    command := format('REVOKE %s ON %s FROM %s', open.privileges, open.place,
                      CASE WHEN open.of_all THEN 'PUBLIC' ELSE quote_ident({role}) END);
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
       WHERE r.oid IN ({KEEPERS}
             )
         AND r.rolname NOT IN ({role}, '{OWNER}')
         AND NOT {has_privilege}
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
  {write}
END",
        variables = memory::VARIABLES,
        read = memory::read(),
        has_privilege = has_privilege("r.oid", "open", "oid", "a.privilege"),
        write = memory::write(&format!(
            "SELECT q.oid FROM pg_catalog.pg_roles q WHERE q.rolname = {role}
                    UNION {}",
            memory::relying()
        ))
    ));
    format!(
        "
-- An application may run, with its own rights, what others create in a schema on its search path, or as
-- a trigger on its tables. So PUBLIC loses CREATE, and TRIGGER, REFERENCES and MAINTAIN on tables here;
-- roles that own something in this database, or may write to it, get it instead. What is made in a
-- template is in each new database, so PUBLIC loses CONNECT there. --revoke restores what was.
{sql}"
    )
}

/// Gives back what [`close`] took from everybody in this database, and takes what it gave, unless
/// another exporter's role relies on it.
pub fn reopen(role: &str) -> String {
    let role = literal(role);
    run(&format!(
        "DECLARE{variables}
  others text;
  command text;
  change record;
BEGIN
  {read}
  others := (SELECT string_agg(quote_ident(q.rolname), ', ' ORDER BY q.rolname)
               FROM pg_catalog.pg_roles q
              WHERE q.rolname <> {role} AND q.oid IN ({relying}));
  IF others IS NOT NULL THEN
    IF changes <> '[]' THEN
      RAISE INFO 'Database %: who may create or make triggers stays as it is, since other roles of exporters rely on that: %. When the last of them is revoked, what was before is restored.',
        current_database(), others;
    END IF;
    {write}
    RETURN;
  END IF;
  FOR change IN
    {resolved}
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
      IF {may_grant} THEN
        EXECUTE format('SET LOCAL ROLE %I', change.grantor_now);
      END IF;
    END IF;
    EXECUTE command;
    EXECUTE format('SET LOCAL ROLE %I', me);
  END LOOP;
  {forget}
END",
        variables = memory::VARIABLES,
        read = memory::read(),
        relying = memory::relying(),
        write = memory::write(&format!(
            "SELECT q.oid FROM pg_catalog.pg_roles q
                      WHERE q.rolname <> {role} AND q.oid IN ({})",
            memory::relying()
        )),
        resolved = memory::resolved(),
        may_grant = has_privilege(
            "change.grantor_found",
            "change",
            "found",
            "replace(change.privileges, ',', ' WITH GRANT OPTION,') || ' WITH GRANT OPTION'"
        ),
        forget = memory::forget(),
    ))
}
