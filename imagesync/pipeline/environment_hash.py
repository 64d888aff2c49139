"""The environment hash: one digest over what the image of an environment holds, which gives it its name.

Environments with the same content have one image, whoever builds it, with whichever settings: levels,
specifiers, strictness and the resolver don't count, nor do times, local paths or order. ``docs/hashes.md``
says which input counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from imagesync.core.digests import sha256_of_json
from imagesync.core.platforms import runs_on
from imagesync.plan.plan import Plan, PlannedPackage

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.lock.lock import Lock

# Increase this when the same content gives another image than before, so that no older image is found for it.
FORMAT_VERSION: Final = 3
PACKAGES_FORMAT_VERSION: Final = 3
INDEX_FORMAT_VERSION: Final = 1

# Versions that PEP 440 leaves as they are; packaging normalises the rest.
_NORMAL_VERSION = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*")


class BaseInputs(NamedTuple):
    """The inputs that all hashes cover besides the environment and the settings.

    Parameters
    ----------
    base_hash
        The hash of the base image's inputs: root image digest, ``Dockerfile.base``, apt packages.
    templates_digest
        ``sha256:<hex>`` over the templates, the user's own included, and the programs of a build.
    python_version
        The version of the base image's interpreter with its patch level; empty if it isn't known.
    """

    base_hash: str
    templates_digest: str
    python_version: str = ""


@dataclass(frozen=True)
class EnvironmentContent:
    """The content of an image, in the detail that the environment hash covers.

    Parameters
    ----------
    platform
        ``linux/amd64``.
    interpreter
        Its origin, ``base`` or ``conda``, and its full version.
    packages
        Name, version and source kind of each package from an index, also of those in *modified*.
    conda
        Name, version, build and subdirectory of each conda package. An interpreter that only replaces the
        base image's isn't among them, nor what it depends on.
    wheels
        By name of a local package, the digest of the files and metadata in its wheel.
    code
        The digest of loose code; empty without any.
    base
        The base image, the templates, and the programs of a build.
    modified
        By name of a package that its index would have, the digest of the installed files that the image has
        in its place: it was built on this machine, or no index has it. The digest is that of
        :attr:`~imagesync.lock.lock.VendoredPackage.content`. Changed packages are among *wheels*.
    options
        The digest of :class:`~imagesync.image_layout.ImageOptions`; empty for the defaults.
    """

    platform: str
    interpreter: tuple[str, str]
    packages: tuple[tuple[str, str, str], ...]
    conda: tuple[tuple[str, str, str, str], ...]
    wheels: Mapping[str, str]
    code: str
    base: BaseInputs
    modified: Mapping[str, str] = field(default_factory=dict)
    options: str = ""

    @property
    def digest(self) -> str:
        """Return the environment hash, ``sha256:<hex>`` over the canonical JSON form."""
        return sha256_of_json(
            {
                "format": FORMAT_VERSION,
                "platform": self.platform,
                "interpreter": self.interpreter,
                "packages": sorted(self.packages),
                "conda": sorted(self.conda),
                "wheels": dict(self.wheels),
                "modified": dict(self.modified),
                "code": self.code,
                "options": self.options,
                "base": self.base.base_hash,
                "templates": self.base.templates_digest,
            }
        )


def plan_content(
    plan: Plan,
    *,
    wheels: Mapping[NormalizedName, str],
    modified: Mapping[str, str],
    base: BaseInputs,
) -> EnvironmentContent | None:
    """Return the content of the image of *plan* where the installed versions are the lock.

    Parameters
    ----------
    plan
        The plan.
    wheels
        For each vendored package the digest of its wheel's content, as far as it is known.
    modified
        As in :class:`EnvironmentContent`.
    base
        The inputs that all hashes cover.

    Returns
    -------
    EnvironmentContent or None
        ``None`` if a solver or a resolver chooses versions, or if a wheel has to be made first.
    """
    indexed = [package for package in plan.packages if not package.vendored and package.name != "python"]
    vendored = [package.name for package in plan.packages if package.vendored]
    conda = () if has_only_interpreter(plan) else plan.conda
    python = next((package.version for package in plan.conda if package.name == "python"), "")
    if (
        is_resolved(plan, indexed)
        or any(package.record is None for package in conda)
        or not wheels.keys() >= set(vendored)
        or not (version := python or base.python_version)
    ):
        return None
    return EnvironmentContent(
        platform=plan.platform.name,
        interpreter=(plan.interpreter, version),
        packages=tuple((p.name, _normal_version(p.version), p.source.kind) for p in indexed),
        conda=tuple((p.name, p.version, p.build, p.record.subdir) for p in conda if p.record is not None),
        wheels={name: wheels[name] for name in vendored},
        code=plan.code.digest,
        base=base,
        modified=modified,
        options=plan.options.digest,
    )


def lock_content(
    lock: Lock,
    *,
    wheels: Mapping[NormalizedName, str],
    code: str,
    options: str,
    base: BaseInputs,
    only_interpreter: bool,
) -> EnvironmentContent:
    """Return the content of the image of *lock*.

    Parameters
    ----------
    lock
        The lock.
    wheels
        For each local package the digest of its wheel's content.
    code, options
        The digests of loose code, and of what the settings say besides packages.
    base
        The inputs that all hashes cover.
    only_interpreter
        Whether the lock's conda packages are the interpreter and its dependencies alone.
    """
    python = next((package.version for package in lock.conda if package.name == "python"), "")
    indexed = [(package.name, package.version) for package in lock.packages]
    indexed += [(package.name, package.version) for package in lock.repacked]
    return EnvironmentContent(
        platform=lock.target.platform.name,
        interpreter=("conda", python) if python else ("base", lock.target.python_version),
        packages=tuple((name, _normal_version(version), "index") for name, version in indexed),
        conda=()
        if only_interpreter
        else tuple((package.name, package.version, package.build, package.subdir) for package in lock.conda),
        wheels={package.name: wheels[package.name] for package in lock.vendored if not package.repacked},
        code=code,
        base=base,
        modified={package.name: package.content for package in lock.repacked},
        options=options,
    )


def has_only_interpreter(plan: Plan) -> bool:
    """Return True if conda only provides the interpreter, for an environment that isn't conda's."""
    return all(package.name == "python" and package.record is None for package in plan.conda)


def packages_hash(shared: Lock, base: BaseInputs) -> str:
    """Return ``sha256:<hex>`` over what a packages image holds, by the digests of its artifacts.

    *shared* is the shared layer of a lock.
    """
    covered = {
        "format": PACKAGES_FORMAT_VERSION,
        "lock": shared.digest,
        "base": base.base_hash,
        "templates": base.templates_digest,
    }
    return sha256_of_json(covered)


def index_hash(hashes: Mapping[str, str]) -> str:
    """Return ``sha256:<hex>`` over the environment hashes of an index's images, by their platforms."""
    return sha256_of_json({"format": INDEX_FORMAT_VERSION, "images": dict(hashes)})


def is_resolved(plan: Plan, indexed: Sequence[PlannedPackage]) -> bool:
    """Return True if a resolver chooses some of the locked versions."""
    additions = (p for p in indexed if p.name != "python" and (p.installed is None or p.extras))
    return is_elsewhere(plan) or next(additions, None) is not None


def is_elsewhere(plan: Plan) -> bool:
    """Return True if the scanned environment is for another platform than the image."""
    return not runs_on(plan.platform, local=plan.python.platform, libc=plan.python.libc)


def _normal_version(version: str) -> str:
    """Return *version* in the form that indexes and resolvers write (PEP 440, "Normalization")."""
    if _NORMAL_VERSION.fullmatch(version):
        return version
    from packaging.version import InvalidVersion, Version

    try:
        return str(Version(version))
    except InvalidVersion:
        return version
