#!/bin/sh
# Installs the system packages that the tests use, as far as their commands are missing: all of them, or
# with the argument "unit" those that the tests without an engine need.
set -eu
cd "$(dirname "$0")/.."

needed="git:git gcc:gcc,libc6-dev openssl:openssl"
[ "${1:-}" = unit ] || needed="$needed /usr/bin/python3-config:python3-dev mount:mount ip:iproute2 busybox:busybox-static podman:podman,runc docker-registry:docker-registry skopeo:skopeo umoci:umoci docker-compose:docker-compose"

missing=
for entry in $needed; do
    command -v "${entry%%:*}" >/dev/null || missing="$missing $(echo "${entry#*:}" | tr , ' ')"
done
# shellcheck disable=SC2086
[ -z "$missing" ] || scripts/apt-install.sh $missing
