#!/bin/sh
# Starts Synapse with its configuration and, from a secret, that of its database; the first time it
# makes its signing key.
set -eu
set -- --config-path /etc/synapse/homeserver.yaml --config-path /run/secrets/synapse_database
python -m synapse.app.homeserver "$@" --generate-keys
exec python -m synapse.app.homeserver "$@"
