#!/bin/sh
# apt.sh PACKAGE...: installs those packages of Debian or Ubuntu that are missing, as root or
# through sudo. Only for packages without a service: see daemons.sh for the others.
. "$(dirname "$0")/common.sh"

missing=
for package; do
  dpkg-query --show --showformat '${Status}\n' "$package" 2>/dev/null | grep -q ' installed$' ||
    missing="$missing $package"
done
[ -n "$missing" ] || exit 0
command -v apt-get >/dev/null || {
  say "missing, and apt-get is not there to install it:$missing"
  exit 1
}

say "installing$missing ..."
as_root "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes \
--no-install-recommends$missing" >"$deps/apt.log" 2>&1 || {
  tail -n 10 "$deps/apt.log" >&2
  say "could not install$missing; the whole log is $deps/apt.log"
  exit 1
}
