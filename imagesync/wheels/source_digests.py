"""Digests of the sources of local wheels, known before anything is built."""

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
from imagesync.wheels.sources.source_tree import tree_digest
from imagesync.wheels.sources.untracked_inputs import with_untracked_inputs

if TYPE_CHECKING:
    from packaging.utils import NormalizedName


def digest_sources(plan: Plan, *, cache: Path | None = None) -> Mapping[NormalizedName, str]:
    """Return the digest of the sources of each vendored package of *plan*.

    Parameters
    ----------
    cache
        The folder that keeps what is known of unchanged files; ``None`` for none.

    Returns
    -------
    Mapping
        Canonical name to ``sha256:<hex>`` over the files of a source tree and the untracked inputs of its
        wheels; over the URL without credentials, the commit and the subdirectory of a checkout; over the hash
        of an archive. Edits of installed files count as well.

    Raises
    ------
    WheelError
        A source folder is missing, or can't be read.
    """
    return {
        package.name: package_digest(package, cache=cache) for package in plan.packages if package.vendored
    }


def package_digest(package: PlannedPackage, *, cache: Path | None = None) -> str:
    """Return the digest of the sources of *package*, ``sha256:<hex>``."""
    source = package.source
    if source.kind == "directory" and not has_only_installed_files(package):
        try:
            folder = source_folder(package)
            return with_untracked_inputs(folder, tree_digest(folder, cache=cache), cache=cache)
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
    """Return the folder of the ``file://`` URL of *package* (RFC 8089).

    Raises
    ------
    WheelError
        The URL isn't a ``file://`` URL.
    """
    folder = local_path(package.source)
    if folder is None:
        raise WheelError(
            f"{package.name} {package.version} was installed from {package.source.url}, which is no folder.",
            hint="Install it again from its folder.",
        )
    return Path(folder)
