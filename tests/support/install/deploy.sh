#!/bin/sh
# Installs what checks the files of deploy/: from PyPI and npm, pinned in deploy/, into
# $deps/deploy, and from Debian or Ubuntu what is missing of psql, systemd-analyze and kubectl.
. "$(dirname "$0")/common.sh"

install=$root/tests/support/install
pins=$install/deploy

install_checkers() {
  command -v npm || "$install/apt.sh" npm || return
  python=/usr/bin/python3
  "$python" -c 'import venv, ensurepip' || "$install/apt.sh" python3-venv || return
  rm -rf "$deps/deploy" && "$python" -m venv "$deps/deploy" || return
  "$deps/deploy/bin/pip" install --disable-pip-version-check --only-binary :all: --require-hashes \
    --requirement "$pins/requirements.txt" || return
  cp "$pins"/package*.json "$deps/deploy" || return
  (cd "$deps/deploy" && npm ci --ignore-scripts --no-audit --no-fund) || return
}

once deploy "$(cat "$pins/requirements.txt" "$pins/package-lock.json" "$0" | cksum)" install_checkers
command -v psql >/dev/null || "$install/apt.sh" postgresql-client
command -v systemd-analyze >/dev/null || "$install/apt.sh" systemd
command -v kubectl >/dev/null || "$install/daemons.sh" kubernetes-client || {
  say "kubectl is needed (kustomize is in it), and this system has no package of it;"
  say "https://kubernetes.io/docs/tasks/tools says how to get it"
  exit 1
}
