"""Two indexes that have ``plough``, and a uv project that binds it to the private one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.indexes.index import LocalIndex
from tests.passwords import Password

PASSWORD = Password("jane.doe", "s3cret/Passw:rd@42")
"""The login of the private index."""
LOGIN = {"UV_INDEX_FARM_PRIVATE_USERNAME": PASSWORD.user, "UV_INDEX_FARM_PRIVATE_PASSWORD": PASSWORD.word}


@contextmanager
def public_index() -> Iterator[LocalIndex]:
    """Run an index with ``orchard``, which requires ``plough``."""
    with LocalIndex() as index:
        index.add_wheel("orchard", "1.0.0", requires=["plough>=1"])
        index.add_wheel("plough", "1.0.0")
        yield index


@contextmanager
def private_index() -> Iterator[LocalIndex]:
    """Run an index with a password, and another ``plough``."""
    with LocalIndex(username=PASSWORD.user, password=PASSWORD.word) as index:
        index.add_wheel("plough", "1.0.0", files={"plough_is_private.py": b""})
        yield index


def uv_manifest(public: LocalIndex, private: LocalIndex) -> str:
    """Return the ``pyproject.toml`` of a project; lines for more bound packages can be appended."""
    return f"""
[project]
name = "mine"
version = "1.0"
dependencies = ["orchard", "plough"]
[[tool.uv.index]]
name = "public"
url = "{public.url}"
default = true
[[tool.uv.index]]
name = "farm-private"
url = "{private.url}"
explicit = true
[tool.uv.sources]
plough = {{ index = "farm-private" }}
"""
