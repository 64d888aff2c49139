"""Imports each project, calls its extension module, reads its data; names all that fail."""

import importlib
import subprocess
from importlib.machinery import EXTENSION_SUFFIXES

failures = []
for name in ("by-ext", "by-meson", "by-scikit"):
    try:
        module = importlib.import_module(name.replace("-", "_"))
        assert module._sum.__file__.endswith(EXTENSION_SUFFIXES[0]), module._sum.__file__
        assert module._sum.__file__.startswith("/opt/env/"), module._sum.__file__
        said = subprocess.run([name], capture_output=True, text=True, check=True).stdout
        assert said == f"data of {name} 5\n", said
    except Exception as error:
        failures.append(f"{name}: {error!r}")
assert not failures, failures
