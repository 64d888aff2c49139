import subprocess
from importlib.resources import files

import brook
import pond

assert brook.depth == "1.0"
assert pond.depth == "3.0"
for name in ("brook", "pond"):
    expected = f"trout of the {name}\n"
    assert (files(name) / "fish.txt").read_text() == expected
    assert subprocess.run([f"{name}-fish"], capture_output=True, text=True, check=True).stdout == expected
