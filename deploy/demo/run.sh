#!/bin/sh
# A real Synapse on a real PostgreSQL, with traffic, watched by the exporter: gets what is missing,
# then demo.py runs it until Ctrl-C and leaves nothing behind. `make demo` calls this.
set -eu
cd "$(dirname "$0")/../.."
install=tests/support/install

# With npm the pinned PostgreSQL that the tests run on, else the one of Debian or Ubuntu.
if command -v npm >/dev/null && [ "$(uname -sm)" = "Linux x86_64" ]; then
  "$install/postgres.sh"
elif ! ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1; then
  "$install/apt.sh" tzdata
  "$install/daemons.sh" postgresql
fi
# Whoever cannot have these has a demo without alerts.
"$install/daemons.sh" prometheus && "$install/alertmanager.sh" || true
python=$("$install/synapse.sh" 1.163.2)

exec "$python" -B deploy/demo/demo.py "$@"
