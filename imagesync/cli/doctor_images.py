"""The checks of ``imagesync doctor`` of what makes, holds and takes images: engine, base image, registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from imagesync.cli.doctor_checks import Check, failed
from imagesync.core.image_location import ImageLocation, parse_location
from imagesync.core.image_reference import parse_reference
from imagesync.core.platforms import DEFAULT_PLATFORM
from imagesync.engine.client import connect, explanation
from imagesync.engine.endpoint import Endpoint, find_endpoint
from imagesync.engine.engine import Engine, EngineInfo
from imagesync.engine.lookup import Lookup, look_up
from imagesync.errors import BuildError, EngineNotFound, ImagesyncError
from imagesync.image.layers.standalone_python import find_standalone
from imagesync.indexes.pypi.index_problems import innermost
from imagesync.pipeline.builders import builder_of_settings
from imagesync.pipeline.engine_finder import is_foreign
from imagesync.pipeline.environment_plan import choose_interpreter
from imagesync.pipeline.image_finder import needs_of_container
from imagesync.pipeline.layout_base import base_with_python
from imagesync.pipeline.layout_finder import LayoutFinder
from imagesync.registry.image_source import open_image
from imagesync.registry.oci_layout import ImageLayout
from imagesync.registry.registry import check_push
from imagesync.registry.repository import Repository
from imagesync.settings.bases import well_known_minor
from imagesync.settings.model import DEFAULT_BASE
from imagesync.store.layout import IMAGES

if TYPE_CHECKING:
    from imagesync.pipeline.context import Context
    from imagesync.scan.environment import Environment

_REGISTRY_SECONDS = 20
# BuildKit speaks the protocol that builds need from this API version on (Docker Engine 18.09).
_BUILDKIT_API = (1, 39)


@dataclass(frozen=True)
class EngineAnswer:
    """What an engine tells.

    Parameters
    ----------
    endpoint
        Where it answers.
    info
        Its product and version.
    lookup
        Which images it has.
    """

    endpoint: Endpoint
    info: EngineInfo
    lookup: Lookup


AskEngine = Callable[[], EngineAnswer]
"""Returns what the engine tells, or raises why it doesn't."""


def ask_engine(context: Context) -> EngineAnswer:
    """Ask the engine.

    Raises
    ------
    ImagesyncError
        There is none, or it doesn't answer.
    """
    settings = context.settings
    endpoint = find_endpoint(context.environ)
    # First, because it soon gives up on an engine that accepts connections but never answers.
    lookup = look_up(endpoint, base=settings.base, repository=settings.repository)
    with Engine(endpoint) as engine:
        return EngineAnswer(endpoint, engine.info(), lookup)


def builds_without_engine(context: Context, ask: AskEngine) -> bool:
    """Return True if a build writes layers itself: by the settings, or because no engine answers."""
    if (builder := _builder(context)) != "auto":
        return builder == "oci"
    try:
        answer = ask()
    except EngineNotFound:
        return True
    except ImagesyncError:
        return False
    return is_foreign(context.platform, answer.info.platform) and not needs_of_container(context.settings)


def _builder(context: Context) -> Literal["auto", "docker", "oci"]:
    return builder_of_settings(context.settings, is_one_of_several=len(context.platforms) > 1)


def base_of_image(environment: Environment, context: Context, ask: AskEngine) -> str | None:
    """Return the base image whose Python the image gets; ``None`` if it gets exactly the environment's.

    Channels are asked only where that decides whether, or on which base, a build succeeds.
    """
    python, settings = environment.python, context.settings
    if environment.conda or settings.add_conda or settings.python_source == "conda":
        return None
    base, without_engine = settings.base, builds_without_engine(context, ask)
    is_auto = settings.python_source == "auto"
    if is_auto and without_engine and find_standalone(python) is not None:
        return None
    if without_engine and base == DEFAULT_BASE and python.version:
        base = base_with_python(python.version)
    elif well_known_minor(base) in (None, python.minor):
        return base
    return None if is_auto and choose_interpreter(environment, context).source == "conda" else base


