"""The values of a lock: the exact artifact of each package for one target.

``to_dict`` and ``from_dict`` are the JSON form of a lock (``docs/json.md``), for output, labels and caches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from imagesync.core.digests import sha256_of, sha256_of_json
from imagesync.core.names import Level
from imagesync.core.notebook import NotebookValue, Table
from imagesync.core.platforms import Platform, find_platform
from imagesync.core.text import counted, format_size
from imagesync.lock.locked_packages import LockedConda, LockedPackage, VendoredPackage
from imagesync.plan.plan import PlannedConda, PlannedPackage
from imagesync.scan.environment import Manager

if TYPE_CHECKING:
    from packaging.utils import NormalizedName


@dataclass(frozen=True)
class Target:
    """The platform and interpreter of the image, which artifacts must fit.

    Parameters
    ----------
    platform
        That of the image.
    python_version
        Of the image's interpreter, with the patch level, such as ``3.12.3``.
    glibc
        Of the base image, such as ``(2, 39)``.
    implementation
        Of the interpreter; always ``cpython``.
    """

    platform: Platform
    python_version: str
    glibc: tuple[int, int]
    implementation: str = "cpython"

    @property
    def minor(self) -> str:
        """Return the feature version, such as ``3.12``."""
        return ".".join(self.python_version.split(".")[:2])

    def to_dict(self) -> dict[str, Any]:
        """Return the target as documented JSON."""
        return {**asdict(self), "platform": self.platform.name, "glibc": list(self.glibc)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Target:
        """Return the target of its JSON form."""
        major, minor = document["glibc"]
        platform = find_platform(document["platform"])
        if platform is None:
            raise ValueError(f"no platform of images: {document['platform']}")
        return cls(**{**document, "platform": platform, "glibc": (major, minor)})


@dataclass(frozen=True)
class Deviation:
    """A package whose version in the image differs from the local one, with the reason.

    Parameters
    ----------
    name
        Canonical for a Python distribution; the conda name of a conda package.
    local
        The local version; empty for a package that isn't installed here.
    locked
        The version in the image; empty for a package that no channel has for the image's platform.
    level
        The level of the package.
    reason
        The reason, for the user.
    manager
        ``pip`` or ``conda``.
    requested
        Whether the user requested the package; ``None`` if nothing records it.
    """

    name: NormalizedName | str
    local: str
    locked: str
    level: Level
    reason: str
    manager: Manager = "pip"
    requested: bool | None = None

    @property
    def left_out(self) -> bool:
        """Return True if the image doesn't get the package."""
        return not self.locked

    @property
    def weight(self) -> tuple[bool, str]:
        """Return the sort key of deviations: requested packages that are left out come first."""
        return not (self.left_out and self.requested), self.name

    @property
    def outcome(self) -> str:
        """Return what the image has: a version, or in words that it has the same one or none."""
        if self.left_out:
            return "left out"
        return "the same version" if self.local == self.locked else self.locked

    @property
    def change(self) -> str:
        """Return the local version and what the image has as a phrase."""
        if self.local == self.locked:
            return f"{self.local} (same version)"
        requested = ", though you asked for it" if self.left_out and self.requested else ""
        return f"{self.local or 'not installed here'} -> {self.outcome}{requested}"

    @property
    def message(self) -> str:
        """Return the deviation as a line for the user."""
        return f"differs: {self.name} {self.change}: {self.reason}"

    def to_dict(self) -> dict[str, Any]:
        """Return the deviation as documented JSON."""
        return {**asdict(self), "level": self.level.value}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Deviation:
        """Return the deviation of its JSON form.

        Raises
        ------
        LookupError, TypeError, ValueError
            It is malformed.
        """
        deviation = cls(**{**document, "level": Level(document["level"])})
        texts = (deviation.name, deviation.local, deviation.locked, deviation.reason, deviation.manager)
        if not all(isinstance(text, str) for text in texts):
            raise TypeError
        return deviation


def deviation_table(deviations: Iterable[Deviation]) -> Table:
    """Return the table of deviations, open if there is one."""
    rows = [(each.name, each.local, each.outcome, each.level.value, each.reason) for each in deviations]
    return Table(
        f"{counted(len(rows), 'package')} not as here",
        ("package", "here", "in the image", "level", "reason"),
        rows,
        ["warning"] * len(rows),
        is_open=True,
    )


