"""Writing ``pylock.toml`` (PEP 751): pip's packages of a lock, or of locks for several platforms.

Source: https://packaging.python.org/en/latest/specifications/pylock-toml/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from imagesync.core.credentials import strip_credentials
from imagesync.core.names import canonical_name
from imagesync.lock.lockfile.custom_metadata import HEAD, to_metadata, to_sections
from imagesync.lock.lockfile.write import Bundle

if TYPE_CHECKING:
    from packaging.pylock import Package


@dataclass(frozen=True)
class _File:
    """The wheel or sdist of a package, as an entry has it."""

    name: str
    version: str
    filename: str
    digest: str
    size: int | None
    path: str
    url: str

    @property
    def is_wheel(self) -> bool:
        return self.filename.endswith(".whl")

    @property
    def is_for_one_platform(self) -> bool:
        return self.is_wheel and not self.filename.endswith("-any.whl")


def render_pylock(bundles: Sequence[Bundle]) -> str:
    """Return the packages of pip as ``pylock.toml``.

    A package that has the same version on each of several platforms is one entry with all its wheels; others
    get a marker.
    """
    import tomli_w
    from packaging.markers import Marker
    from packaging.pylock import Pylock
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

    bundles = sorted(bundles, key=lambda bundle: bundle.lock.target.platform.subdir)
    machines = [bundle.lock.target.platform.machine for bundle in bundles]
    minors = {bundle.lock.target.minor for bundle in bundles}
    facts = {
        bundle.lock.target.platform.subdir: to_metadata(
            replace(bundle.plan, conda=()), replace(bundle.lock, conda=(), channels=())
        )
        for bundle in bundles
    }
    pylock = Pylock(
        lock_version=Version("1.0"),
        environments=[
            Marker(f"sys_platform == 'linux' and platform_machine == '{machine}'") for machine in machines
        ],
        # Base images of two platforms may have two Pythons.
        requires_python=SpecifierSet(f"=={minors.pop()}.*") if len(minors) == 1 else None,
        created_by="imagesync",
        packages=list(_packages(dict(zip(machines, map(_files, bundles), strict=True)))),
        tool={HEAD: to_sections(facts)},
    )
    pylock.validate()
    return tomli_w.dumps(dict(pylock.to_dict()))


def _files(bundle: Bundle) -> dict[str, _File]:
    """Return the file of each package, by canonical name."""
    paths = bundle.paths
    found = {}
    for package in bundle.lock.packages:
        artifact = package.artifact
        path = paths.get(artifact.digest, "")
        found[str(package.name)] = _File(
            package.name,
            package.version,
            artifact.filename,
            artifact.digest,
            artifact.size,
            path,
            "" if path else strip_credentials(artifact.url),
        )
    for vendored in bundle.lock.vendored:
        wheel = bundle.wheels[vendored.name]
        found[str(vendored.name)] = _File(
            vendored.name,
            vendored.version,
            wheel.filename,
            wheel.digest,
            wheel.size,
            paths[wheel.digest],
            "",
        )
    return found


def _packages(files: dict[str, dict[str, _File]]) -> Iterator[Package]:
    """Yield the entries of packages, sorted by name, from their files by machine and name."""
    for name in sorted({name for found in files.values() for name in found}):
        own = {machine: found[name] for machine, found in files.items() if name in found}
        distinct = list(dict.fromkeys(own.values()))
        if len(own) == len(files) and _are_one_entry(distinct):
            yield _entry(distinct, [])
            continue
        for file in distinct:
            machines = [machine for machine, other in own.items() if other == file]
            yield _entry([file], machines if len(machines) < len(files) else [])


def _are_one_entry(files: Sequence[_File]) -> bool:
    """Return True if a reader finds the file of each platform among *files* by their tags."""
    return len(files) == 1 or (
        len({file.version for file in files}) == 1 and all(file.is_for_one_platform for file in files)
    )


def _entry(files: Sequence[_File], machines: Sequence[str]) -> Package:
    from packaging.markers import Marker
    from packaging.pylock import Package, PackageSdist, PackageWheel
    from packaging.version import Version

    marker = " or ".join(f"platform_machine == '{machine}'" for machine in machines)
    facts: list[dict[str, Any]] = [
        {
            "name": file.filename,
            "size": file.size,
            "hashes": {"sha256": file.digest.removeprefix("sha256:")},
            **({"path": file.path} if file.path else {"url": file.url}),
        }
        for file in files
    ]
    is_wheel = files[0].is_wheel
    return Package(
        name=canonical_name(files[0].name),
        version=Version(files[0].version),
        marker=Marker(marker) if marker else None,
        wheels=[PackageWheel(**each) for each in facts] if is_wheel else None,
        sdist=None if is_wheel else PackageSdist(**facts[0]),
    )
