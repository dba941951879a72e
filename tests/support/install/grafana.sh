#!/bin/sh
# Installs the npm packages of Grafana that check and draw the dashboards, pinned in grafana/, into
# $deps/grafana. Prints the folder of the packages.
. "$(dirname "$0")/common.sh"

pins=$root/tests/support/install/grafana

# The packages want older versions of React than they run on; and none needs its install script.
install() {
  command -v npm || "$root/tests/support/install/apt.sh" npm || return
  rm -rf "$deps/grafana" && mkdir -p "$deps/grafana" && cp "$pins"/package*.json "$deps/grafana" || return
  (cd "$deps/grafana" && npm ci --legacy-peer-deps --ignore-scripts --no-audit --no-fund)
}

once grafana "$(cat "$pins/package-lock.json" "$0" | cksum)" install
echo "$deps/grafana/node_modules"
