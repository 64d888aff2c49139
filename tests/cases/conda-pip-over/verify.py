from pathlib import Path

import toolz
import zict

assert toolz.__version__ == "1.0.0"
assert zict.__file__.startswith("/opt/env/lib/")
assert not list(Path("/opt/env/conda-meta").glob("toolz-*")), "pip wins, and the record goes"
