#!/bin/sh
# Builds promtool of Prometheus 3 with Go, into $deps/promtool, and prints where it is. Debian's is 2.42.
. "$(dirname "$0")/common.sh"

# Prometheus 3.16. What the module needs is pinned by its own go.sum.
module=github.com/prometheus/prometheus
version=v0.316.0
sum=h1:f1GRFerhTMKQma+awCoC9T820ecWeGSdF+xAlMHzZzM=

build() {
  export GOPATH="$deps/promtool/path" GOCACHE="$deps/promtool/cache" GOFLAGS=-modcacherw
  export GOBIN="$deps/promtool"
  go mod download -json "$module@$version" | grep -q "\"Sum\": \"$sum\"" || {
    say "$module $version has another checksum than $sum"
    return 1
  }
  go install "$module/cmd/promtool@$version" || return
  rm -rf "$GOPATH" "$GOCACHE"
}

once promtool "$version $sum" build
echo "$deps/promtool/promtool"
