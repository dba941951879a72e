#!/bin/sh
# A virtual environment with what builds and checks the dashboards, as
# dashboards/src/requirements.txt pins it. Prints the path of its Python.
. "$(dirname "$0")/common.sh"

exec "$root/tests/support/install/virtualenv.sh" dashboards "$root/dashboards/src/requirements.txt" 3.11
