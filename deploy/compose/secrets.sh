#!/bin/sh
# Makes a password for each service, in secrets/, once: what is there stays. Only the owner of the
# folder can enter it; the files are readable, since each container reads its own as another user.
# Another folder can be named.
set -eu
cd "$(dirname "$0")"
folder=${1:-secrets}
mkdir -p "$folder"
chmod 0700 "$folder"
umask 022

# Letters and digits alone, so that no file format needs quotes.
random() {
  head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n'
}

for name in postgres_password synapse_password exporter_password grafana_password; do
  [ -s "$folder/$name" ] || random >"$folder/$name"
done

# Synapse takes no file for its database's password, but a second file of configuration.
cat >"$folder/synapse_database.yaml" <<YAML
database:
  name: psycopg2
  args:
    host: postgres
    dbname: synapse
    user: synapse_user
    password: "$(cat "$folder/synapse_password")"
    cp_min: 2
    cp_max: 10
YAML
