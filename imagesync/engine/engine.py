"""The container engine, by the Docker SDK: its images, containers and builds as typed values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from imagesync.core.platforms import IMAGE_PLATFORM
from imagesync.core.progress import Progress
from imagesync.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path

    from imagesync.engine.endpoint import Endpoint

Network = Literal["none", "default"]


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


@dataclass(frozen=True)
class EngineImage:
    """An image that the engine holds.

    Parameters
    ----------
    image_id
        ``sha256:<hex>`` of the image's configuration (of its manifest, in a containerd image store).
    tags
        References, as the engine writes them.
    digests
        ``repository@sha256:<hex>``, for images that were pulled from or pushed to a registry.
    labels, environment, user
        Its configuration.
    platform
        Such as ``linux/amd64``.
    created
        In ISO 8601.
    size
        In bytes, uncompressed.
    """

    image_id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    labels: Mapping[str, str]
    environment: Mapping[str, str]
    user: str
    platform: str
    created: str
    size: int


@dataclass(frozen=True)
class Mount:
    """A folder, file or volume of the engine's machine, mounted in a container.

    Parameters
    ----------
    source
        An absolute path on the engine's machine, or the name of a volume.
    target
        A path in the container.
    read_only
        Whether the container can't write to it.
    kind
        Whether *source* is a path or a volume.
    """

    source: str
    target: str
    read_only: bool = True
    kind: Literal["bind", "volume"] = "bind"


@dataclass(frozen=True)
class RunResult:
    """The exit code and the output of a container's command."""

    exit_code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True)
class RunRequest:
    """A command to run in a fresh container that is removed afterwards.

    Parameters
    ----------
    image
        A reference or an image ID.
    command
        Replaces the image's entry point and command.
    user
        As ``docker run --user``; ``None`` is the image's own.
    mounts, environment
        Added to those of the image.
    network
        ``none``, ``default`` (the engine's bridge), or the name of a network.
    stdin
        The content of its standard input.
    memory
        The limit in bytes.
    timeout
        Seconds until the container is killed and :class:`EngineError` raised; ``None`` is no limit.
    working_directory
        ``None`` is the image's own.
    """

    image: str
    command: Sequence[str]
    user: str | None = None
    mounts: Sequence[Mount] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    network: str = "none"
    stdin: bytes | None = None
    memory: int | None = None
    timeout: float | None = 600
    working_directory: str | None = None


@dataclass(frozen=True)
class BuildRequest:
    """The options of a build.

    Parameters
    ----------
    network
        ``none``: no step reaches a network; ``default``: the engine's bridge, with the proxies of Docker's
        ``config.json``.
    build_args
        Values of the Dockerfile's ``ARG``; never secrets, because they end up in the history.
    labels
        Added to the image.
    target
        The stage to build; ``None`` is the last.
    dockerfile
        Its path in the context.
    no_cache
        Whether every step runs, also those that the engine has cached.
    platform
        Of the image.
    """

    network: Network
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None
    dockerfile: str = "Dockerfile"
    no_cache: bool = False
    platform: str = IMAGE_PLATFORM


