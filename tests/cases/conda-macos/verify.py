import importlib.metadata
import platform
from pathlib import Path

import numpy
import partd
import toolz
import tornado

assert platform.system() == "Linux"
assert numpy.array([1, 2]).sum() == 3
assert tornado.__file__.startswith("/opt/env/")
assert importlib.metadata.version("trellis") == "1.4.5"
records = {path.name.rsplit("-", 2)[0] for path in Path("/opt/env/conda-meta").glob("*.json")}
assert not records & {"appnope", "libcxx"}

# pip's, and conda's partd runs with it.
assert toolz.__version__ == "1.0.0"
assert "partd" in records
assert "toolz" not in records
assert partd.__file__.startswith("/opt/env/lib/")
