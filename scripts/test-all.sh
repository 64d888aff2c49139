#!/bin/sh
# Runs the unit tests on each CPython from 3.10 to 3.14 that is on this machine, then with the lowest versions of the
# direct dependencies, then as if on macOS and on Windows. Names the interpreters that are missing; ends with 1 if a run
# failed. RUNS="3.12 lowest win32" chooses from them.
set -eu
cd "$(dirname "$0")/.."

uv=.venv/bin/uv
failed=""
missing=""

# run NAME PYTHON [OPTION OF UV...]: the unit tests in a new environment.
run() {
    name=$1 python=$2
    shift 2
    environment=.work/test-all/$name
    echo "== $name" >&2
    "$uv" venv --quiet --clear --python "$python" "$environment"
    "$uv" pip install --quiet --python "$environment/bin/python" "$@" --editable '.[all,dask]' --group test --group lint
    "$environment/bin/python" -m pytest --doctest-modules imagesync tests/unit ${arguments} || failed="$failed $name"
}

# find_python VERSION: one on PATH, or one of pyenv's; pyenv's shims of versions that aren't chosen don't run.
find_python() {
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        if "$candidate" -c '' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# run_as PLATFORM: the unit tests in .venv, as if on that platform.
run_as() {
    echo "== $1" >&2
    IMAGESYNC_TEST_PLATFORM=$1 .venv/bin/python -m pytest -p tests.host_platform --capture=sys \
        --doctest-modules imagesync tests/unit ${arguments} || failed="$failed $1"
}

arguments=$*
for name in ${RUNS:-3.10 3.11 3.12 3.13 3.14 lowest darwin win32}; do
    case $name in
        lowest) run lowest .venv/bin/python --resolution lowest-direct ;;
        darwin | win32) run_as "$name" ;;
        *)
            if python=$(find_python "$name"); then
                run "$name" "$python"
            else
                missing="$missing $name"
            fi
            ;;
    esac
done

[ -z "$missing" ] || echo "NOT RUN, there is no CPython$missing here" >&2
[ -z "$failed" ] || { echo "FAILED:$failed" >&2; exit 1; }
