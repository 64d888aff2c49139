#!/bin/sh
# Sees to it that a container engine answers. As root on Debian or Ubuntu one is installed and started if need be.
set -eu
cd "$(dirname "$0")/.."

answers() { .venv/bin/python -c 'import docker; docker.from_env(timeout=10).ping()' 2>/dev/null; }

answers && exit 0

if [ -n "${DOCKER_HOST:-}" ]; then
    echo "No container engine answers at DOCKER_HOST=$DOCKER_HOST; start it, or unset DOCKER_HOST." >&2
    exit 1
fi
if command -v docker >/dev/null && docker version >/dev/null 2>&1; then
    # A docker context, which these tests don't follow: the address has to be said to all of them.
    echo "Your engine isn't at the default address; run: export DOCKER_HOST=$(docker context inspect --format '{{.Endpoints.docker.Host}}')" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    if [ -S /var/run/docker.sock ] && [ ! -w /var/run/docker.sock ]; then
        echo "You may not use the Docker engine on this machine; run: sudo usermod -aG docker $(id -un)   and log in again." >&2
    else
        echo "No container engine answers; install one (https://docs.docker.com/engine/install/) and start it, or set DOCKER_HOST." >&2
    fi
    exit 1
fi
if ! command -v dockerd >/dev/null; then
    if ! command -v apt-get >/dev/null; then
        echo "No container engine answers; install one: https://docs.docker.com/engine/install/" >&2
        exit 1
    fi
    scripts/apt-install.sh docker.io iptables
fi

mkdir -p .work
log=.work/dockerd.log
pid=
if [ -d /run/systemd/system ]; then
    systemctl start docker || { journalctl --no-pager --unit docker --lines 20 >&2; exit 1; }
elif ! answers; then
    echo "Starting dockerd" >&2
    # One run of the tests would leave some 30 GB in the builder's cache; a configuration of the machine's own wins.
    config=/etc/docker/daemon.json
    if [ ! -e "$config" ]; then
        config=$PWD/.work/dockerd.json
        # What was used in the last ten minutes stays: collecting it took layers from images of that moment (moby/buildkit#5469).
        echo '{"builder": {"gc": {"enabled": true, "policy": [{"keepStorage": "12GB", "filter": ["unused-for=10m"]}]}}}' >"$config"
    fi
    # In a session of its own, and with no descriptor of ours, not even that of a lock (flock), it outlives make and
    # whoever waits for make's output.
    setsid dockerd --config-file "$config" </dev/null >"$log" 2>&1 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- &
    pid=$!
fi

# dockerd says nothing when it is ready: ask until it answers, dies, or a minute has gone.
attempts=0
until answers; do
    attempts=$((attempts + 1))
    if [ "$attempts" -ge 120 ] || { [ -n "$pid" ] && ! kill -0 "$pid" 2>/dev/null; }; then
        [ ! -f "$log" ] || tail -n 20 "$log" >&2
        echo "dockerd didn't start; its log ends above." >&2
        exit 1
    fi
    sleep 0.5
done