Output = Callable[[Literal["stdout", "stderr"], bytes], None]


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
        from imagesync.engine.client import connect

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
        from imagesync.engine.client import engine_errors

        with engine_errors("say its version"):
            version = self._api.version()
        names = {component.get("Name", "") for component in version.get("Components") or ()}
        return EngineInfo(
            name="Podman" if any("podman" in name.lower() for name in names) else "Docker Engine",
            version=version.get("Version", ""),
            api_version=version.get("ApiVersion", ""),
            platform=f"{version.get('Os', '')}/{version.get('Arch', '')}",
        )

    def inspect(self, reference: str) -> EngineImage | None:
        """Return the image of a reference or ID, or ``None`` if the engine has none."""
        import docker.errors

        from imagesync.engine.client import engine_errors

        with engine_errors(f"look at the image {reference}"):
            try:
                return _engine_image(self._api.inspect_image(reference))
            except docker.errors.NotFound:
                return None

    def tag(self, image: str, reference: str) -> None:
        """Add a reference to an image; another image that has it loses it."""
        from imagesync.core.image_reference import split_reference
        from imagesync.engine.client import engine_errors

        repository, tag = split_reference(reference)
        with engine_errors(f"tag {reference}"):
            self._api.tag(image, repository, tag, force=True)

    def remove(self, image: str) -> None:
        """Remove an image by reference or ID, if it exists."""
        import docker.errors

        from imagesync.engine.client import engine_errors

        with engine_errors(f"remove the image {image}"):
            try:
                self._api.remove_image(image, force=True)
            except docker.errors.NotFound:
                return

    def discard(self, image_id: str) -> None:
        """Remove an image unless it has a tag."""
        from imagesync.engine.buildkit import remove_untagged

        remove_untagged(self._api, image_id)

    def pull(self, reference: str, *, progress: Progress, platform: str = IMAGE_PLATFORM) -> EngineImage:
        """Pull an image with the user's own credentials for its registry, and return it.

        Raises
        ------
        RegistryError
            The registry doesn't answer, refuses, or has no such image.
        """
        from imagesync.engine.pull_push import pull_image

        pull_image(self._api, reference, platform=platform, progress=progress)
        image = self.inspect(reference)
        if image is None:
            raise EngineError(f"{reference} was pulled, and is gone again.", hint="Try again.")
        return image

    def import_archive(self, content: Iterable[bytes], reference: str, *, labels: Mapping[str, str]) -> None:
        """Make an image of one layer from a tar archive, which is sent as it is produced.

        Raises
        ------
        EngineError
            The engine refuses it.
        """
        from imagesync.engine.import_archive import import_archive

        import_archive(self._api, content, reference, labels=labels, platform=IMAGE_PLATFORM)

    def push(self, reference: str, *, progress: Progress) -> str | None:
        """Push an image with the user's own credentials, and return the digest that the engine reports.

        Raises
        ------
        RegistryError
            The registry doesn't answer, or refuses. Only the registry can confirm that the image has arrived.
        """
        from imagesync.engine.pull_push import push_image

        return push_image(self._api, reference, progress=progress)

    def takes_without_tls(self, registry: str) -> bool:
        """Return whether the engine may reach a registry, named by host and port, without TLS."""
        from imagesync.engine.client import engine_errors

        with engine_errors("say its configuration"):
            configured = self._api.info().get("RegistryConfig") or {}
        entry = (configured.get("IndexConfigs") or {}).get(registry) or {}
        return entry.get("Secure") is False

    def run(self, request: RunRequest, *, output: Output | None = None) -> RunResult:
        """Run a command in a fresh container, and always remove the container.

        Parameters
        ----------
        output
            Called with each piece of output as it comes; the result then holds no output.

        Raises
        ------
        EngineError
            The container can't be started, or didn't end in time.
        """
        from imagesync.engine.run import run_container

        return run_container(self._api, request, output=output)

    def build(self, context: Iterable[bytes], request: BuildRequest, *, progress: Progress) -> str:
        """Build an image without a tag from a tar stream, and return its ID.

        Parameters
        ----------
        context
            A tar archive in pieces; it is sent as it is produced, and never held in memory.

        Raises
        ------
        BuildError
            A step failed; the message names it and quotes the end of its log.
        """
        from imagesync.engine.buildkit import build_by_api

        return build_by_api(self._api, context, request, progress=progress, logs=self._logs)


def _engine_image(inspected: Mapping[str, Any]) -> EngineImage:
    config = inspected.get("Config") or {}
    return EngineImage(
        image_id=_with_algorithm(inspected["Id"]),
        tags=tuple(inspected.get("RepoTags") or ()),
        digests=tuple(inspected.get("RepoDigests") or ()),
        labels=dict(config.get("Labels") or {}),
        environment=dict(entry.partition("=")[::2] for entry in config.get("Env") or ()),
        user=config.get("User") or "",
        platform=f"{inspected.get('Os', '')}/{inspected.get('Architecture', '')}",
        created=inspected.get("Created") or "",
        size=int(inspected.get("Size") or 0),
    )


def _with_algorithm(identifier: str) -> str:
    return identifier if ":" in identifier else f"sha256:{identifier}"
