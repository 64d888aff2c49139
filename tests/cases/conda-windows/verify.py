import importlib.metadata
import json
import platform
from pathlib import Path

import markupsafe

assert platform.system() == "Linux"
assert markupsafe.escape("<") == "&lt;"
assert importlib.metadata.version("click")
# The build of click for Windows is another one, of the same version.
(click,) = Path("/opt/env/conda-meta").glob("click-*.json")
assert "__unix" in json.loads(click.read_text())["depends"]
assert importlib.metadata.version("trellis") == "1.4.5"
records = {path.name.rsplit("-", 2)[0] for path in Path("/opt/env/conda-meta").glob("*.json")}
assert not records & {"pywin32", "ucrt", "vc", "vs2015_runtime"}
