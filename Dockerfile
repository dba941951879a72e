# syntax=docker/dockerfile:1
# One static binary on nothing else. Build it with its revision:
#   docker build --build-arg REVISION="$(git rev-parse HEAD)" --tag matrix-postgres-exporter:0.1.0 .

# On Alpine the compiler's own target is musl, so the program links statically, on every platform
# for which this image exists.
FROM rust:1.95.0-alpine AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --profile dist --bin matrix-postgres-exporter \
    && cp target/dist/matrix-postgres-exporter /usr/local/bin/

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="matrix-postgres-exporter" \
      org.opencontainers.image.description="A Prometheus exporter for PostgreSQL, made for the databases under Matrix Synapse" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
# For sslmode=verify-full with sslrootcert=system.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /usr/local/bin/matrix-postgres-exporter /matrix-postgres-exporter
# A number, so that Kubernetes can see that it is not root.
USER 65534:65534
EXPOSE 9187
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s \
    CMD ["/matrix-postgres-exporter", "healthcheck"]
ENTRYPOINT ["/matrix-postgres-exporter"]
