"""Order of conda packages for tools that link them line by line."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from imagesync.lock.conda.locked_records import external_record, topological_order


def ordered(depends: Mapping[str, Sequence[str]]) -> list[str]:
    from dataclasses import replace

    packages = [replace(external_record(name, "1.0"), depends=tuple(d)) for name, d in depends.items()]
    random.Random(len(packages)).shuffle(packages)
    return [package.name for package in topological_order(packages)]


def test_dependencies_come_before_the_package() -> None:
    depends = {
        "aaa": ["python >=3.9", "zzz"],
        "python": ["openssl >=3,<4.0a0", "tzdata"],
        "openssl": [],
        "tzdata": [],
        "zzz": ["python>=3", "__glibc >=2.17", "elsewhere"],
    }
    found = ordered(depends)
    assert found == ["openssl", "tzdata", "python", "zzz", "aaa"]
    assert ordered(dict(reversed(depends.items()))) == found


def test_python_comes_before_what_it_needs_and_what_needs_it() -> None:
    depends = {"pip": ["python", "setuptools", "wheel"], "python": ["pip", "zlib"], "zlib": []}
    depends |= {"setuptools": ["python"], "wheel": ["python"]}
    found = ordered(depends)
    assert found[:2] == ["zlib", "python"]
    assert found[-1] == "pip"


def test_cycles_end_and_lose_nothing() -> None:
    depends = {"a": ["b", "c"], "b": ["c"], "c": ["a"], "d": ["a", "e"], "e": ["d"], "f": ["f"]}
    assert sorted(ordered(depends)) == sorted(depends)


def test_long_chains_have_an_order() -> None:
    depends = {f"p{i}": [f"p{i + 1}"] for i in range(3000)} | {"p3000": []}
    assert ordered(depends) == [f"p{i}" for i in range(3000, -1, -1)]
