"""docs/builders.md names each difference between the builders that a test allows."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

from tests.integration.builder_differences import (
    ALLOWED_FILES,
    ALLOWED_LABELS,
    ALLOWED_VARIABLES,
    HASHED_FILE,
)

PAGE = Path(__file__).parents[3] / "docs" / "builders.md"
# Of the packages of the test's own channel; the page says what kind of file or variable it is.
OWN = {"opt/env/share/anvil", "COMPASS_HOME", "COMPASS_MODE"}


def test_allowed_differences_are_documented() -> None:
    section = PAGE.read_text("utf-8").partition("## What differs from the Dockerfile's image\n")[2]
    named = set(re.findall(r"`([^`\n]+)`", section.partition("\n## ")[0]))
    files = {name for pattern in ALLOWED_FILES for name in _names(pattern)}
    wanted = ({HASHED_FILE, *files, *ALLOWED_LABELS, *ALLOWED_VARIABLES}) - OWN
    missing = {each for each in wanted if not any(fnmatchcase(each, name) for name in named)}
    assert missing == set()


def _names(pattern: str) -> set[str]:
    r"""Return the names of files that a pattern is for.

    >>> sorted(_names(r".*\.dist-info/(INSTALLER|REQUESTED)"))
    ['INSTALLER', 'REQUESTED']
    """
    plain = pattern.removeprefix(r".*\.dist-info/").replace("\\", "")
    if plain.startswith("("):
        return set(plain.strip("()").split("|"))
    return {plain.partition("(")[0]}
