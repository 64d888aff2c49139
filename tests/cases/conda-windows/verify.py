import importlib.metadata
import platform
from pathlib import Path

import markupsafe

assert platform.system() == "Linux"
assert markupsafe.escape("<") == "&lt;"
assert importlib.metadata.version("click")
assert importlib.metadata.version("trellis") == "1.4.5"
records = {path.name.rsplit("-", 2)[0] for path in Path("/opt/env/conda-meta").glob("*.json")}
assert not records & {"pywin32", "ucrt", "vc", "vs2015_runtime"}
