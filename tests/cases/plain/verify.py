import subprocess

import msgpack
import msgpack._cmsgpack
import toolz

assert toolz.__version__ == "1.0.0"
assert msgpack.unpackb(msgpack.packb({"a": [1, 2]})) == {"a": [1, 2]}
assert subprocess.run(["pygmentize", "-V"], capture_output=True, text=True, check=True).stdout
