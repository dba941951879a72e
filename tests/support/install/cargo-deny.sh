#!/bin/sh
# cargo-deny.sh ARGUMENT...: runs cargo-deny, and installs it into $deps/bin first. Built without optimisation: it starts in seconds either way,
# and the build takes a third of the time.
. "$(dirname "$0")/common.sh"

version=0.20.2

install_deny() {
  CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$deps/cargo-deny \
    cargo install --locked --debug --root "$deps" --version "$version" cargo-deny || return
  rm -rf "$deps/cargo-deny"
}

once cargo-deny "$version" install_deny
exec "$deps/bin/cargo-deny" "$@"
