"""Imports each project, reads its data, and calls its entry point; names all that fail."""

import importlib
import subprocess
from importlib.metadata import version

PROJECTS = {
    "by-flit": "by_flit",
    "by-hatchling": "by_hatchling",
    "by-pdm": "by_pdm",
    "by-poetry": "by_poetry",
    "by-setuptools": "by_setuptools",
    "garden-herbs": "garden.herbs",
    "garden-roots": "garden.roots",
}


def check(name, module):
    assert importlib.import_module(module).__file__.startswith("/opt/env/"), "it's imported from elsewhere"
    assert version(name) == "1.2.3", version(name)
    said = subprocess.run([name], capture_output=True, text=True, check=True).stdout
    assert said.strip() == f"data of {name}", said


failures = []
for name, module in PROJECTS.items():
    try:
        check(name, module)
    except Exception as error:
        failures.append(f"{name}: {error!r}")
assert not failures, failures

import garden

assert getattr(garden, "__file__", None) is None, "a namespace package has no file of its own"
