#!/bin/sh
# Pins again what requirements.in and package.json ask for. Needs uv and npm.
set -eu
cd "$(dirname "$0")"
UV_CUSTOM_COMPILE_COMMAND=tests/support/install/deploy/lock.sh uv pip compile --quiet --universal --upgrade \
  --python-version 3.10 --generate-hashes --only-binary :all: --output-file requirements.txt requirements.in
npm install --package-lock-only --ignore-scripts --no-audit --no-fund --omit-lockfile-registry-resolved
