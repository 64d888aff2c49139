#!/bin/sh
# Makes .venv: imagesync, editable, with what its tests and linters need. Does nothing when that is there already.
set -eu
cd "$(dirname "$0")/.."

recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }

choose_python() {
    for candidate in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11 python3.10; do
        if recent "$candidate"; then
            command -v "$candidate"
            return
        fi
        if [ -n "${PYTHON:-}" ]; then break; fi
    done
    echo "imagesync needs Python 3.10 or later, and ${PYTHON:-python3} isn't; install one, or name it: PYTHON=python3.12 make setup" >&2
    return 1
}

# Scripts in .venv hold its path, so a checkout that was moved needs a new one.
stamp=.venv/.imagesync-setup
wanted="$(pwd) $(cksum <pyproject.toml)"
if [ -z "${PYTHON:-}" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && recent .venv/bin/python; then
    exit 0
fi

python=$(choose_python)
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    scripts/apt-install.sh "$version-venv"
fi

echo "Setting up .venv with $("$python" --version)" >&2
# One without a stamp may be somebody's own, and is only added to.
case $(cat "$stamp" 2>/dev/null) in
    "$(pwd) "* | "") ;;
    *) rm -rf .venv ;;
esac
[ -z "${PYTHON:-}" ] || rm -rf .venv
recent .venv/bin/python || "$python" -m venv --clear .venv
# Dependency groups (PEP 735) need pip 25.1.
.venv/bin/python -m pip install -qq --disable-pip-version-check --upgrade 'pip>=25.1'
.venv/bin/python -m pip install -qq --disable-pip-version-check --editable . --group test --group lint
printf '%s\n' "$wanted" >"$stamp"
