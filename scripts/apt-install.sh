#!/bin/sh
# Installs the Debian or Ubuntu packages named as arguments, of which only the missing ones cost anything.
# Exit 1, with a sentence, where that isn't possible: another distribution, or not root.
set -eu

missing=
for package in "$@"; do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "Not installed, and only root on Debian or Ubuntu can have them installed from here:$missing" >&2
    exit 1
fi

echo "Installing$missing" >&2
mkdir -p .work
log=.work/apt.log
export DEBIAN_FRONTEND=noninteractive
# A package list of the last day is fresh enough; without one, apt knows no package at all.
updated=$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mmin -1440 2>/dev/null | head -n 1)
[ -n "$updated" ] || apt-get -o DPkg::Lock::Timeout=300 update >"$log" 2>&1 || true

# shellcheck disable=SC2086
install() { apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends $missing >>"$log" 2>&1 </dev/null; }

if ! install; then
    # The list may name versions that the mirror has replaced since.
    apt-get -o DPkg::Lock::Timeout=300 update >>"$log" 2>&1 || true
    if ! install; then
        tail -n 20 "$log" >&2
        echo "apt-get couldn't install:$missing" >&2
        exit 1
    fi
fi