def engine_checks(context: Context, ask: AskEngine) -> Iterator[Check]:
    """Check the engine, and that settings ask for nothing that only an engine does where none builds."""
    if builds_without_engine(context, ask):
        try:
            LayoutFinder(context).check_usable()
        except BuildError as error:
            yield failed("engine", error)
            return
    try:
        answer = ask()
    except ImagesyncError as error:
        if not builds_without_engine(context, ask):
            yield failed("engine", error)
        elif _builder(context) == "auto":
            message = f"{error.message} Images are built without one."
            yield Check("engine", "warning", message, error.hint)
        else:
            yield Check("engine", "ok", "none answers, and none is needed: images are built without one")
        return
    endpoint, info = answer.endpoint, answer.info
    message = f"{info.name} {info.version} at {endpoint.url} ({endpoint.origin})"
    api = tuple(int(part) for part in info.api_version.split(".") if part.isdigit())
    if info.name != "Podman" and api < _BUILDKIT_API:
        hint = "Install Docker Engine 18.09 or later: https://docs.docker.com/engine/install/."
        yield Check("engine", "failed", f"{message} has no BuildKit", hint)
    elif not any(platform.is_platform_of(info.platform) for platform in context.platforms):
        names = " and ".join(map(str, context.platforms))
        yield Check(
            "engine", "warning", f"{message} runs on {info.platform}, images are {names}", _emulation(context)
        )
    else:
        yield Check("engine", "ok", f"{message}, with {'Buildah' if info.name == 'Podman' else 'BuildKit'}")


def _emulation(context: Context) -> str:
    hint = (
        "It builds and runs them where it emulates that platform: `apt-get install qemu-user-static`, or "
        "`docker run --privileged --rm tonistiigi/binfmt --install all`."
    )
    if DEFAULT_PLATFORM in context.platforms or context.settings.builder == "docker":
        return hint
    return f"They are built without it. To run them here: {hint[0].lower()}{hint[1:]}"


def image_checks(context: Context, scan: Callable[[], Environment], ask: AskEngine) -> Iterator[Check]:
    """Check the base image, and that the user may push to the registry that the repository names."""
    settings = context.settings
    try:
        yield _base_check(context, scan, ask)
    except ImagesyncError as error:
        yield failed("base", error)
    if not parse_reference(settings.repository).names_registry:
        return
    try:
        insecure = context.takes_without_tls(settings.repository)
        check_push(settings.repository, insecure=insecure, timeout=settings.timeout)
    except ImagesyncError as error:
        # A build that doesn't push works without the registry.
        yield Check("push", "failed" if settings.push else "warning", error.message, error.hint)
    else:
        yield Check("push", "ok", f"you may push to {settings.repository}")


def _base_check(context: Context, scan: Callable[[], Environment], ask: AskEngine) -> Check:
    base = context.settings.base
    if builds_without_engine(context, ask):
        if base == DEFAULT_BASE:
            base = base_of_image(scan(), context, ask) or base
        return _base_without_engine(parse_location(base, given_as="base"), context, ask)
    try:
        answer = ask()
    except ImagesyncError:
        return Check("base", "warning", "skipped: the engine pulls it")
    if answer.lookup.base_digest is not None:
        return Check("base", "ok", f"the engine has {base}")
    return _base_of_engine(base, answer.endpoint)


def _base_without_engine(location: ImageLocation, context: Context, ask: AskEngine) -> Check:
    """Look for a base image where it is; of a registry only its digest is asked for."""
    path, hint = location.path, "Name another image with --base, or correct this one's name."
    if location.transport == "docker-daemon":
        with Engine(ask().endpoint) as engine:
            is_there = engine.inspect(path) is not None
        return (
            Check("base", "ok", f"the engine has {path}")
            if is_there
            else Check("base", "failed", f"the engine has no image {path}", hint)
        )
    if location.transport == "registry":
        with Repository(path, timeout=_REGISTRY_SECONDS) as repository:
            is_there = repository.head(repository.wanted) is not None
        return (
            Check("base", "ok", f"{path} can be pulled")
            if is_there
            else Check("base", "failed", f"its registry has no image {path}", hint)
        )
    kept = ImageLayout(context.cache_folder / IMAGES, is_cache=True)
    with open_image(location, platform=context.platform.name, kept=kept, progress=context.progress):
        return Check("base", "ok", f"{location} can be read")


def _base_of_engine(base: str, endpoint: Endpoint) -> Check:
    """Ask the registry for the base image, through the engine; nothing is pulled."""
    import docker.errors
    import requests

    hint = (
        f"Check the name and the network with `docker pull {base}`, log in with `docker login`, "
        "or name an image that the engine has: `--base REF`."
    )
    client = connect(endpoint)
    client.timeout = _REGISTRY_SECONDS
    try:
        client.inspect_distribution(base)
    except docker.errors.APIError as error:
        return Check("base", "failed", f"{base} can't be pulled: {explanation(error)}", hint)
    except (docker.errors.DockerException, requests.RequestException) as error:
        return Check("base", "failed", f"{base} can't be pulled: {innermost(error)}", hint)
    except (AttributeError, TypeError, ValueError) as error:
        # The SDK reads the settings of credential helpers as they are.
        message = f"the credential helpers in Docker's config.json can't be used: {error}"
        return Check("base", "failed", message, "Correct credsStore and credHelpers there.")
    finally:
        client.close()
    return Check("base", "ok", f"{base} can be pulled")
