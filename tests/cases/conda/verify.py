import ctypes
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import greeter
import numpy
import quill

prefix = Path("/opt/env")
assert Path(sys.prefix) == prefix
assert numpy.array([1, 2]).sum() == 3
assert quill.__file__.startswith("/opt/env/lib/python3.")
assert importlib.metadata.version("orchard-core") == importlib.metadata.version("orchard-tools") == "2.1.0"


def said(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


assert said("greet") == said("greet-native") == "hello from greeter\n"
for script in ("greet", "greet-native"):
    assert (prefix / "bin" / script).read_text().startswith("#!/opt/env/bin/python")

# The prefix is written into texts and into libraries.
assert (prefix / "share/beacon/beacon.conf").read_text() == "home = /opt/env/share/beacon\n"
library = ctypes.CDLL(str(next((prefix / "lib").glob("libbeacon.so*"))))
library.beacon_prefix.restype = ctypes.c_char_p
assert library.beacon_prefix() == b"/opt/env"

# What conda knows of them is there, for tools that ask, and says nothing of where it was built.
for path in (prefix / "conda-meta").glob("*.json"):
    record = json.loads(path.read_text())
    assert record["url"].endswith(record["fn"]), record["url"]
    assert "/mnt" not in path.read_text()
    for entry in record["paths_data"]["paths"]:
        assert os.path.lexists(prefix / entry["_path"]), entry
records = {path.name.rsplit("-", 2)[0] for path in (prefix / "conda-meta").glob("*.json")}
assert {"python", "numpy", "greeter", "greeter-native", "orchard-suite", "quill", "libbeacon"} <= records
assert "update specs" in (prefix / "conda-meta/history").read_text()

# Neither an installer nor a cache stays behind.
assert sorted(path.name for path in Path("/opt").iterdir()) == ["env"]
assert not [path for path in prefix.rglob("*") if "rattler" in path.name or "micromamba" in path.name]

# Bytecode holds by hash, that of the standard library too.
for module in (json, numpy, greeter):
    with open(module.__cached__, "rb") as file:
        assert file.read(8)[4:] == b"\1\0\0\0", module
