"""Writing ``conda-lock.yml``: conda and pip entries and local wheels in one file.

Source: https://conda.github.io/conda-lock/output/#unified-lockfile
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from imagesync.core.credentials import strip_credentials
from imagesync.core.names import canonical_name
from imagesync.lock.lockfile.bundle import Frozen
from imagesync.lock.lockfile.custom_metadata import to_metadata
from imagesync.lock.lockfile.models import make_file
from imagesync.plan.requirements import applies, parse_requirement, target_markers

if TYPE_CHECKING:
    from conda_lock.lockfile import Lockfile

    from imagesync.plan.plan import PlannedPackage

SUBDIRS = {"linux/amd64": "linux-64", "linux/arm64": "linux-aarch64"}


def to_lockfile(frozen: Frozen) -> Lockfile:
    """Return *frozen* as conda-lock has it, without credentials and without paths of this machine."""
    lock = frozen.lock
    platform = SUBDIRS[lock.target.platform]
    common = {"platform": platform, "categories": {"main"}}
    return make_file(
        entries=[{**common, **entry} for entry in (*_conda_entries(frozen), *_pip_entries(frozen))],
        metadata={
            "content_hash": {platform: lock.digest.removeprefix("sha256:")},
            "channels": [strip_credentials(channel) for channel in lock.channels],
            "platforms": [platform],
            "sources": [],
            "custom_metadata": to_metadata(frozen.plan, lock),
        },
    )


def _conda_entries(frozen: Frozen) -> Iterator[dict[str, Any]]:
    places = frozen.places
    for package in frozen.lock.conda:
        artifact = package.artifact
        yield {
            "name": package.name,
            "version": package.version,
            "manager": "conda",
            "dependencies": specs(package.depends),
            "url": _url(artifact.url, artifact.digest, places),
            "hash": {"md5": frozen.md5[package.name], "sha256": _hex(artifact.digest)},
        }


def _pip_entries(frozen: Frozen) -> Iterator[dict[str, Any]]:
    places = frozen.places
    markers = target_markers(frozen.plan.python)
    for package in frozen.lock.packages:
        yield _pip_entry(
            package.name,
            package.version,
            _url(package.artifact.url, package.artifact.digest, places),
            package.artifact.digest,
            _requirements(package.planned, markers),
        )
    for made in frozen.lock.vendored:
        wheel = frozen.wheels[made.name]
        yield _pip_entry(
            made.name,
            made.version,
            f"file:{places[wheel.digest]}",
            wheel.digest,
            _requirements(made.planned, markers),
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


def _url(url: str, digest: str, places: Mapping[str, str]) -> str:
    # pip and uv take a file URL without a leading slash as relative to the working folder.
    return f"file:{places[digest]}" if digest in places else strip_credentials(url)


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def specs(depends: Iterable[str]) -> dict[str, str]:
    """Return match specs by name, those for one name together."""
    specs: dict[str, str] = {}
    for line in depends:
        name, _, spec = line.strip().partition(" ")
        specs[name] = ",".join(filter(None, (specs.get(name, ""), spec.strip())))
    return specs


def _requirements(planned: PlannedPackage | None, markers: Mapping[str, str]) -> dict[str, str]:
    """Return what a package requires in the image, as far as its installed metadata say."""
    if planned is None or planned.installed is None:
        return {}
    found: dict[str, str] = {}
    for line in planned.installed.requires:
        requirement = parse_requirement(line)
        if requirement is not None and applies(requirement, markers):
            found[canonical_name(requirement.name)] = str(requirement.specifier)
    return found
