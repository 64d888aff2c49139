import subprocess
from importlib.metadata import version
from importlib.resources import files

import meadow

assert meadow.flowers == ("clover", "daisy")
assert version("meadow") == "2.0.1"
assert (files(meadow) / "soil.txt").read_text() == "clay\n"
assert subprocess.run(["meadow-soil"], capture_output=True, text=True, check=True).stdout == "clay\n"
