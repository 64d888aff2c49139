"""Which part goes in which layer: places that are fixed, and independent of each other.

A new version of one package rewrites the layer of its place and the small last one. So a place follows from
the package's name, kind and size alone, never from how many others there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

LARGE: Final = 40_000_000
"""Archives of at least this size, in bytes, get a layer of their own, as far as there are places."""
FEWEST_LAYERS: Final = 4
"""The interpreter, all packages, the user's files, and what is generated; the system layer excluded."""
_MOST_LOCAL: Final = 3

Kind = Literal["interpreter", "conda", "pip", "local", "code", "files", "generated"]
_ORDER: Final = ("interpreter", "large", "conda", "pip", "local", "code", "files", "generated")


@dataclass(frozen=True)
class Package:
    """What the place of a part follows from.

    Parameters
    ----------
    name
        Canonical, and unique among those of its kind.
    kind
        Where it comes from.
    size
        Of its archive, in bytes.
    is_native
        Whether it is for certain platforms.
    """

    name: str
    kind: Kind
    size: int = 0
    is_native: bool = False


@dataclass(frozen=True)
class Places:
    """The number of places for each kind of package.

    Parameters
    ----------
    large
        Layers of one large package.
    native, pure
        Layers of packages for certain platforms, and of others, for each of *managers*.
    local
        Layers of local packages; without any they are among those of pip.
    managers
        2 if conda's packages and pip's have layers of their own.
    code
        Whether loose code has a layer of its own; else it is with the generated files.
    """

    large: int
    native: int
    pure: int
    local: int = _MOST_LOCAL
    managers: int = 1
    code: bool = True


def places_for(budget: int, *, conda: bool) -> Places:
    """Return the places in *budget* layers; the interpreter, local packages and others have theirs already.

    Parameters
    ----------
    budget
        The most layers on top of the base's, the system layer excluded; at least :data:`FEWEST_LAYERS`.
    conda
        Whether the interpreter is conda's, so that there may be packages of both.

    >>> places_for(30, conda=False)
    Places(large=7, native=8, pure=8, local=3, managers=1, code=True)
    >>> places_for(4, conda=True)
    Places(large=0, native=1, pure=0, local=0, managers=1, code=False)
    """
    # Interpreter, files of the user's, generated files, and loose code where there is room for it.
    is_small = budget < 4 + _MOST_LOCAL + 2
    local = min(budget - FEWEST_LAYERS, 1) if is_small else _MOST_LOCAL
    free = budget - local - (3 if is_small else 4)
    managers = 2 if conda and free > 1 else 1
    large = free // 3
    native = max((free - large + managers) // (2 * managers), 1) if free - large >= 2 * managers else 1
    pure = (free - large) // managers - native
    return Places(large, native, max(pure, 0), local, managers, not is_small)


def group(packages: Iterable[Package], *, budget: int, conda: bool) -> list[tuple[str, list[Package]]]:
    """Return the layers as a name and packages for each, from the one that changes least to the last one.

    Parameters
    ----------
    packages
        In any order; the result doesn't depend on it.
    budget, conda
        As for :func:`places_for`.
    """
    ordered = sorted(packages, key=lambda package: (package.kind, package.name))
    places = places_for(budget, conda=conda)
    own = _large(ordered, places.large)
    local = sum(package.kind == "local" for package in ordered)
    found: dict[tuple[int, str], list[Package]] = {}
    for package in ordered:
        label = (
            f"large {package.name}"
            if package.kind != "local" and (package.kind, package.name) in own
            else _place(package, places, local)
        )
        found.setdefault((_ORDER.index(label.split()[0]), label), []).append(package)
    return [(_title(label), found[order, label]) for order, label in sorted(found)]


def _large(packages: Iterable[Package], places: int) -> set[tuple[str, str]]:
    """Return kind and name of the packages with a layer of their own.

    They are ordered by powers of two of their sizes, so that a new version of one seldom moves another.
    """
    large = [p for p in packages if p.size >= LARGE and p.kind in ("conda", "pip")]
    large.sort(key=lambda package: (-(package.size // LARGE).bit_length(), package.kind, package.name))
    return {(package.kind, package.name) for package in large[:places]}


def _place(package: Package, places: Places, local: int) -> str:
    if package.kind == "local" and places.local:
        return f"local {package.name}" if local <= places.local else "local"
    if package.kind == "code" and not places.code:
        return "generated"
    if package.kind not in ("conda", "pip", "local"):
        return package.kind
    kind = package.kind if places.managers > 1 else "pip"
    is_native = package.is_native or not places.pure
    count = places.native if is_native else places.pure
    bucket = int.from_bytes(hashlib.sha256(package.name.encode()).digest()[:8], "big") % count
    return f"{kind} {'native' if is_native else 'pure'} {bucket:02}"


def _title(label: str) -> str:
    first, _, rest = label.partition(" ")
    titles = {
        "interpreter": "",
        "large": "",
        "local": "local packages" if not rest else "local package",
        "code": "",
        "files": "",
        "generated": "",
    }
    if first in titles:
        return titles[first]
    return f"{first} packages for {'this platform' if rest.startswith('native') else 'all platforms'}"
