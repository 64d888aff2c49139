#!/bin/sh
# Installs the system packages that the tests use, where they are missing.
#   git: version control sources
#   mmdebstrap: a base image where no registry answers
set -eu
cd "$(dirname "$0")/.."

for command in git; do
    command -v "$command" >/dev/null || scripts/apt-install.sh "$command"
done
