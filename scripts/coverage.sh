#!/bin/sh
# Runs the unit tests, and prints which lines and branches of imagesync they don't reach. Passes arguments to pytest.
#
# It takes the newest CPython from 3.12 on that is on this machine. In older ones, sys.settrace fails while another
# thread is in it; filelock's audit hook lets threads switch there, so that servers in threads lose a few of theirs.
set -eu
cd "$(dirname "$0")/.."

python=.venv/bin/python
environment=.venv
for version in 3.14 3.13 3.12; do
    for candidate in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python; do
        if "$candidate" -c '' 2>/dev/null; then
            python=$candidate environment=.work/test-all/$version
            break 2
        fi
    done
done
rm -rf .work/coverage
if [ "$environment" = .venv ]; then
    echo "There is no CPython 3.12 or later here: tests of servers may fail by coverage's tracer" >&2
else
    uv=.venv/bin/uv
    "$uv" venv --quiet --allow-existing --python "$python" "$environment"
    "$uv" pip install --quiet --python "$environment/bin/python" --editable '.[all,dask]' --group test --group lint
fi
status=0
"$environment/bin/coverage" run -m pytest --doctest-modules imagesync tests/unit "$@" || status=$?
"$environment/bin/coverage" combine --quiet
"$environment/bin/coverage" report --skip-covered
exit "$status"
