# shellcheck shell=bash
# The cluster of compose.yaml, from nothing to nothing. Read by both forms.

built() {
  docker-compose build storage-node-1 gateway-1 cluster-init && docker-compose config --quiet
}

# Nobody needs to be root, and no image is larger than its base and its program.
modest() {
  local image base size
  base=$(docker inspect --format '{{.Size}}' debian:bookworm-slim)
  for image in ursula-gateway ursula-storage-node ursula; do
    [ "$(docker inspect --format '{{.Config.User}} {{.Config.StopSignal}}' "$image:local")" = "ursula SIGTERM" ] || return 1
    size=$(($(docker inspect --format '{{.Size}}' "$image:local") - base))
    echo "$image: $size bytes more than its base"
    ((size < $(stat --printf '%s' "prebuilt/${image}") + 100000)) || return 1
  done
}

promtool() {
  docker run --rm --interactive --volume "$PWD/compose/prometheus:/etc/prometheus:ro" --entrypoint promtool \
    "$(. ./.env && echo "$PROMETHEUS_IMAGE")" "$@"
}

# Each alert has a section in the runbook, too.
rules_are_right() {
  local section
  for section in $(sed -n 's|.*runbook_url: docs/runbook.md#||p' compose/prometheus/alerts.yml); do
    grep -qix "## $section" docs/runbook.md || { echo "the runbook has nothing about $section"; return 1; }
  done
  promtool check config /etc/prometheus/prometheus.yml && promtool test rules /etc/prometheus/alerts_test.yml
}

up() {
  docker-compose up --detach && eventually 30 all_healthy
}

# Runs the commands that a section of the README shows, as they stand there, and looks at their statuses.
readme() {
  local section lines line said
  section=$(sed -n '/^## Try it/,/^## Test it/p' README.md)
  mapfile -t lines < <(grep '^curl -[iI]' <<<"$section")
  ((${#lines[@]} >= 5)) || { echo "where are the commands?"; return 1; }
  for line in "${lines[@]}"; do
    said=$(bash -c "${line/curl/curl -s}") || return 1
    grep -qE '^HTTP/1.1 20[014] ' <<<"$said" || { printf '%s\n%s\n' "$line" "$said"; return 1; }
  done
  line=$(grep '^curl -N' <<<"$section")
  said=$(timeout 2 bash -c "$line" || true)
  [[ $said == *data:first\ event*second\ event* ]] || { printf '%s\n%s\n' "$line" "$said"; return 1; }
}

location() {
  curl -si -X PUT "$url/v1/stream/somewhere" -H 'Content-Type: text/plain' -H 'Host: elsewhere' | tr -d '\r' |
    grep -ix "location: $url/v1/stream/somewhere"
}

metrics_are_tidy() {
  local service
  for service in gateway-1:4436 storage-node-1:4439; do
    curl -s "http://$(address "${service%:*}"):${service#*:}/metrics" | promtool check metrics || return 1
  done
}

again() {
  docker-compose up --detach && eventually 30 all_healthy || return 1
  # Also without the look before it.
  docker-compose run --rm --no-deps -T --entrypoint ursula cluster-init cluster init --node 1=storage-node-1:4438 \
    --node 2=storage-node-2:4438 --node 3=storage-node-3:4438
}

# stops NODE / dies NODE: it goes, is away for a while, and comes back.
stops() {
  docker-compose stop "$1" && stopped_well "$1" && sleep 2 && docker-compose start "$1" && eventually 30 in_service "$1"
}
dies() {
  docker-compose kill -s KILL "$1" && sleep 2 && docker-compose start "$1" && eventually 30 in_service "$1"
}
restarts() {
  docker-compose restart "$1" && eventually 30 in_service "$1"
}

minimal() {
  docker-compose down --volumes --timeout 3 || return 1
  export COMPOSE_PROFILES=minimal
  docker-compose up --detach && eventually 30 all_healthy && readme && [ "$(containers --quiet | wc -l)" = 3 ]
}

# The engine, images, and the cluster.
start() {
  engine
  check "the engine has images in the place of those that cannot be had" tests/compose/stand-ins make "$CACHE" "$GARAGE"
  check "images are built" built
  local before=$SECONDS
  check "the cluster is up and healthy" up
  check "... within 60 s" test $((SECONDS - before)) -le 60
}

short() {
  check "images are small, and of somebody who is not root" modest
  check "Prometheus accepts its files, and alerts do what their tests say" rules_are_right
  check "what the README shows works through the load balancer" readme
  check "Location has the public URL" location
  check "all targets of Prometheus are up" eventually 20 tests/compose/ask targets 7
  check "all rules are loaded" eventually 20 tests/compose/ask rules
  check "every query of the dashboards has data" eventually 20 tests/compose/ask dashboards
  check "a second up, and a second init, change nothing" again
  start_load
  check "a storage node stops and starts" stops storage-node-2
  check "a storage node is killed and starts" dies storage-node-3
  check "a storage node restarts" restarts storage-node-1
  check "a gateway restarts" restarts gateway-1
  check "the other gateway restarts" restarts gateway-2
  check "no append failed, none is lost, who followed missed nothing" end_load
  tail -n 1 "$LOGS/load.log"
  check "all targets of Prometheus are up again" eventually 30 tests/compose/ask targets 7
  check "promtool has nothing to say about metrics" metrics_are_tidy
}
