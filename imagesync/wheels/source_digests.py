"""What each wheel of this machine is made from, as a digest that is known before anything is built."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.credentials import strip_credentials
from imagesync.errors import WheelError
from imagesync.plan.checks.sources import has_only_installed_files, local_path
from imagesync.plan.plan import Plan, PlannedPackage
from imagesync.wheels.installed import edited_files, record_digest
from imagesync.wheels.sources.source_tree import source_digest
from imagesync.wheels.sources.untracked_inputs import with_taken

if TYPE_CHECKING:
    from packaging.utils import NormalizedName


def content_digests(plan: Plan, *, cache: Path | None = None) -> Mapping[NormalizedName, str]:
    """Return for each vendored package of *plan* the digest of what its wheel is made from.

    Parameters
    ----------
    cache
        The folder that keeps what is known of unchanged files; ``None`` for none.

    Returns
    -------
    Mapping
        Canonical name to ``sha256:<hex>``: of a source tree its files, and the others that its last wheel
        took; of a version-control
        checkout the URL without credentials, the commit and the subdirectory; of an archive its hash.
        Installed files that were edited since count as well.

    Raises
    ------
    WheelError
        A source folder is gone, or can't be read.
    """
    return {
        package.name: content_digest(package, cache=cache) for package in plan.packages if package.vendored
    }


def content_digest(package: PlannedPackage, *, cache: Path | None = None) -> str:
    """Return the digest, ``sha256:<hex>``, of what the wheel of *package* is made from."""
    source = package.source
    if source.kind == "directory" and not has_only_installed_files(package):
        try:
            folder = source_folder(package)
            return with_taken(folder, source_digest(folder, cache=cache), cache=cache)
        except WheelError as error:
            raise WheelError(
                f"{package.name} {package.version}: {error.message}",
                hint=f"{error.hint} Or leave the package out: --ignore {package.name}",
            ) from error
    identity: dict[str, object] = {"kind": source.kind, "subdirectory": source.subdirectory}
    url = None if source.url is None else strip_credentials(source.url)
    if source.kind == "vcs" and source.commit:
        identity |= {"vcs": source.vcs, "url": url, "commit": source.commit}
    elif source.kind == "archive" and source.hash:
        identity |= {"hash": source.hash}
    else:
        identity |= {"url": url, "record": record_digest(package.installed)}
    identity["edited"] = edited_files(package.installed, cache=cache)
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(canonical.encode("ascii")).hexdigest()


def source_folder(package: PlannedPackage) -> Path:
    """Return the folder that the ``file://`` URL of *package* names (RFC 8089).

    Raises
    ------
    WheelError
        It is no ``file://`` URL.
    """
    folder = local_path(package.source)
    if folder is None:
        raise WheelError(
            f"{package.name} {package.version} was installed from {package.source.url}, which is no folder.",
            hint="Install it again from its folder.",
        )
    return Path(folder)
