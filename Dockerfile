# Images of the programs: `docker build --target gateway .`, and so `storage-node` and `ursula`.
#
# Where no compiler can be had: put the three binaries, for the machine that the image is for, into the folder `prebuilt`
# and add `--build-arg BINARIES=prebuilt`.
ARG BINARIES=build

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# Names of functions stay, for backtraces.
ENV CARGO_PROFILE_RELEASE_STRIP=debuginfo
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked --package ursula --package ursula-gateway --package ursula-storage-node && \
    mkdir /binaries && \
    cp target/release/ursula target/release/ursula-gateway target/release/ursula-storage-node /binaries

FROM scratch AS prebuilt
COPY prebuilt /binaries

FROM ${BINARIES} AS binaries

FROM debian:bookworm-slim AS base
# Certificates are for stores that are reached by TLS; a base image of your own may have them.
RUN test -s /etc/ssl/certs/ca-certificates.crt || { \
        apt-get update && \
        apt-get install --yes --no-install-recommends ca-certificates && \
        rm -rf /var/lib/apt/lists/*; \
    }
# A volume that is new takes the owner of the folder.
RUN groupadd --gid 4437 ursula && \
    useradd --uid 4437 --gid 4437 --no-create-home --home-dir /var/lib/ursula --shell /usr/sbin/nologin ursula && \
    install --directory --owner ursula --group ursula /var/lib/ursula
COPY compose/image/ready /usr/local/bin/ready
# It may take no new work, and ends what is under way.
STOPSIGNAL SIGTERM
ENV NO_COLOR=1

FROM base AS gateway
COPY --from=binaries /binaries/ursula-gateway /usr/local/bin/
ENV URSULA_GATEWAY_LISTEN=0.0.0.0:4437 URSULA_GATEWAY_OPERATIONS_LISTEN=0.0.0.0:4436
EXPOSE 4437 4436
USER ursula
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 CMD ["ready", "4436"]
ENTRYPOINT ["ursula-gateway"]

FROM base AS storage-node
COPY --from=binaries /binaries/ursula-storage-node /usr/local/bin/
ENV URSULA_NODE_LISTEN=0.0.0.0:4438 URSULA_NODE_OPERATIONS_LISTEN=0.0.0.0:4439 URSULA_NODE_DATA_DIR=/var/lib/ursula
EXPOSE 4438 4439
VOLUME /var/lib/ursula
USER ursula
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 CMD ["ready", "4439"]
ENTRYPOINT ["ursula-storage-node"]

# What operators type, and a server for whoever wants to try it: `docker run --publish 127.0.0.1:4437:4437 ursula`.
FROM base AS ursula
COPY --from=binaries /binaries/ursula /usr/local/bin/
ENV URSULA_DEV_GATEWAY='{listen="0.0.0.0:4437",operations_listen="0.0.0.0:4436"}' \
    URSULA_DEV_NODE='{operations_listen="0.0.0.0:4439"}'
EXPOSE 4437
USER ursula
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 CMD ["ready", "4436"]
ENTRYPOINT ["ursula"]
CMD ["dev"]
