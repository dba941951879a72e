# Sourced by the installers. Sets `root` (the project) and `deps` (where the parts that tests and
# the demo run on are kept): `.deps` in the project, or, when root installs in a place that other
# users cannot enter (the servers run as nobody), a folder under /var/tmp.
set -eu
umask 022
root=$(cd "$(dirname "$0")/../../.." && pwd)
if [ -n "${MPE_DEPS:-}" ]; then
  deps=$MPE_DEPS
elif [ "$(id -u)" != 0 ] || setpriv --reuid=65534 --regid=65534 --clear-groups test -x "$root" 2>/dev/null; then
  deps=$root/.deps
else
  deps=/var/tmp/matrix-postgres-exporter-deps
fi
mkdir -p "$deps"

# say WORDS: what goes on, where the caller's output does not catch it.
say() { echo "$*" >&2; }

# as_root LINE: runs it as root or through sudo; without either says that somebody has to.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    sh -c "$1"
  elif command -v sudo >/dev/null; then
    sudo sh -c "$1"
  else
    say "this needs root and there is no sudo; as root run: $1"
    return 1
  fi
}

# once NAME KEY COMMAND...: runs the command unless it has succeeded before with the same key;
# two installers at once wait for each other.
once() {
  _name=$1 _key=$2
  shift 2
  exec 9>"$deps/$_name.lock"
  flock 9
  if [ "$(cat "$deps/$_name.done" 2>/dev/null)" != "$_key" ]; then
    say "installing $_name ..."
    "$@" >"$deps/$_name.log" 2>&1 || {
      tail -n 30 "$deps/$_name.log" >&2
      say "could not install $_name; the whole log is $deps/$_name.log"
      exit 1
    }
    echo "$_key" >"$deps/$_name.done"
  fi
  exec 9>&-
}
