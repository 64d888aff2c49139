"""Changed modules in a process: imported anew, unless other code refers to what they made."""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesync.standalone.cluster.imports import refresh

# What modules begin with, and share with each other.
HEADERS = (
    "import os, sys, re, json",
    "import logging\nlogger = logging.getLogger(__name__)\nhandlers = logging.root.handlers",
    "from typing import Any, Callable, Optional, TypeVar, Union\nMaybe = Optional[int]\nT = TypeVar('T')",
    "import os\nenviron = os.environ\nstdout_encoding = 'utf-8'",
    "from os import environ, path",
    "from collections import OrderedDict, namedtuple\nPoint = namedtuple('Point', 'x y')",
    "from dataclasses import dataclass, field, MISSING\n@dataclass\nclass Row:\n    x: int = 0",
    "import enum\nclass Colour(enum.Enum):\n    RED = 1",
    "from functools import lru_cache, partial\n@lru_cache\ndef cached():\n    return 1",
    "import threading\nlock = threading.Lock()",
    "import warnings\nwarnings.filterwarnings('ignore', module='nowhere')",
    "from pathlib import Path\nHERE = Path(__file__)",
    "import abc\nclass Base(abc.ABC):\n    @abc.abstractmethod\n    def f(self): ...",
    "from distributed import get_client, worker_client\nimport dask",
    "import contextlib, itertools\ncounter = itertools.count()",
)
_names = (f"hawthorn{number}" for number in itertools.count())


class Package:
    """A package in two versions, the first of which is imported."""

    def __init__(self, folder: Path, name: str, header: str) -> None:
        self.name = name
        self.folders = [folder / f"{name}-{version}" for version in (1, 2)]
        for version, path in enumerate(self.folders, start=1):
            (path / name).mkdir(parents=True)
            (path / name / "__init__.py").write_text(f"{header}\nfrom {name}.inside import pick, Basket\n")
            (path / name / "inside.py").write_text(
                f"{header}\ndef pick():\n    return {version}\nclass Basket:\n    pass\n"
            )
        self.module = self._imported(self.folders[0])

    def edit(self) -> None:
        sys.path.insert(0, str(self.folders[1]))

    def picked(self) -> object:
        return importlib.import_module(self.name).pick()

    def _imported(self, folder: Path) -> ModuleType:
        sys.path.insert(0, str(folder))
        return importlib.import_module(self.name)


@pytest.fixture
def clean() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith(("hawthorn", "user_of")):
            del sys.modules[name]


Make = Callable[[str], Package]


@pytest.fixture
def make(tmp_path: Path, clean: None) -> Make:
    """Return a factory of packages with names of their own, by their modules' first lines."""
    return lambda header: Package(tmp_path, next(_names), header)


# Few and long ones: each looks through all objects of this process.
@settings(max_examples=6)
@given(headers=st.lists(st.sampled_from(HEADERS), min_size=3, max_size=10, unique=True))
def test_usual_first_lines_of_modules_hold_nothing(
    headers: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    header = "\n".join(["from __future__ import annotations", *headers])
    path = list(sys.path)
    package = Package(tmp_path_factory.mktemp("p"), next(_names), header)
    # Another module of the same header, as there are many in a worker.
    namesake = sys.modules["user_of_nothing"] = ModuleType("user_of_nothing")
    try:
        exec(header.replace("__file__", "''"), vars(namesake))
        assert package.picked() == 1
        package.edit()
        assert refresh([package.name], [package.name]) == {}
        assert package.picked() == 2
    finally:
        sys.path[:] = path
        del sys.modules["user_of_nothing"]


@pytest.mark.parametrize(
    "line",
    [
        "import {name}",
        "import {name}.inside as other",
        "from {name} import pick",
        "from {name}.inside import Basket",
        "from {name} import Basket\nbasket = Basket()\ndel Basket",
        "from {name} import pick\nimport functools\npart = functools.partial(pick)\ndel pick",
        "from {name} import pick\nimport functools\ncached = functools.lru_cache(pick)\ndel pick",
    ],
)
def test_modules_that_refer_to_a_package_hold_it(make: Make, line: str) -> None:
    package = make("")
    user = ModuleType("user_of_it")
    exec(line.format(name=package.name), vars(user))
    sys.modules["user_of_it"] = user
    package.edit()
    held = refresh([package.name], [package.name])
    assert "used by user_of_it" in held[package.name]
    assert package.picked() == 1


def test_local_code_that_uses_a_package_is_imported_anew_with_it(make: Make) -> None:
    package, user = make(""), make("")
    vars(user.module)["pick_of_other"] = package.module.pick
    package.edit()
    assert refresh([package.name], [package.name, user.name]) == {}
    assert package.picked() == 2
    assert user.name not in sys.modules


def test_package_in_use_leaves_the_others_alone(make: Make) -> None:
    held, free = make(""), make("")
    vars(sys)["hawthorn_user"] = held.module.pick
    try:
        for package in (held, free):
            package.edit()
        assert refresh([held.name, free.name], []) == {held.name: "used by sys"}
    finally:
        del vars(sys)["hawthorn_user"]
    assert (held.picked(), free.picked()) == (1, 2)


def test_objects_of_old_classes_hold_their_package(make: Make) -> None:
    package = make("")
    baskets = [package.module.Basket()]
    package.edit()
    assert refresh([package.name], []) == {package.name: "objects of its classes are in memory: 1"}
    assert refresh([package.name], [], forced=True) == {
        package.name: "objects of its classes are in memory: 1"
    }
    assert package.picked() == 2
    del baskets


def test_reason_names_three_users_and_counts_the_others(make: Make) -> None:
    package = make("")
    for number in range(9):
        user = sys.modules[f"user_of_{number}"] = ModuleType(f"user_of_{number}")
        vars(user)["pick"] = package.module.pick
    package.edit()
    assert refresh([package.name], []) == {package.name: "used by user_of_0, user_of_1, user_of_2 and 6 more"}
