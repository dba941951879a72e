#!/bin/sh
# synapse.sh VERSION: a virtual environment with that Synapse, as ../synapse/requirements-VERSION.txt
# pins it. Prints the path of its Python.
. "$(dirname "$0")/common.sh"

version=${1:?usage: synapse.sh VERSION}
lock=$root/tests/support/synapse/requirements-$version.txt
[ -f "$lock" ] || {
  say "no Synapse $version here; there are: $(cd "${lock%/*}" && ls requirements-*.txt | sed 's/requirements-//; s/\.txt//' | xargs)"
  exit 2
}

exec "$root/tests/support/install/virtualenv.sh" "synapse-$version" "$lock" 3.10
