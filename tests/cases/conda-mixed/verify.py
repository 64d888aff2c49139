import subprocess
from pathlib import Path

import click
import humanize
import meadow
import msgpack

assert click.__file__.startswith("/opt/env/lib/")
assert humanize.__version__ == "4.12.3"
assert msgpack.unpackb(msgpack.packb({"a": [1, 2]})) == {"a": [1, 2]}
assert meadow.packed() == msgpack.packb("meadow")
assert subprocess.run(["meadow"], capture_output=True, text=True, check=True).stdout == "meadow\n"

records = Path("/opt/env/conda-meta")
assert not list(records.glob("humanize-*")) and not list(records.glob("meadow-*"))
