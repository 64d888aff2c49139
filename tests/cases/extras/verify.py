from importlib.metadata import version
from importlib.util import find_spec

import requests
import socks

assert socks.SOCKS5
assert version("toolz") == "0.12.1"
assert requests.__version__ == "2.32.5"
assert find_spec("pygments") is None
