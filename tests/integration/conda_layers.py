"""Conda layers by hand: of packages of a channel, without an environment around them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import rattler

from imagesync.core.platforms import LINUX_AMD64
from imagesync.core.progress import SilentProgress
from imagesync.engine.build_context import BuildRequest, stream_files
from imagesync.engine.engine import Engine
from imagesync.engine.lookup import images_of
from imagesync.image.conda.conda_installer import choose_installer
from imagesync.image.conda.layer import CondaLayer, CondaPackages, archive_key, conda_packages, make_layer
from imagesync.image.conda.mounted_images import ARCHIVES_REPOSITORY, with_mounted_images
from imagesync.image.dockerfile import Wheels, make_context
from imagesync.image.image_context import BuildContext
from imagesync.image_layout import BaseImage, Label
from imagesync.lock.conda.repodata import locked
from imagesync.lock.lock import Lock, Target
from imagesync.scan.environment import Interpreter
from imagesync.store.store import Store, StoredFile


@dataclass(frozen=True)
class CondaLayers:
    """Makes packages images that hold conda packages and nothing else.

    Parameters
    ----------
    micromamba
        What installs them; py-rattler without.
    shared_files
        The files that several packages have, as they are installed somewhere.
    mounts
        Whether what they need is in images of the engine, or comes with the context.
    """

    engine: Engine
    base: BaseImage
    store: Store
    lock: Lock
    archives: tuple[StoredFile, ...]
    micromamba: Path | None = None
    shared_files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    mounts: bool = True

    def layer(self) -> CondaLayer:
        """Return the layer, of which the engine has as images what it has in a build of imagesync's."""
        installer = choose_installer(
            "micromamba" if self.micromamba else "auto",
            platform=LINUX_AMD64,
            micromamba=self.micromamba,
            channels=None,
            store=self.store,
            wheel=_no_wheel,
            progress=SilentProgress(),
        )
        layer = make_layer(self.packages(), installer, progress=SilentProgress())
        return (
            with_mounted_images(self.engine, layer, platform=LINUX_AMD64, progress=SilentProgress())
            if self.mounts
            else layer
        )

    def packages(self, *, all_bytecode: bool = False) -> CondaPackages:
        """Return the packages, with the bytecode that they lack, or (*all_bytecode*) with all of it."""
        version = self.lock.target.python_version
        return conda_packages(
            self.lock,
            self.archives,
            wheels=(),
            python=Interpreter(
                "cpython", version, "linux-x86_64", "", sys.executable, sys.prefix, sys.base_prefix
            ),
            store=self.store,
            progress=SilentProgress(),
            shared_files=self.shared_files,
            all_bytecode=all_bytecode,
        )

    def forget_archives(self) -> None:
        """Remove every image of the engine that has any of the archives; other builds leave some, too."""
        keys = {archive_key(file) for file in replace(self, mounts=False).layer().files}
        for image in images_of(self.engine.endpoint, ARCHIVES_REPOSITORY):
            if keys & set(image.labels[Label.ARCHIVES].split()):
                self.engine.remove(f"{ARCHIVES_REPOSITORY}:{image.tags[0]}")

    def context(self) -> BuildContext:
        """Return the build context."""
        return make_context(
            self.lock,
            base=self.base,
            # As of a new environment each time, so that the builder doesn't know the context from before.
            environment_hash=f"sha256:{os.urandom(32).hex()}",
            name="imagesync-test:conda",
            packages=Wheels(),
            vendored=Wheels(),
            installer=None,
            templates=None,
            version="0",
            part="packages",
            conda=self.layer(),
        )

    def build(self) -> str:
        """Return the ID of a new image, built without the builder's cache."""
        request = BuildRequest("none", "linux/amd64", no_cache=True)
        return self.engine.build(stream_files(self.context().files), request, progress=SilentProgress())


def as_lock(
    records: Sequence[rattler.RepoDataRecord], base: BaseImage, store: Store
) -> tuple[Lock, tuple[StoredFile, ...]]:
    """Return a lock of *records*, which are of a channel's folder, and their archives in the store."""
    packages = sorted(
        (
            locked({**json.loads(record.to_json()), "fn": record.file_name, "channel": record.channel})
            for record in records
        ),
        key=lambda package: package.name,
    )
    paths = {record.file_name: Path(record.url.removeprefix("file://")) for record in records}
    archives = tuple(
        store.add_file(paths[package.artifact.filename], filename=package.artifact.filename)
        for package in packages
    )
    python = next(package.version for package in packages if package.name == "python")
    return Lock(Target(LINUX_AMD64, python, base.glibc), (), conda=tuple(packages)), archives


def _no_wheel(requirement: str) -> StoredFile:
    raise AssertionError(f"{requirement} has to be installed here")
