import importlib.util
import os
from pathlib import Path

import rake
import shed
import spade

assert shed.inventory() == ["hoe", "scythe"]
assert spade.handles() == 3
assert rake.teeth == 14
for module in (rake, shed, spade):
    assert module.__file__.startswith("/opt/env/code/"), module.__file__
    assert Path(module.__cached__).exists(), "compiled in the build"
    assert not os.access(module.__file__, os.W_OK)
assert importlib.util.find_spec("forgotten") is None
assert not Path("/opt/env/code/.env").exists()
