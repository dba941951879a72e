#!/bin/sh
# synapse.sh VERSION: a virtual environment with that Synapse, from wheels only (no compiler), each
# pinned by hash in ../synapse/requirements-VERSION.txt. Prints the path of its Python.
. "$(dirname "$0")/common.sh"

version=${1:?usage: synapse.sh VERSION}
lock=$root/tests/support/synapse/requirements-$version.txt
[ -f "$lock" ] || {
  say "no Synapse $version here; there are: $(cd "${lock%/*}" && ls requirements-*.txt | sed 's/requirements-//; s/\.txt//' | xargs)"
  exit 2
}

# able PYTHON: 3.10 or later, and able to make virtual environments.
able() {
  "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
}

# The system's Python comes first: every user can run it.
python=
for candidate in /usr/bin/python3 python3; do
  if able "$candidate"; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  "$root/tests/support/install/apt.sh" python3-venv
  python=/usr/bin/python3
  able "$python" || {
    say "Synapse $version needs Python 3.10 or later; $python is $("$python" --version 2>&1)"
    exit 1
  }
fi

environment=$deps/synapse-$version

# Other users run what root installs.
install() {
  rm -rf "$environment" &&
    "$python" -m venv "$environment" &&
    "$environment/bin/pip" install --disable-pip-version-check --only-binary :all: --require-hashes -r "$lock" &&
    chmod -R a+rX "$environment"
}

once "synapse-$version" "$("$python" --version) $(sha256sum <"$lock")" install
echo "$environment/bin/python"
