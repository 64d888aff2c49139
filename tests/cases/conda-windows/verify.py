import importlib.metadata
import platform
from pathlib import Path

import dask.array
import distributed
import numpy

assert platform.system() == "Linux"
assert dask.array.ones(4).sum().compute() == 4
assert distributed.__version__ == dask.__version__ == "2025.9.1"
assert importlib.metadata.version("trellis") == "1.4.5"
records = {path.name.rsplit("-", 2)[0] for path in Path("/opt/env/conda-meta").glob("*.json")}
assert not records & {"pywin32", "ucrt", "vc", "vs2015_runtime"}
assert numpy.__file__.startswith("/opt/env/")
