# shellcheck shell=bash
# What the short and the long form share: the engine, and checks. Read by both, in a network and a mount namespace of
# their own, with WORK, LOGS, CACHE and GARAGE set by `run`.
set -euo pipefail
cd "$WORK/tree"
mkdir "$WORK/bin"
# Whatever else is called docker on this machine.
ln -s /usr/bin/docker "$WORK/bin/docker"
export PATH=$WORK/bin:$PATH:/usr/sbin:/sbin DOCKER_HOST=unix://$WORK/docker.sock DOCKER_BUILDKIT=1 DOCKER_CONFIG=$WORK
export COMPOSE_DOCKER_CLI_BUILD=1 URSULA_BINARIES=prebuilt
url=http://127.0.0.1:4437
passed=0 load=

end() {
  status=$?
  trap - EXIT
  set +e
  ((status == 0)) || docker-compose logs --no-color --timestamps >"$LOGS/containers.log" 2>&1
  [ -z "$load" ] || kill "$load" 2>/dev/null
  docker-compose down --volumes --timeout 3 >/dev/null 2>&1
  kill "$engine" && wait "$engine" 2>/dev/null
  ((status == 0)) && echo "compose: $passed checks passed" || echo "compose: failed after $passed checks; logs are in $LOGS" >&2
  exit "$status"
}

engine() {
  ip link set lo up
  # What is left mounted is so in here only.
  mount --make-rprivate /
  dockerd --data-root "$WORK/data" --exec-root "$WORK/exec" --pidfile "$WORK/pid" --host "$DOCKER_HOST" >"$LOGS/dockerd.log" 2>&1 &
  engine=$!
  trap end EXIT
  trap 'exit 1' INT TERM
  eventually 30 docker version || { tail -n 20 "$LOGS/dockerd.log" >&2; exit 1; }
}

# eventually SECONDS COMMAND ...: repeats a command until it succeeds; else says what it said last.
eventually() {
  local until=$((SECONDS + $1)) said
  shift
  until said=$("$@" 2>&1); do
    ((SECONDS < until)) || { printf '%s\n' "$said" >&2; return 1; }
    sleep 0.5
  done
}

# check WHAT COMMAND ...: counts what succeeds, and ends everything with the first that fails.
check() {
  local what=$1
  shift
  if "$@" >"$WORK/said" 2>&1; then
    passed=$((passed + 1))
    printf 'ok   %4s s  %s\n' "$SECONDS" "$what"
  else
    printf 'FAIL %4s s  %s\n' "$SECONDS" "$what" >&2
    tail -n 40 "$WORK/said" >&2
    exit 1
  fi
}

# docker-compose takes a second for each question; the engine knows its labels.
containers() {
  docker ps --all --filter label=com.docker.compose.project=ursula --filter label=com.docker.compose.oneoff=False "$@"
}
container() { containers --quiet --filter label=com.docker.compose.service="$1"; }
address() { docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$(container "$1")"; }
healthy() { [ "$(docker inspect --format '{{.State.Health.Status}}' "$(container "$1")")" = healthy ]; }
all_healthy() {
  local all
  all=$(containers --format '{{.Label "com.docker.compose.service"}}: {{.Status}}')
  [ -n "$all" ] && ! grep -vE '\(healthy\)$|: Exited \(0\)' <<<"$all"
}

# Ready also for the load balancer, so that the next one may go.
in_service() {
  healthy "$1" && tests/compose/ask query "haproxy_server_status{server=\"$1\",state=\"UP\"} == 1"
}
stopped_well() { [ "$(docker inspect --format '{{.State.ExitCode}}' "$(container "$1")")" = 0 ]; }

start_load() {
  tests/compose/load "$url" "load-$SECONDS" >"$LOGS/load.log" 2>&1 &
  load=$!
  sleep 2
}

# Fails if one append failed or is lost, or who followed missed something.
end_load() {
  kill -TERM "$load"
  local status=0
  wait "$load" || status=$?
  load=
  cat "$LOGS/load.log"
  return "$status"
}
