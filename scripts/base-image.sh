#!/bin/sh
# Prints the image that imagesync's base image is made from; see base_image.py.
set -eu
cd "$(dirname "$0")/.."
exec .venv/bin/python scripts/base_image.py
