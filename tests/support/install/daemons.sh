#!/bin/sh
# daemons.sh PACKAGE...: unpacks packages of Debian or Ubuntu, with the libraries they miss, below
# $deps/daemons, and puts what they run into $deps/bin. Nothing is installed, so that no service
# ever starts, and root is needed only where apt has no package lists yet.
. "$(dirname "$0")/common.sh"

unpack() {
  into=$deps/daemons/$1
  rm -rf "$into" && mkdir -p "$into/debs" "$deps/bin" || return
  wanted "$1" >"$into/wanted" || {
    as_root 'apt-get update' && wanted "$1" >"$into/wanted"
  } || return
  (cd "$into/debs" && xargs apt-get download <"$into/wanted") || return
  for deb in "$into"/debs/*.deb; do
    dpkg-deb --extract "$deb" "$into" || return
  done
  rm -r "$into/debs" "$into/wanted"
  libraries=$(find "$into" -name 'lib*.so.*' -printf '%h\n' | sort -u | paste -sd:)
  for program in "$into"/usr/*bin/*; do
    [ -x "$program" ] || continue
    wrapper=$deps/bin/${program##*/}
    printf '#!/bin/sh\nLD_LIBRARY_PATH="%s" exec "%s" "$@"\n' "$libraries" "$program" >"$wrapper"
    chmod a+rx "$wrapper" || return
  done
}

# The package and what it needs that is not installed; web pages are not needed.
wanted() {
  needs=$(apt-get install --simulate --no-install-recommends "$1") || return
  { echo "$1" && echo "$needs" | sed -n 's/^Inst \([^ ]*\) .*/\1/p'; } | grep -Ev '^(libjs|fonts)-' | sort -u
}

command -v apt-get >/dev/null || {
  say "needs apt-get (Debian, Ubuntu) to get: $*"
  exit 1
}
for package; do
  once "$package" "$(cksum <"$0")" unpack "$package"
done