@dataclass(frozen=True, repr=False)
class Lock(NotebookValue):
    """The exact content of an image.

    Parameters
    ----------
    target
        The platform and interpreter of the image.
    packages, vendored
        Packages from indexes, and packages made on this machine: sorted by canonical name, disjoint.
    deviations
        Differences from the local environment.
    resolver
        ``uv`` or ``pip-tools``.
    conda
        Sorted by conda name. If Python is among them, it is the image's interpreter.
    channels
        URLs of the conda channels without credentials, the preferred one first.
    """

    target: Target
    packages: tuple[LockedPackage, ...]
    vendored: tuple[VendoredPackage, ...] = ()
    deviations: tuple[Deviation, ...] = ()
    resolver: Literal["uv", "pip-tools"] = "uv"
    conda: tuple[LockedConda, ...] = ()
    channels: tuple[str, ...] = ()

    def _summary(self) -> str:
        target = f"{self.target.platform}, Python {self.target.python_version}"
        parts = [counted(len(self.conda), "conda package")] if self.conda else []
        parts += [f"{len(self.packages)} from indexes", f"{len(self.vendored)} made here"]
        if self.deviations:
            parts.append(f"{len(self.deviations)} not as here")
        return f"{self.digest[:19]} for {target}: {', '.join(parts)}"

    def _tables(self) -> Iterator[Table]:
        yield deviation_table(self.deviations)
        local = [(p.name, p.version, p.planned.source.description, p.repacked) for p in self.vendored]
        title = f"{counted(len(local), 'package')} made on this machine"
        yield Table(title, ("package", "version", "source", "repacked"), local)
        conda = [(p.name, p.version, p.build, p.channel, _size(p.artifact.size)) for p in self.conda]
        title = counted(len(conda), "conda package")
        yield Table(title, ("package", "version", "build", "channel", "size"), conda)
        files = [(p.name, p.version, p.artifact.filename, _size(p.artifact.size)) for p in self.packages]
        title = f"{counted(len(files), 'package')} from indexes"
        yield Table(title, ("package", "version", "file", "size"), files)

    @property
    def repacked(self) -> tuple[VendoredPackage, ...]:
        """Return the packages of an index that are made from their installed files."""
        return tuple(package for package in self.vendored if package.repacked)

    def repacked_to_list(self) -> list[dict[str, str]]:
        """Return the repacked packages as documented JSON: name, version, content and reason of each."""
        return [
            {"name": p.name, "version": p.version, "content": p.content, "reason": p.repacked}
            for p in self.repacked
        ]

    @property
    def digest(self) -> str:
        """Return ``sha256:<hex>`` over the locked content."""
        content = {
            "target": self.target.to_dict(),
            "packages": [[p.name, p.version, p.artifact.filename, p.artifact.digest] for p in self.packages],
            "vendored": [[p.name, p.version, p.content] for p in self.vendored],
            "conda": [
                [p.name, p.version, p.build, p.artifact.filename, p.artifact.digest] for p in self.conda
            ],
        }
        return sha256_of_json(content)

    @property
    def artifacts_digest(self) -> str:
        """Return ``sha256:<hex>`` over the artifacts from indexes and channels.

        It is empty if the digest of one isn't known, as in lock files of other tools.
        """
        digests = [package.artifact.digest for package in self.packages]
        digests += [package.artifact.digest for package in self.conda]
        if not all(digests):
            return ""
        return sha256_of("\n".join(sorted(digests)))

    def to_dict(self) -> dict[str, Any]:
        """Return the lock as documented JSON (``docs/json.md``)."""
        return {
            "digest": self.digest,
            "resolver": self.resolver,
            "target": self.target.to_dict(),
            "channels": list(self.channels),
            "conda": [package.to_dict() for package in self.conda],
            "packages": [package.to_dict() for package in self.packages],
            "vendored": [package.to_dict() for package in self.vendored],
            "deviations": [deviation.to_dict() for deviation in self.deviations],
        }

    @classmethod
    def from_dict(
        cls,
        document: Mapping[str, Any],
        *,
        planned: Mapping[NormalizedName, PlannedPackage] | None = None,
        planned_conda: Mapping[str, PlannedConda] | None = None,
    ) -> Lock:
        """Return the lock of its JSON form.

        Parameters
        ----------
        document
            The result of :meth:`to_dict`; further keys are ignored.
        planned, planned_conda
            The planned packages by name; a vendored package must be among them. ``None`` derives them from
            *document*.

        Raises
        ------
        LookupError, TypeError, ValueError
            The document isn't a lock, or a vendored package isn't planned.
        """
        conda = planned_conda or {}
        return cls(
            target=Target.from_dict(document["target"]),
            packages=tuple(map(LockedPackage.from_dict, document["packages"])),
            vendored=tuple(
                VendoredPackage.from_dict(entry, None if planned is None else planned[entry["name"]])
                for entry in document["vendored"]
            ),
            deviations=tuple(map(Deviation.from_dict, document["deviations"])),
            resolver=document["resolver"],
            conda=tuple(
                LockedConda.from_dict(entry, conda.get(entry["name"])) for entry in document.get("conda", ())
            ),
            channels=tuple(document.get("channels", ())),
        )


def _size(size: int | None) -> str:
    return "" if size is None else format_size(size)
