"""What build requirements were resolved to: remembered for the same question, and not for ever."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from imagesync.scan.environment import Interpreter
from imagesync.store.layout import BUILD_PINS
from imagesync.store.store import Store
from imagesync.wheels.build_requirements import FRESH, BuildPins

PYTHON = Interpreter("cpython", "3.11.2", "linux-x86_64", "cp311", "/usr/bin/python3", "/usr", "/usr")
PINS = "hatchling==1.27.0\npackaging==25.0\n"


def pins(store: Store, *, python: Interpreter = PYTHON, indexes: str = "", **environ: str) -> BuildPins:
    return BuildPins(store.root / BUILD_PINS, python=python, environ=environ, indexes=indexes)


def test_pins_of_the_same_requirements_are_recalled(store: Store) -> None:
    pins(store).remember(["hatchling", "hatch-vcs"], PINS)
    assert pins(Store(store.root)).recall(["hatch-vcs", "hatchling"]) == PINS
    assert pins(store).recall(["hatchling"]) is None


def test_pins_depend_on_index_interpreter_and_constraints(store: Store, tmp_path: Path) -> None:
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("hatchling<1.28\n")
    variables = {"UV_DEFAULT_INDEX": "https://me:secret@one.example/", "UV_CONSTRAINT": str(constraints)}
    pins(store, **variables).remember(["hatchling"], PINS)
    assert pins(store, HOME="/elsewhere", **variables).recall(["hatchling"]) == PINS
    assert pins(store).recall(["hatchling"]) is None
    assert pins(store, indexes="another", **variables).recall(["hatchling"]) is None
    other = Interpreter("cpython", "3.12.3", "linux-x86_64", "cp312", "/usr/bin/python3", "/usr", "/usr")
    assert pins(store, python=other, **variables).recall(["hatchling"]) is None
    constraints.write_text("hatchling<1.27\n")
    assert pins(store, **variables).recall(["hatchling"]) is None
    variables["UV_CONSTRAINT"] = constraints.as_uri()
    pins(store, **variables).remember(["hatchling"], PINS)
    assert pins(store, **variables).recall(["hatchling"]) == PINS
    constraints.write_text("hatchling<1.26\n")
    assert pins(store, **variables).recall(["hatchling"]) is None
    assert not any(b"secret" in path.read_bytes() for path in store.root.rglob("*") if path.is_file())


def test_pins_expire(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    pins(store).remember(["hatchling"], PINS)
    written = time.time()
    monkeypatch.setattr(time, "time", lambda: written + FRESH - 60)
    assert pins(store).recall(["hatchling"]) == PINS
    monkeypatch.setattr(time, "time", lambda: written + FRESH + 1)
    assert pins(store).recall(["hatchling"]) is None


@pytest.mark.parametrize(
    ("requirements", "frozen"),
    [
        (["backend @ file:///src/backend"], "backend @ file:///src/backend\n"),
        (["backend"], "backend @ git+https://example.com/backend@main\n"),
        (["./backend"], PINS),
    ],
)
def test_pins_with_a_file_or_url_are_not_cached(store: Store, requirements: list[str], frozen: str) -> None:
    pins(store).remember(requirements, frozen)
    assert pins(store).recall(requirements) is None
