"""Build a wheel; runs in a container of the base image.

It starts as ``python3 -c <this text>`` with a tar archive on stdin: ``request.json``, ``uv``, the folder
``source``, and the folder ``wheels`` with the build requirements. All output of the backend goes to stderr.
stdout gets one JSON line, then the wheel's bytes: ``{"wheel": filename}``, or ``{"requires": [...]}`` and no
bytes if the backend has further requirements. If the build fails, the exit code is 1.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from typing import BinaryIO

# os.path reads as well here as pathlib would.
# ruff: noqa: PTH118, PTH123

# Runs in the build's environment: calls one hook of the backend (PEP 517), and writes the result as JSON.
HOOK = """
import importlib, json, os, sys
backend, paths, hook, argument, answer = json.loads(sys.argv[1])
sys.path[:0] = [os.path.abspath(path) for path in paths]
sys.argv = ["setup.py"]
module, _, attributes = backend.partition(":")
found = importlib.import_module(module)
for name in filter(None, attributes.split(".")):
    found = getattr(found, name)
call = getattr(found, hook, None)
if call is None and hook == "build_wheel":
    sys.exit("The backend %s has no hook build_wheel." % backend)
result = [] if call is None else call(argument) if argument else call()
with open(answer, "w", encoding="utf-8") as file:
    json.dump(result, file)
"""


def main() -> int:
    """Read the archive, build, and answer."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory(prefix="imagesync-build-") as work:
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
            # From 3.12 on tarfile asks for a filter; imagesync itself wrote the archive.
            if hasattr(tarfile, "fully_trusted_filter"):
                archive.extraction_filter = tarfile.fully_trusted_filter
            archive.extractall(work)  # noqa: S202
        try:
            _build(work, answer)
        except subprocess.CalledProcessError:
            return 1
    answer.close()
    return 0


def _build(work: str, answer: BinaryIO) -> None:
    with open(os.path.join(work, "request.json"), encoding="utf-8") as file:
        request = json.load(file)
    environ = dict(os.environ, HOME=work, UV_CACHE_DIR=os.path.join(work, "cache"), UV_LINK_MODE="copy")
    environ.update(request["environ"], UV_NO_CONFIG="1", UV_OFFLINE="1")
    uv = os.path.join(work, "uv")
    environment = os.path.join(work, "environment")
    python = os.path.join(environment, "bin", "python")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, environment], env=environ, check=True)
    if request["requires"]:
        wheels = os.path.join(work, "wheels")
        options = ["--no-index", "--find-links", wheels, "--python", python]
        command = [uv, "pip", "install", "--quiet", *options, "--", *request["requires"]]
        subprocess.run(command, env=environ, check=True)
    environ["PATH"] = os.path.join(environment, "bin") + os.pathsep + environ.get("PATH", os.defpath)
    environ["VIRTUAL_ENV"] = environment

    def call(hook: str, argument: str | None = None) -> object:
        file = os.path.join(work, hook + ".json")
        what = json.dumps([request["backend"], request["backend_path"], hook, argument, file])
        source = os.path.join(work, "source")
        subprocess.run([python, "-c", HOOK, what], cwd=source, env=environ, check=True)
        with _open(file) as stream:
            return json.load(stream)

    wanted = call("get_requires_for_build_wheel")
    more = sorted(set(wanted if isinstance(wanted, list) else []) - set(request["requires"]))
    if more:
        answer.write(json.dumps({"requires": more}).encode() + b"\n")
        return
    output = os.path.join(work, "output")
    os.makedirs(output)  # noqa: PTH103
    name = str(call("build_wheel", output))
    answer.write(json.dumps({"wheel": name}).encode() + b"\n")
    with _open(os.path.join(output, name)) as wheel:
        shutil.copyfileobj(wheel, answer)


def _open(path: str) -> BinaryIO:
    """Open a file that the backend has made; a named pipe would wait for a writer."""
    if os.path.islink(path) or not os.path.isfile(path):  # noqa: PTH113, PTH114
        raise OSError("The backend has made no file " + path)
    return open(path, "rb")


if __name__ == "__main__":
    sys.exit(main())
