#!/bin/sh
# Unpacks Alertmanager and amtool, by daemons.sh. Debian's build looks for its templates below
# /usr/share alone; this one finds them by a file descriptor, which the wrapper opens.
. "$(dirname "$0")/common.sh"

install=$root/tests/support/install
"$install/daemons.sh" prometheus-alertmanager

redirect() {
  unpacked=$deps/daemons/prometheus-alertmanager
  program=$unpacked/usr/bin/prometheus-alertmanager
  there=/usr/share/prometheus/alertmanager
  # Of the same length, since it stands in a binary.
  opened=/proc/self/fd/9/./././././././././
  LC_ALL=C sed -i "s|$there|$opened|g" "$program" || return
  printf '#!/bin/sh\nexec 9<"%s"\nexec "%s" "$@"\n' "$unpacked$there" "$program" >"$deps/bin/prometheus-alertmanager"
}

once alertmanager "$(cat "$install/daemons.sh" "$0" | cksum)" redirect
