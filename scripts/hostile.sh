#!/bin/sh
# The campaign of hostile inputs: what `make test` tries of it, many times over and with other inputs each time.
# It ends after 30 minutes, whatever it is doing; a failure prints the input and the seed that repeats it.
set -eu
cd "$(dirname "$0")/.."
export IMAGESYNC_HOSTILE=campaign
exec timeout --signal=INT 1800 .venv/bin/python -m pytest tests/hostile "$@"
