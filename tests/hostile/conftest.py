"""What the hostile tests share: how much they try, and the figures of what held."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.hostile.servers import World, make_world
from tests.integration.conftest import (  # noqa: F401  fixtures
    base_python,
    dask_cluster,
    dask_project,
    engine,
    root_image,
)

# `make hostile` tries more, and other things each time; `make test` the same few each time.
IS_CAMPAIGN: Final = os.environ.get("IMAGESYNC_HOSTILE") == "campaign"
EXAMPLES: Final = int(os.environ.get("IMAGESYNC_HOSTILE_EXAMPLES", "120" if IS_CAMPAIGN else "10"))
settings.register_profile(
    "hostile",
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=not IS_CAMPAIGN,
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
# On a busy machine what would come after this is left out, and counted.
SECONDS: Final = float(os.environ.get("IMAGESYNC_HOSTILE_SECONDS", "1560"))
_BEGAN: Final = time.monotonic()
_TRIED: Final[Counter[str]] = Counter()
_LEFT_OUT: Final[list[str]] = []


@pytest.fixture(scope="session")
def tried() -> Callable[[str], None]:
    """Return a function that counts a trial of a kind."""

    def count(kind: str) -> None:
        _TRIED[kind] += 1

    return count


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Return servers with faults, and an image that was pushed by them; who adds a fault ends it."""
    with make_world(tmp_path_factory.mktemp("world")) as made:
        yield made


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave what takes minutes to campaigns."""
    if not IS_CAMPAIGN:
        left_out = [item for item in items if item.get_closest_marker("campaign")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Leave out what a campaign has no time for."""
    if IS_CAMPAIGN and time.monotonic() - _BEGAN > SECONDS:
        _LEFT_OUT.append(item.name)
        return True
    return None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how often each kind was tried. What didn't hold is a failure, and stops its kind."""
    if _TRIED:
        terminalreporter.section("hostile inputs: kind, tried")
        for kind, number in sorted(_TRIED.items()):
            terminalreporter.line(f"{number:7} {kind}")
        terminalreporter.line(f"{sum(_TRIED.values()):7} in all")
    if _LEFT_OUT:
        terminalreporter.line(f"{len(_LEFT_OUT):7} tests left out after {SECONDS:.0f} s")
    if figures := os.environ.get("IMAGESYNC_HOSTILE_FIGURES"):
        Path(figures).write_text(json.dumps({"tried": _TRIED, "left_out": _LEFT_OUT}))
