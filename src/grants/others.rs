//! Roles and schemas that somebody else may have made before, and could use what they are given here.

use super::script::run;
use super::{HOME, Options};
use crate::query::sql::literal;
use crate::query::view::{OWNER, SCHEMA};

/// From 16 on whoever may create roles can give a role to itself that it has created, and that is then
/// given pg_monitor here.
pub(super) fn no_members() -> String {
    with_members(
        &literal(OWNER),
        &format!(
            "RAISE EXCEPTION 'Role {OWNER} has members (%), who would get pg_monitor by it. Revoke it from them, and run this again.',
      members;"
        ),
    )
}

/// The same of the exporter's role, which reads less without pg_monitor.
pub(super) fn members_of_exporter(options: &Options) -> String {
    let role = literal(&options.role);
    let (level, cure) = match options.pg_monitor {
        true => ("EXCEPTION", "Revoke it from them, and run this again."),
        false => ("WARNING", "Revoke it from them if they should not."),
    };
    with_members(
        &role,
        &format!(
            "RAISE {level} 'Role % has members (%), who can read what it can read. {cure}',
      {role}, members;"
        ),
    )
}

/// What is done where a role has members that are not superusers, nor who runs the script.
fn with_members(role: &str, done: &str) -> String {
    run(&format!(
        "DECLARE
  members text := (SELECT string_agg(DISTINCT m.rolname, ', ')
                     FROM pg_catalog.pg_auth_members a
                     JOIN pg_catalog.pg_roles r ON r.oid = a.roleid
                     JOIN pg_catalog.pg_roles m ON m.oid = a.member
                    WHERE r.rolname = {role} AND NOT m.rolsuper
                      AND m.rolname NOT IN (session_user, current_user));
BEGIN
  IF members IS NOT NULL THEN
    {done}
  END IF;
END"
    ))
}

/// Who owns the schema could have granted anything in it before.
pub(super) fn no_schema() -> String {
    run(&format!(
        "DECLARE
  owner text := (SELECT r.rolname
                   FROM pg_catalog.pg_namespace n
                   JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner
                  WHERE n.nspname = '{SCHEMA}' AND r.rolname <> '{OWNER}' AND NOT r.rolsuper);
BEGIN
  IF owner IS NOT NULL THEN
    RAISE EXCEPTION 'Schema {SCHEMA} of database {HOME} belongs to role %, who could call what is created in it. Drop the schema, and run this again.',
      owner;
  END IF;
END"
    ))
}
