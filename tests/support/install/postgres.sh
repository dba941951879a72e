#!/bin/sh
# Installs PostgreSQL of every supported version, from the npm packages pinned in postgres/, into
# $deps/postgres, each with a fresh cluster that a test copies instead of waiting for initdb.
# The superuser is `postgres`, its password `postgres-secret`.
. "$(dirname "$0")/common.sh"

pins=$root/tests/support/install/postgres
servers=$deps/postgres

install_servers() {
  if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "PostgreSQL for the tests is pinned for Linux on x86_64 only, and this is $(uname -sm)."
    return 1
  fi
  command -v npm || "$root/tests/support/install/apt.sh" npm || return
  rm -rf "$servers" && mkdir -p "$servers/clusters" && cp "$pins"/package*.json "$servers" || return
  (cd "$servers" && npm ci --ignore-scripts --no-audit --no-fund) || return
  for package in "$servers"/node_modules/postgres-*; do
    (cd "$package" && node scripts/hydrate-symlinks.js) || return
  done
  chmod -R a+rX "$servers" || return
  echo postgres-secret >"$servers/password" || return
  chmod a+r "$servers/password" && owner=$(unprivileged id -u) || return
  chown "$owner" "$servers/clusters" || return
  for package in "$servers"/node_modules/postgres-*; do
    unprivileged "$package/native/bin/initdb" --pgdata "$servers/clusters/${package##*-}" --no-sync \
      --username postgres --pwfile "$servers/password" --auth-local trust --auth-host scram-sha-256 \
      --encoding UTF8 --locale C || return
  done
}

# PostgreSQL refuses to run as root.
unprivileged() {
  if [ "$(id -u)" = 0 ]; then
    setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
  else
    "$@"
  fi
}

once postgres "$(cat "$pins/package-lock.json" "$0" | cksum)" install_servers
