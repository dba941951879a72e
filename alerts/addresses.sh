#!/bin/sh
# Copies the rules and the dashboards with addresses in place of paths: addresses.sh URL GRAFANA FOLDER. URL is where this
# repository can be read, such as https://git.example.org/matrix-postgres-exporter/blob/main; GRAFANA, which may
# be empty, is where the dashboards were imported. `make alerts` calls it.
set -eu
url=${1:?say where this repository can be read: make alerts URL=https://...}
grafana=${2%/}
into=${3:-target/alerts}
here=$(cd "$(dirname "$0")" && pwd)

# with_dashboard PREFIX UID QUERY: the annotation below that of the runbook, as a script for sed.
with_dashboard() {
  printf '%s\n' "s|^\( *\)runbook_url: alerts/runbooks/$1.*|&\n\1dashboard_url: \"$grafana/d/$2?$3\"|"
}

mkdir -p "$into"
for file in "$here"/*.rules.yml "$here"/../deploy/kubernetes/prometheusrules.yaml; do
  script="s|runbook_url: alerts/|runbook_url: ${url%/}/alerts/|"
  if [ -n "$grafana" ]; then
    script="$(with_dashboard Postgres matrix-postgres-instance 'var-instance={{ $labels.instance }}')
$(with_dashboard Synapse matrix-postgres-synapse 'var-instance={{ $labels.instance }}\&var-datname={{ $labels.datname }}')
$script"
  fi
  sed "$script" "$file" >"$into/${file##*/}"
done
for file in "$here"/../dashboards/*.json; do
  sed "s|https://git.example.org/matrix-postgres-exporter/blob/main|${url%/}|" "$file" >"$into/${file##*/}"
done
echo "==> $into"
