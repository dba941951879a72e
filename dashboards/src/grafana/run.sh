#!/bin/sh
# run.sh SCRIPT ARGUMENT...: runs a script of this folder by Node, with Grafana's packages in reach.
# They are in $deps/grafana, where tests/support/install/grafana.sh puts them.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
packages=$("$here/../../../tests/support/install/grafana.sh")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT INT TERM HUP
cp "$here"/*.mjs "$here"/*.jsx "$here"/*.html "$folder"
ln -s "$packages" "$folder/node_modules"
script=$1
shift
node "$folder/$script" "$@"
