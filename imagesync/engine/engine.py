"""The container engine, by the Docker SDK: its images, containers and builds as typed values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from imagesync.core.image_reference import is_loopback, split_reference
from imagesync.core.progress import Progress
from imagesync.engine.abandoned_containers import remove_abandoned
from imagesync.engine.build_context import BuildRequest, ContextFile, stream_files
from imagesync.engine.buildkit import build_by_api, remove_untagged
from imagesync.engine.client import connect, engine_errors, is_podman, parse_time
from imagesync.engine.fragile_builds import LOST_LAYER, MEND_CACHE, has_lost_layer
from imagesync.engine.image_transfer import import_archive, pull_image, push_image
from imagesync.engine.images import EngineImage, ListedImage, engine_image, with_algorithm
from imagesync.engine.run_container import Output, RunRequest, RunResult, first_file, run_container
from imagesync.errors import BuildError, EngineError

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from imagesync.engine.endpoint import Endpoint
    from imagesync.registry.oci_image import OCIImage


@dataclass(frozen=True)
class EngineInfo:
    """The product and version of an engine.

    Parameters
    ----------
    name
        ``Docker Engine`` or ``Podman``.
    version, api_version
        Such as ``20.10.24`` and ``1.41``.
    platform
        The engine's own platform, such as ``linux/arm64``.
    """

    name: str
    version: str
    api_version: str
    platform: str


class Engine:
    """A container engine, Docker's or Podman's, local or remote.

    Parameters
    ----------
    endpoint
        Where it answers (:func:`imagesync.engine.endpoint.find_endpoint`).
    logs
        The folder for the logs of builds; ``None`` to keep none.

    Raises
    ------
    EngineNotFound
        Nobody answers there.
    """

    def __init__(self, endpoint: Endpoint, *, logs: Path | None = None) -> None:
        self.endpoint = endpoint
        self._logs = logs
        self._api = connect(endpoint)

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def info(self) -> EngineInfo:
        """Return the engine's product and version."""
        with engine_errors("say its version"):
            version = self._api.version()
            return EngineInfo(
                name="Podman" if is_podman(version) else "Docker Engine",
                version=version.get("Version", ""),
                api_version=version.get("ApiVersion", ""),
                platform=f"{version.get('Os', '')}/{version.get('Arch', '')}",
            )

    def identifier(self) -> str:
        """Return the ID that the engine keeps for itself; empty for Podman, which makes one each time."""
        with engine_errors("say its ID"):
            return "" if is_podman(self._api.version()) else str(self._api.info().get("ID") or "")

    def inspect(self, reference: str) -> EngineImage | None:
        """Return the image of a reference or ID, or ``None`` if the engine has none."""
        import docker.errors

        with engine_errors(f"look at the image {reference}"):
            try:
                return engine_image(self._api.inspect_image(reference))
            except docker.errors.NotFound:
                return None

    def list_images(self) -> tuple[ListedImage, ...]:
        """Return all images of the engine."""
        with engine_errors("list its images"):
            return tuple(
                ListedImage(
                    with_algorithm(image["Id"]),
                    tuple(tag for tag in image.get("RepoTags") or () if not tag.startswith("<none>")),
                    dict(image.get("Labels") or {}),
                    int(image.get("Size") or 0),
                )
                for image in self._api.images()
            )

    def images_in_use(self) -> frozenset[str]:
        """Return the IDs of the images that containers use, running or not."""
        with engine_errors("list its containers"):
            return frozenset(with_algorithm(each["ImageID"]) for each in self._api.containers(all=True))

    def last_tagged(self, image: ListedImage) -> datetime:
        """Return when an image got its latest name, or when it was created if nobody knows.

        It is long ago for an image that was removed meanwhile.
        """
        import docker.errors

        with engine_errors(f"look at the image {image.image_id}"):
            try:
                found = self._api.inspect_image(image.image_id)
            except docker.errors.NotFound:
                return parse_time("")
            tagged = str((found.get("Metadata") or {}).get("LastTagTime") or "")
            # An image that was loaded has none; Go's zero time is in the year 1.
            known = tagged and not tagged.startswith("0001")
            return parse_time(tagged if known else str(found.get("Created") or ""))

    def tag(self, image: str, reference: str) -> None:
        """Add a reference to an image; another image that has it loses it."""
        repository, tag = split_reference(reference)
        with engine_errors(f"tag {reference}"):
            if not self._api.tag(image, repository, tag, force=True):
                raise EngineError(f"The container engine doesn't say that it has tagged {reference}.")

    def remove(self, image: str) -> None:
        """Remove an image by reference or ID, if it exists."""
        import docker.errors

        with engine_errors(f"remove the image {image}"):
            try:
                self._api.remove_image(image, force=True)
            except docker.errors.NotFound:
                return

    @contextmanager
    def named(self, image_id: str, reference: str) -> Iterator[None]:
        """Give an image a name during the block.

        An error of the block is raised even if the engine no longer answers.
        """
        self.tag(image_id, reference)
        try:
            yield
        except BaseException:
            with suppress(EngineError):
                self.remove(reference)
            raise
        self.remove(reference)

    def remove_abandoned(self) -> tuple[str, ...]:
        """Remove the containers of processes that were killed, with their unnamed images."""
        return remove_abandoned(self._api)

    def discard(self, image_id: str) -> None:
        """Remove an image unless it has a tag."""
        remove_untagged(self._api, image_id)

    def pull(self, reference: str, *, platform: str, progress: Progress) -> EngineImage:
        """Pull an image with the user's own credentials for its registry, and return it.

        Raises
        ------
        RegistryError
            The registry doesn't answer, refuses, or has no such image.
        """
        pull_image(self._api, reference, platform=platform, progress=progress)
        image = self.inspect(reference)
        if image is None:
            raise EngineError(f"{reference} was pulled, but has been removed since.", hint="Try again.")
        return image

    def save(self, reference: str) -> Iterator[bytes]:
        """Yield an image as an archive, as ``docker save`` writes it."""
        with engine_errors(f"save {reference}"):
            yield from self._api.get_image(reference)

    def history(self, reference: str) -> list[tuple[str, int]]:
        """Return the command and the size in bytes of each step of an image, from the base up."""
        with engine_errors(f"look at the history of {reference}"):
            steps = self._api.history(reference)
            return [
                (step.get("CreatedBy") or step.get("Comment") or "", step["Size"]) for step in reversed(steps)
            ]

    def import_archive(
        self, content: Iterable[bytes], reference: str, *, labels: Mapping[str, str], platform: str
    ) -> None:
        """Make an image of one layer from a tar archive, which is sent as it is produced.

        Raises
        ------
        EngineError
            The engine refuses it.
        """
        import_archive(self._api, content, reference, labels=labels, platform=platform)

    def load(self, image: OCIImage, *, references: Sequence[str], progress: Progress) -> None:
        """Take an image that was built elsewhere; see :func:`~imagesync.engine.load_image.load_image`."""
        from imagesync.engine.load_image import load_image

        load_image(self._api, image, references=references, progress=progress)

    def push(self, reference: str, *, progress: Progress) -> str | None:
        """Push an image with the user's own credentials, and return the digest that the engine reports.

        Raises
        ------
        RegistryError
            The registry doesn't answer, or refuses. Only the registry can confirm that the image has arrived.
        """
        return push_image(self._api, reference, progress=progress)

    def takes_without_tls(self, registry: str) -> bool:
        """Return True if the engine may reach a registry, named by host and port, without TLS.

        Loopback always is: an engine need not be asked.
        """
        if is_loopback(registry):
            return True
        with engine_errors("say its configuration"):
            configured = self._api.info().get("RegistryConfig") or {}
            entry = (configured.get("IndexConfigs") or {}).get(registry) or {}
            networks = configured.get("InsecureRegistryCIDRs") or ()
            return entry.get("Secure") is False or _is_in(registry, networks)

    def run(self, request: RunRequest, *, output: Output | None = None) -> RunResult:
        """Run a command in a fresh container, and always remove the container.

        Parameters
        ----------
        request
            The command and its container.
        output
            Called with each piece of output as it comes; the result then holds no output.

        Raises
        ------
        EngineError
            The container can't be started, or didn't end in time.
        """
        return run_container(self._api, request, output=output)

    def first_file(self, image: str, paths: Iterable[str]) -> str | None:
        """Return the first of *paths* that an image has, or ``None``; nothing of it is saved or run."""
        return first_file(self._api, image, paths)

    def build(self, context: Iterable[bytes], request: BuildRequest, *, progress: Progress) -> str:
        """Build an image without a tag from a tar stream, and return its ID.

        Parameters
        ----------
        context
            A tar archive in pieces, which is sent as it is produced and never held in memory.
        request
            The options of the build.
        progress
            Shows the steps.

        Raises
        ------
        BuildError
            A step failed; the message names it and quotes the end of its log.
        """
        return build_by_api(self._api, context, request, progress=progress, logs=self._logs)

    def build_files(self, files: Sequence[ContextFile], request: BuildRequest, *, progress: Progress) -> str:
        """Build an image without a tag from the files of a context, and return its ID.

        If the engine's build cache has lost a layer, it is built again without the cache.

        Parameters
        ----------
        files
            The build context, the Dockerfile first.
        request, progress
            As for :meth:`build`.

        Raises
        ------
        BuildError
            As :meth:`build`.
        """
        try:
            return self.build(stream_files(files), request, progress=progress)
        except BuildError as error:
            if not has_lost_layer(error):
                raise
            if request.no_cache:  # an image that the Dockerfile builds on has the layer
                raise BuildError(error.message, hint=MEND_CACHE) from error
        progress.line(LOST_LAYER)
        return self.build_files(files, replace(request, no_cache=True), progress=progress)

    def build_dockerfile(
        self,
        dockerfile: str,
        request: BuildRequest,
        *,
        progress: Progress,
        files: Sequence[ContextFile] = (),
    ) -> str:
        """Build an image without a tag from the text of a Dockerfile, and return its ID.

        Parameters
        ----------
        dockerfile
            The text.
        request, progress
            As for :meth:`build`.
        files
            The files that the Dockerfile copies.

        Raises
        ------
        BuildError
            As :meth:`build`.
        """
        context = (ContextFile.from_text("Dockerfile", dockerfile), *files)
        return self.build_files(context, request, progress=progress)


def _is_in(registry: str, networks: Iterable[str]) -> bool:
    """Return True if a registry, named by host and port, has an address in one of *networks*.

    >>> _is_in("10.1.2.3:5000", ["10.0.0.0/8"]), _is_in("example.com:5000", ["10.0.0.0/8"])
    (True, False)
    """
    try:
        address = ip_address(urlsplit(f"//{registry}").hostname or "")
    except ValueError:
        return False  # it is a name, which the engine looks up
    return any(address in ip_network(network, strict=False) for network in networks)
