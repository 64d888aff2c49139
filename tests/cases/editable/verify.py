import subprocess
from importlib.metadata import distribution

import orchard

assert orchard.count() == 3
assert orchard.__file__.startswith("/opt/env/"), orchard.__file__
assert distribution("orchard").version == "1.2"
assert subprocess.run(["orchard-count"], capture_output=True, text=True, check=True).stdout == "3\n"
