#!/bin/sh
# virtualenv.sh NAME LOCK 3.MINOR: $deps/NAME, a virtual environment of that Python or a later one,
# with the wheels (no compiler) that a lock file pins by hash. Prints the path of its Python.
. "$(dirname "$0")/common.sh"

name=${1:?usage: virtualenv.sh NAME LOCK 3.MINOR} lock=$2 minimum=$3

# able PYTHON: recent enough, and able to make virtual environments.
able() {
  "$1" -c "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, ${minimum#3.}))" 2>/dev/null
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
    say "$name needs Python $minimum or later; $python is $("$python" --version 2>&1)"
    exit 1
  }
fi

environment=$deps/$name

# Other users run what root installs.
install() {
  rm -rf "$environment" &&
    "$python" -m venv "$environment" &&
    "$environment/bin/pip" install --disable-pip-version-check --only-binary :all: --require-hashes -r "$lock" &&
    chmod -R a+rX "$environment"
}

once "$name" "$("$python" --version) $(sha256sum <"$lock")" install
echo "$environment/bin/python"
