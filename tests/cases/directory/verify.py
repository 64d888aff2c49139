from importlib.metadata import version

import meadow

assert meadow.flowers == ("clover", "daisy")
assert version("meadow") == "2.0.1"
