"""A real package index on this machine, for tests: :class:`LocalIndex`."""

from tests.indexes.index import Fault, LocalIndex, Request
from tests.indexes.proxy import CountingProxy
from tests.indexes.wheels import make_sdist, make_wheel

__all__ = ["CountingProxy", "Fault", "LocalIndex", "Request", "make_sdist", "make_wheel"]
