#!/bin/sh
# Pins again what requirements.in asks for, for every Python from 3.11 on. Needs uv.
set -eu
cd "$(dirname "$0")"
UV_CUSTOM_COMPILE_COMMAND=dashboards/src/lock.sh uv pip compile --quiet --universal --upgrade \
  --python-version 3.11 --generate-hashes --only-binary :all: --output-file requirements.txt requirements.in
