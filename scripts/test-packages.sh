#!/bin/sh
# Installs the system packages that the tests use, as far as their commands are missing.
set -eu
cd "$(dirname "$0")/.."

missing=
for needed in git:git openssl:openssl mount:mount; do
    command -v "${needed%:*}" >/dev/null || missing="$missing ${needed#*:}"
done
[ -z "$missing" ] || scripts/apt-install.sh $missing
