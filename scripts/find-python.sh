#!/bin/sh
# Prints an interpreter of the feature version given as argument, such as 3.12: the distribution's own,
# one on PATH, pyenv's, one that uv knows; else it installs one by apt, or by uv.
set -eu
cd "$(dirname "$0")/.."

version=$1
fits() { [ "$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$version" ]; }

for candidate in "/usr/bin/python$version" "python$version" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python; do
    if fits "$candidate"; then
        command -v "$candidate"
        exit 0
    fi
done
uv=.venv/bin/uv
if "$uv" --quiet python find --no-project "$version" 2>/dev/null; then exit 0; fi
if [ "$(id -u)" -eq 0 ] && command -v apt-cache >/dev/null && apt-cache show "python$version" >/dev/null 2>&1; then
    scripts/apt-install.sh "python$version"
    echo "/usr/bin/python$version"
    exit 0
fi
if "$uv" --quiet python install "$version" >&2 && "$uv" --quiet python find --no-project "$version"; then exit 0; fi
echo "The base image has Python $version, and this machine has none: install python$version, or set IMAGESYNC_BASE to an image with another one." >&2
exit 1
