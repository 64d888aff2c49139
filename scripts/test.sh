#!/bin/sh
# Runs all tests: those of the container engine one after another, and the others beside them.
# Cancelled builds that share steps can crash BuildKit in Docker 20.10 (moby#42414), and there is one swarm.
set -eu
cd "$(dirname "$0")/.."
mkdir -p .work
log=.work/tests-without-engine.log

run() { .venv/bin/python -m pytest --doctest-modules imagesync tests "$@"; }

run -m "not engine" "$@" >"$log" 2>&1 &
others=$!
trap 'kill "$others" 2>/dev/null || true' INT TERM EXIT

engine_status=0
run -m engine "$@" || engine_status=$?
others_status=0
wait "$others" || others_status=$?
trap - INT TERM EXIT

echo
echo "Tests that use no engine:"
cat "$log"

# pytest ends with 5 where arguments select nothing of one half.
for status in "$engine_status" "$others_status"; do
    case $status in 0 | 5) ;; *) exit "$status" ;; esac
done
[ "$engine_status" -eq 0 ] || exit "$others_status"
