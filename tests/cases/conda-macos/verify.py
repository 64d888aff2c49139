import importlib.metadata
import platform
from pathlib import Path

import numpy
import tornado

assert platform.system() == "Linux"
assert numpy.array([1, 2]).sum() == 3
assert tornado.__file__.startswith("/opt/env/")
assert importlib.metadata.version("trellis") == "1.4.5"
records = {path.name.rsplit("-", 2)[0] for path in Path("/opt/env/conda-meta").glob("*.json")}
assert not records & {"appnope", "libcxx"}
