"""Writing ``conda-lock.yml``: locks, with the files that only this machine has, for use on other machines.

Source: https://conda.github.io/conda-lock/output/#unified-lockfile
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from imagesync.core.credentials import strip_credentials
from imagesync.core.names import canonical_name
from imagesync.lock.conda.conda_lock_file import make_file
from imagesync.lock.conda.locked_records import topological_order
from imagesync.lock.lock import Lock
from imagesync.lock.locked_packages import Artifact, LockedConda
from imagesync.lock.lockfile.custom_metadata import section_of, to_metadata, to_sections
from imagesync.plan.plan import Plan
from imagesync.plan.requirements import applies, parse_requirement, target_markers

if TYPE_CHECKING:
    from conda_lock.lockfile import Lockfile

    from imagesync.plan.plan import PlannedPackage
    from imagesync.store.store import StoredFile

WHEELS, ARCHIVES = "wheels", "packages"


@dataclass(frozen=True)
class Bundle:
    """A lock that no longer depends on this machine.

    Parameters
    ----------
    plan
        The plan of the lock.
    lock
        The lock, with the versions of the built wheels.
    files
        Files that no server has, by path relative to the lock file: ``wheels/mine-1.0.whl``.
    wheels
        The wheels made on this machine, by canonical name.
    md5
        The MD5 of each conda package in hex, which conda's tools check.
    pip
        conda's pip and what it needs, for others to install pip's part with; not in the image.
    """

    plan: Plan
    lock: Lock
    files: Mapping[str, StoredFile] = field(default_factory=dict)
    wheels: Mapping[str, StoredFile] = field(default_factory=dict)
    md5: Mapping[str, str] = field(default_factory=dict)
    pip: tuple[LockedConda, ...] = ()

    @property
    def paths(self) -> dict[str, str]:
        """Return the paths of the files relative to the lock file, by digest."""
        return {file.digest: path for path, file in self.files.items()}


def is_local(artifact: Artifact) -> bool:
    """Return True if an artifact is a local file, which no other machine can fetch."""
    return artifact.url.startswith("file:")


def to_lockfile(bundles: Sequence[Bundle], kept: Lockfile | None = None) -> Lockfile:
    """Return *bundles*, one a platform, as a lock file of conda-lock, without credentials and local paths.

    Parameters
    ----------
    bundles
        In any order: sections are sorted by platform.
    kept
        The sections for other platforms of a file that was there before.
    """
    sections = {bundle.lock.target.platform.subdir: bundle for bundle in bundles}
    entries = {
        subdir: [
            {"platform": subdir, "categories": {"main"}, **entry}
            for entry in (*_conda_entries(bundle), *_pip_entries(bundle))
        ]
        for subdir, bundle in sections.items()
    }
    hashes = {subdir: _hex(bundle.lock.digest) for subdir, bundle in sections.items()}
    facts: dict[str, Mapping[str, str]] = {
        subdir: to_metadata(bundle.plan, bundle.lock, not_in_image=[p.name for p in bundle.pip])
        for subdir, bundle in sections.items()
    }
    for subdir in () if kept is None else kept.metadata.platforms:
        assert kept is not None  # noqa: S101
        entries[subdir] = [entry.model_dump() for entry in kept.package if entry.platform == subdir]
        hashes[subdir] = kept.metadata.content_hash[subdir]
        facts[subdir] = section_of(kept.metadata.custom_metadata or {}, subdir)
    subdirs = sorted(entries)
    return make_file(
        entries=[entry for subdir in subdirs for entry in entries[subdir]],
        metadata={
            "content_hash": {subdir: hashes[subdir] for subdir in subdirs},
            "channels": public_channels(bundles[0].lock),
            "platforms": subdirs,
            # micromamba refuses a file without any. conda-lock looks for a file of this name.
            "sources": ["imagesync lock"],
            "custom_metadata": to_sections(facts),
        },
    )


def public_channels(lock: Lock) -> list[str]:
    """Return the channels of a lock as a lock file names them."""
    return [strip_credentials(channel) for channel in lock.channels]


def _conda_entries(bundle: Bundle) -> Iterator[dict[str, Any]]:
    paths = bundle.paths
    for package in topological_order((*bundle.lock.conda, *bundle.pip)):
        artifact = package.artifact
        yield {
            "name": package.name,
            "version": package.version,
            "manager": "conda",
            "dependencies": _specs(package.depends),
            # micromamba refuses file URLs without a leading slash.
            "url": paths.get(artifact.digest) or strip_credentials(artifact.url),
            "hash": {"md5": bundle.md5[package.name], "sha256": _hex(artifact.digest)},
        }


def _pip_entries(bundle: Bundle) -> Iterator[dict[str, Any]]:
    paths = bundle.paths
    markers = target_markers(bundle.plan.python, bundle.lock.target.platform)
    for package in bundle.lock.packages:
        yield _pip_entry(
            package.name,
            package.version,
            _url(package.artifact.url, package.artifact.digest, paths),
            package.artifact.digest,
            _requirements(package.planned, markers),
        )
    for vendored in bundle.lock.vendored:
        wheel = bundle.wheels[vendored.name]
        yield _pip_entry(
            vendored.name,
            vendored.version,
            f"file:{paths[wheel.digest]}",
            wheel.digest,
            _requirements(vendored.planned, markers),
        )


def _pip_entry(
    name: str, version: str, url: str, digest: str, dependencies: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "name": name,
        "version": version,
        "manager": "pip",
        "dependencies": dict(dependencies),
        "url": url,
        "hash": {"sha256": _hex(digest)},
    }


def _url(url: str, digest: str, paths: Mapping[str, str]) -> str:
    # For pip and uv a file URL without a leading slash is relative to the working folder.
    return f"file:{paths[digest]}" if digest in paths else strip_credentials(url)


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _specs(depends: Iterable[str]) -> dict[str, str]:
    """Return match specs by name; several for one name are combined."""
    specs: dict[str, str] = {}
    for line in depends:
        name, _, spec = line.strip().partition(" ")
        specs[name] = ",".join(filter(None, (specs.get(name, ""), spec.strip())))
    return specs


def _requirements(planned: PlannedPackage | None, markers: Mapping[str, str]) -> dict[str, str]:
    """Return the requirements of a package in the image, from its installed metadata."""
    if planned is None or planned.installed is None:
        return {}
    found: dict[str, str] = {}
    for line in planned.installed.requires:
        requirement = parse_requirement(line)
        if requirement is not None and applies(requirement, markers):
            found[canonical_name(requirement.name)] = str(requirement.specifier)
    return found
