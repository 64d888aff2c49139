#!/bin/sh
# The main job, on the project in examples/weather: its environment becomes an image, and its command runs in there.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
PATH=$root/.venv/bin:$PATH

heading() { printf '\n== %s\n' "$1"; }
show() { printf '$ %s\n' "$*"; "$@"; }
now() { date +%s.%N; }
since() { awk -v from="$1" -v to="$(now)" 'BEGIN { printf "%.1f s", to - from }'; }
build() {
    start=$(now)
    reference=$(imagesync build --metadata-file "$root/.work/demo/metadata.json")
    took=$(since "$start")
    python -c '
import json, sys
image = json.load(open(sys.argv[1]))
print(image["reference"], "found" if image["cached"] else "built", "in", sys.argv[2])
' "$root/.work/demo/metadata.json" "$took"
}

heading "The base image"
IMAGESYNC_BASE=$(python scripts/base_image.py)
export IMAGESYNC_BASE
version=$(python scripts/base_python.py)
echo "made from $IMAGESYNC_BASE, with Python $version"

heading "A fresh virtual environment with examples/weather, editable"
rm -rf .work/demo
mkdir -p .work/demo
interpreter=$(scripts/find-python.sh "${version%.*}")
uv --quiet venv --no-project --python "$interpreter" .work/demo/env
VIRTUAL_ENV=$root/.work/demo/env
# The project's own, too: not the .venv above it, of which every command would warn.
UV_PROJECT_ENVIRONMENT=$VIRTUAL_ENV
export VIRTUAL_ENV UV_PROJECT_ENVIRONMENT
uv --quiet pip install --editable examples/weather
"$VIRTUAL_ENV/bin/python" -c '
import importlib.metadata, platform
count = len({d.name for d in importlib.metadata.distributions()})
print(f"{count} packages, Python {platform.python_version()}")
'

cd examples/weather
heading "What is installed"
show imagesync scan
heading "What the image will hold, and why"
show imagesync plan

heading "The image"
echo '$ imagesync build'
build

heading "The project's command in a container of that image"
show imagesync --quiet run -- weather-report

heading "The same build again"
echo '$ imagesync build'
build
python -c '
import json, sys
sys.exit(0 if json.load(open(sys.argv[1]))["cached"] else "the second build was no hit")
' "$root/.work/demo/metadata.json"
