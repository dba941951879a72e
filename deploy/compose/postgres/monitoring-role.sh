#!/bin/sh
# Makes the exporter's role, as `matrix-postgres-exporter grants` prints it, and gives it its
# password without a trace in the server's log.
set -eu
export PGHOST=postgres PGUSER=postgres
PGPASSWORD=$(cat /run/secrets/postgres_password)
export PGPASSWORD

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --file /strict.sql
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 <<SQL
\set password \`cat '/run/secrets/exporter_password'\`
SET log_statement = none;
SET log_min_duration_statement = -1;
SET log_min_error_statement = panic;
ALTER ROLE exporter PASSWORD :'password';
SQL
