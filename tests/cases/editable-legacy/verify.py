from importlib.metadata import version

import cellar

assert cellar.bottles == 2
assert cellar.__file__.startswith("/opt/env/"), cellar.__file__
assert version("cellar") == "0.3"
