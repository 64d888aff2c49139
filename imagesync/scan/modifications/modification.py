"""The values of a comparison of installed files with what the installers recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from imagesync.core.digests import sha256_of_json
from imagesync.core.text import first_of
from imagesync.scan.environment import Manager

UnownedKind = Literal["pth", "startup", "file"]

_SHOWN = 3


@dataclass(frozen=True)
class Modification:
    """The files of a package that differ from what its installer recorded.

    Paths are relative to the package's folder on ``sys.path``, or to the prefix for a conda package.

    Parameters
    ----------
    name
        Canonical, or the conda name.
    edited, added
        Paths, each with the sha256 of the file in hexadecimal.
    missing
        Paths of deleted files.
    generated
        Those of *edited* and *missing* that installers generate, so that no wheel holds them: commands.
    """

    name: str
    manager: Manager
    edited: Mapping[str, str] = field(default_factory=dict)
    added: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    generated: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Return ``sha256:<hex>`` over what differs."""
        content = {"edited": dict(self.edited), "added": dict(self.added), "missing": sorted(self.missing)}
        return sha256_of_json(content)

    @property
    def only_generated(self) -> bool:
        """Return True if nothing differs but files that installers generate."""
        return not self.added and {*self.edited, *self.missing} == {*self.generated}

    @property
    def summary(self) -> str:
        """Return the differences as a phrase.

        >>> Modification("demo", "pip", {"demo/a.py": "00"}, {}, ("demo/b.py", "demo/c.py")).summary
        'demo/a.py was edited, demo/b.py, demo/c.py were deleted'
        """
        groups = ((self.edited, "edited"), (self.added, "added"), (self.missing, "deleted"))
        return ", ".join(
            f"{shown(sorted(paths))} {'was' if len(paths) == 1 else 'were'} {verb}"
            for paths, verb in groups
            if paths
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the modification as documented JSON."""
        return {**asdict(self), **{key: list(getattr(self, key)) for key in ("missing", "generated")}}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Modification:
        """Return the modification of its JSON form."""
        lists = {key: tuple(document[key]) for key in ("missing", "generated")}
        return cls(**{**document, **lists})


@dataclass(frozen=True)
class Unowned:
    """A file that belongs to no package.

    Parameters
    ----------
    kind
        ``pth`` for a ``.pth`` file with code, ``startup`` for ``sitecustomize`` and ``usercustomize``.
    """

    path: str
    kind: UnownedKind = "file"


@dataclass(frozen=True)
class Modifications:
    """The differences from the records of the installers.

    Parameters
    ----------
    packages
        Changed packages of pip and of conda, sorted by manager and name.
    provided
        Distributions of conda packages whose files differ from their RECORD, by canonical name. Such a RECORD
        may never have been right: a conda package counts as changed only by conda's own list.
    unowned
        Files that belong to no package, sorted by path.
    modules
        Modules and regular packages beside installed packages that belong to none, sorted by path.
    """

    packages: tuple[Modification, ...] = ()
    provided: Mapping[str, Modification] = field(default_factory=dict)
    unowned: tuple[Unowned, ...] = ()
    modules: tuple[str, ...] = ()

    def find(self, manager: Manager, name: str) -> Modification | None:
        """Return the modification of a package, or ``None`` if it is as it was installed."""
        found = (each for each in self.packages if (each.manager, each.name) == (manager, name))
        return next(found, None)

    def to_dict(self) -> dict[str, Any]:
        """Return the modifications as JSON."""
        return {
            "packages": [each.to_dict() for each in self.packages],
            "provided": [each.to_dict() for each in self.provided.values()],
            "unowned": [[each.path, each.kind] for each in self.unowned],
            "modules": list(self.modules),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Modifications:
        """Return the modifications of their JSON form."""
        provided = map(Modification.from_dict, document["provided"])
        return cls(
            tuple(map(Modification.from_dict, document["packages"])),
            {each.name: each for each in provided},
            tuple(Unowned(path, kind) for path, kind in document["unowned"]),
            tuple(document["modules"]),
        )


def shown(paths: list[str]) -> str:
    """Return the first of *paths*, and the number of the others."""
    # From site-packages, ../../../bin/name leads to bin/name of the environment.
    return first_of([path.replace("../", "") for path in paths], _SHOWN)
