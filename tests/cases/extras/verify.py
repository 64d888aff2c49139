from importlib.metadata import version
from importlib.util import find_spec

import socks

assert socks.SOCKS5
assert version("toolz") == "0.12.1"
assert version("requests") == "2.32.5"
assert find_spec("certifi") is None
