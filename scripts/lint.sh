#!/bin/sh
# Every linter; the first that complains ends it.
set -eu
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"

ruff check --quiet .
ruff format --check --quiet . || { echo "Not formatted; run: .venv/bin/ruff format ." >&2; exit 1; }
mypy
# Hosts may be macOS and Windows; what runs in images and containers is Linux's.
for platform in darwin win32; do
    mypy --package imagesync --platform "$platform" --no-warn-unreachable --exclude 'imagesync/standalone/(image|cluster)/' \
        --cache-dir ".mypy_cache/$platform"
done
lint-imports --no-cache --no-logo
for script in scripts/*.sh; do sh -n "$script"; done
bash -n .ci/run
hadolint Dockerfile.base
rendered=$(python scripts/lint_dockerfile.py)
printf '%s\n' "$rendered" | hadolint -
if command -v sphinx-build >/dev/null; then
    sphinx-build -q -W --keep-going docs .work/docs
else
    echo "lint: the documentation isn't built, because Sphinx needs Python 3.11" >&2
fi
echo "lint: clean"
