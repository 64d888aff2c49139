import subprocess
from importlib.metadata import version

import cellar

assert cellar.bottles == 2
assert cellar.__file__.startswith("/opt/env/"), cellar.__file__
assert version("cellar") == "0.3"
assert subprocess.run(["cellar-count"], capture_output=True, text=True, check=True).stdout == "2\n"
