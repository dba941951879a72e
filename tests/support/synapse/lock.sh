#!/bin/sh
# Pins again what each requirements-*.in asks for, for every Python from 3.10 on. Needs uv.
set -eu
cd "$(dirname "$0")"
for wanted in requirements-*.in; do
  UV_CUSTOM_COMPILE_COMMAND=tests/support/synapse/lock.sh uv pip compile --quiet --universal --upgrade \
    --python-version 3.10 --generate-hashes --only-binary :all: --output-file "${wanted%.in}.txt" "$wanted"
done
