"""The search for an image that is there already: in the engine by one request, or in a registry."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from imagesync.core.progress import Progress
from imagesync.pipeline.inputs import Prepared
from imagesync.settings import Settings
from imagesync.store.layout import LOGS, TREES

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.engine.engine import Engine
    from imagesync.engine.lookup import Lookup
    from imagesync.image.image import Image
    from imagesync.pipeline.environment_hash import Foundation
    from imagesync.pipeline.lock_file_inputs import LockedBuild
    from imagesync.pipeline.registry_images import Shelf


@dataclass(frozen=True)
class Search:
    """Where images are looked for, and by which hash.

    Parameters
    ----------
    environ
        Environment variables: of the engine.
    cache
        The folder of what is remembered of files.
    """

    settings: Settings
    environ: Mapping[str, str] = field(repr=False)
    progress: Progress = field(repr=False)
    cache: Path

    def look(self) -> Lookup:
        """Ask the engine, once, what it has."""
        from imagesync.engine.endpoint import find_endpoint
        from imagesync.engine.lookup import look_up

        settings = self.settings
        return look_up(find_endpoint(self.environ), base=settings.base, repository=settings.repository)

    def look_for_base(self, lookup: Lookup) -> Lookup:
        """Return *lookup* with the base's digest; its registry knows it where the engine has no base."""
        if lookup.base_digest is not None or not self.names_registry:
            return lookup
        with self.shelf() as shelf:
            return lookup._replace(base_digest=shelf.base_digest(self.settings.base))

    def find(self, prepared: Prepared | LockedBuild, lookup: Lookup) -> Image | None:
        """Return the image that *lookup* has for what is prepared, if what it was made of is still so."""
        from imagesync.image.image import image_of
        from imagesync.image_layout import image_tag

        settings = self.settings
        if lookup.base_digest is None:
            return None
        digest = self.identify(prepared, lookup.base_digest)
        found = lookup.tagged(image_tag(digest))
        if found is None:
            return None
        image = image_of(found, repository=settings.repository, environment_hash=digest)
        return image if image is not None and self._as_installed(prepared, image) else None

    def find_in_registry(
        self,
        prepared: Prepared | LockedBuild,
        lookup: Lookup,
        *,
        tags: tuple[str, ...],
        no_cache: bool,
        push: bool,
    ) -> Image | None:
        """Return what a colleague or a CI job has pushed; where nothing is, make sure that one may push."""
        from imagesync.errors import RegistryError

        with self.shelf() as shelf:
            try:
                root = lookup.base_digest
                image = None if root is None else shelf.find(self.identify(prepared, root))
                if image is not None and not no_cache and self._as_installed(prepared, image):
                    self.progress.line(f"The registry has it already: {image.digest}")
                    return image if push and not tags else shelf.fetch(image)
                if push:
                    shelf.check_push(tags)
            except RegistryError as error:
                if push:
                    raise
                self.progress.line(f"warning: {error.message} Building without it.")
        return None

    def _as_installed(self, prepared: Prepared | LockedBuild, image: Image) -> bool:
        """Return whether what *image* has of installed files is still what is installed.

        The environment hash can't say it: which packages no index has isn't known before the lock.
        """
        if not isinstance(prepared, Prepared):
            return True  # nothing installed has a part in it
        if image.file_conflicts:
            from imagesync.plan.checks.file_conflicts import are_installed

            here = (package.installed for package in prepared.plan.packages if package.installed is not None)
            if not are_installed(image.file_conflicts, here):
                return False
        if not image.repacked:
            return True
        from imagesync.wheels.installed import installed_digest

        installed = {package.name: package.installed for package in prepared.plan.packages}
        installed |= {package.name: package for package in prepared.plan.provided}
        trees = self.cache / TREES
        return all(
            installed_digest(installed.get(entry["name"]), cache=trees) == entry["content"]
            for entry in image.repacked
        )

    def identify(
        self,
        prepared: Prepared | LockedBuild,
        root_digest: str,
        contents: Mapping[NormalizedName, str] | None = None,
    ) -> str:
        """Return the environment hash over what is prepared, and all else that reaches the image."""
        return prepared.identify(self.settings, self.foundation(root_digest), contents)

    def foundation(self, root_digest: str) -> Foundation:
        """Return what hashes cover beside the plan."""
        from imagesync.image.base import base_hash
        from imagesync.image.build_files import build_files_digest
        from imagesync.image.templates import dockerfile_base

        return {
            "base_hash": base_hash(root_digest, dockerfile_base(), self.settings.apt),
            "templates_digest": build_files_digest(self.settings.templates),
        }

    @property
    def names_registry(self) -> bool:
        """Return whether images are to be found in a registry, too."""
        from imagesync.core.image_reference import parse_reference

        return parse_reference(self.settings.repository).names_registry

    @contextlib.contextmanager
    def engine(self) -> Iterator[Engine]:
        """Give the engine, by the Docker SDK."""
        from imagesync.engine.endpoint import find_endpoint
        from imagesync.engine.engine import Engine

        with Engine(find_endpoint(self.environ), logs=self.cache / LOGS) as engine:
            yield engine

    @contextlib.contextmanager
    def shelf(self) -> Iterator[Shelf]:
        """Give the place of the images in the registry."""
        from imagesync.pipeline.registry_images import Shelf

        with self.engine() as engine:
            yield Shelf(self.settings.repository, engine, self.progress)
