import subprocess
from importlib import import_module
from importlib.resources import files

for name in ("fern", "ivy", "moss"):
    expected = f"spores of {name}\n"
    assert import_module(f"imsync_{name}").fronds == len(name)
    assert (files(f"imsync_{name}") / "spores.txt").read_text() == expected
    assert subprocess.run([f"imsync-{name}"], capture_output=True, text=True, check=True).stdout == expected
