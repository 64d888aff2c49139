"""The base image of environments: a root image with Python and system packages."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from imagesync.core.digests import sha256_of
from imagesync.core.image_reference import split_reference
from imagesync.core.platforms import DEFAULT_PLATFORM, Platform
from imagesync.core.strict_json import load_json
from imagesync.engine.lookup import BASE_REPOSITORY, root_digest
from imagesync.errors import BaseImageError, BuildError, RegistryError, UsageError
from imagesync.image.templates import Stage, base_target, dockerfile_base
from imagesync.image_layout import TAG_DIGITS, BaseImage, Label
from imagesync.settings.bases import base_hint, is_supported
from imagesync.settings.keys import is_apt_package
from imagesync.standalone.programs import program_text

if TYPE_CHECKING:
    from pathlib import Path

    from imagesync.core.progress import Progress
    from imagesync.engine.engine import Engine
    from imagesync.engine.images import EngineImage
    from imagesync.engine.lookup import Lookup
    from imagesync.lock.lock import Target
    from imagesync.plan.plan import Plan
    from imagesync.settings.model import Settings


def base_hash(digest: str, dockerfile: str, apt: Sequence[str], *, toolchain: bool = False) -> str:
    """Return ``sha256:<hex>`` over the inputs of a base image.

    Parameters
    ----------
    digest
        The root image's (:func:`root_digest`).
    dockerfile
        The text of ``Dockerfile.base``.
    apt
        System packages, in any order.
    toolchain
        Whether environments get its compiler.
    """
    inputs = json.dumps([digest, dockerfile, sorted(set(apt)), toolchain], ensure_ascii=True)
    return sha256_of(inputs)


def base_identity(digest: str, settings: Settings) -> str:
    """Return the base hash of the base image that *settings* describe, on a root image with that digest.

    Raises
    ------
    UsageError
        The name of a system package is wrong.
    """
    dockerfile = dockerfile_base(settings.templates)
    if settings.platform != DEFAULT_PLATFORM:
        # An index has one digest for all platforms.
        digest = f"{digest} {settings.platform}"
    return base_hash(digest, dockerfile, check_apt(settings.apt), toolchain=settings.toolchain)


def check_apt(apt: Sequence[str]) -> tuple[str, ...]:
    """Return the names of system packages, sorted and without duplicates.

    Raises
    ------
    UsageError
        A name isn't one that apt-get takes.
    """
    for name in apt:
        if not is_apt_package(name):
            raise UsageError(
                f"{name!r} can't be the name of a system package.",
                hint="Write names as `apt-get install` takes them, one an entry of `apt`, such as libgl1.",
            )
    return tuple(sorted(set(apt)))


def check_interpreter(base: BaseImage, plan: Plan, *, subject: str = "The environment") -> None:
    """Check that the base's interpreter has the local one's feature version; the patch level may differ.

    *subject* is what needs the interpreter, in the message: the environment, or a lock file.
    If the image's interpreter is conda's, that of the base only runs the installer, and need not be the same.

    Raises
    ------
    BaseImageError
        It has another feature version, which compiled packages and bytecode don't support; or one that is
        older than what ``Dockerfile.base`` accepts.
    """
    local = plan.python
    if plan.interpreter == "conda" or base.minor == local.minor:
        if is_supported(base.minor):
            return
        raise BaseImageError(
            f"The base image {base.root} has Python {base.python_version}, which is older than what a base"
            " image needs.",
            hint=base_hint("" if plan.interpreter == "conda" else local.minor),
        )
    if not base.python_version:
        raise BaseImageError(
            f"Which Python the base image {base.root} has isn't known.",
            hint=f"Say it: --target-python {local.minor}; or start an engine, which can ask the image.",
        )
    hint = base_hint(local.minor)
    if subject != "The environment":
        raise BaseImageError(
            f"{subject} is for Python {local.version}, and the base image {base.root} has"
            f" {base.python_version}.",
            hint=f"{hint}\nOr lock again for Python {base.minor}.",
        )
    raise BaseImageError(
        f"The environment has Python {local.version}, and the base image {base.root} has"
        f" {base.python_version}.",
        hint=f"{hint}\nOr make the environment with Python {base.minor}.",
    )


def ensure_base(engine: Engine, *, settings: Settings, progress: Progress) -> BaseImage:
    """Return the base image for these settings: found by the hash of its inputs, else built.

    The root image is pulled if the engine doesn't have it. The build needs a network only if the root image
    lacks something, or if the settings name system packages.

    Raises
    ------
    BaseImageError
        The root image can't be pulled or isn't usable, or the build fails.
    UsageError
        The name of a system package is wrong.
    """
    check_apt(settings.apt)
    root = _root_image(engine, settings.base, settings.platform, progress)
    digest = root_digest(root.image_id, root.digests, settings.base)
    identity = base_identity(digest, settings)
    reference = base_reference(identity)
    image = engine.inspect(reference)
    if image is None or not _is_described(image.labels, identity):
        if image is None:
            progress.line(f"Making the base image {reference} from {settings.base}, once")
            stage: Stage = "build" if settings.toolchain else "runtime"
            _build(engine, reference, stage, settings, identity=identity, progress=progress)
        image = _describe(engine, reference, settings, identity, progress=progress)
    return _base_image(image.image_id, image.labels, identity=identity, digest=digest, settings=settings)


def ensure_stage(
    engine: Engine, base: BaseImage, stage: Stage, *, settings: Settings, progress: Progress
) -> BaseImage:
    """Return *base* with the reference of another stage of its ``Dockerfile.base``, built if it's missing.

    Raises
    ------
    BaseImageError
        The build fails.
    """
    reference = base.minimal if stage == "minimal" else base.for_wheels
    if engine.inspect(reference) is None:
        purpose = "build wheels in" if stage == "build" else "build on"
        progress.line(f"Making the base image {reference} from {settings.base}, to {purpose}, once")
        _build(engine, reference, stage, settings, identity=base.base_hash, progress=progress)
    return replace(base, reference=reference)


def target_of(plan: Plan, base: BaseImage) -> Target:
    """Return the target that an image of *plan* on *base* is locked for.

    If the patch level of the base's Python isn't known, it's the local one.
    """
    from imagesync.lock.lock import Target

    local = plan.python
    version = local.version if base.python_version == local.minor else base.python_version
    versions = (package.version for package in plan.conda if package.name == "python")
    return Target(plan.platform, next(versions, version), base.glibc)


def find_base(lookup: Lookup, *, settings: Settings) -> BaseImage | None:
    """Return the base image for these settings, or ``None`` if the look-up hasn't found it.

    Raises
    ------
    UsageError
        The name of a system package is wrong.
    """
    if lookup.base_digest is None:
        return None
    identity = base_identity(lookup.base_digest, settings)
    _, tag = split_reference(base_reference(identity))
    found = next((image for image in lookup.base_images if tag in image.tags), None)
    if found is None or not _is_described(found.labels, identity):
        return None
    return _base_image(
        found.image_id, found.labels, identity=identity, digest=lookup.base_digest, settings=settings
    )


def base_reference(identity: str) -> str:
    """Return the name of the base image of a base hash."""
    return f"{BASE_REPOSITORY}:{identity.removeprefix('sha256:')[:TAG_DIGITS]}"


def _base_image(
    image_id: str, labels: Mapping[str, str], *, identity: str, digest: str, settings: Settings
) -> BaseImage:
    facts = load_json(labels[Label.BASE])
    return BaseImage(
        reference=base_reference(identity),
        root=settings.base,
        digest=digest,
        image_id=image_id,
        python_version=facts["version"],
        python_executable=facts["executable"],
        glibc=_glibc(facts, settings),
        base_hash=identity,
        apt=check_apt(settings.apt),
        toolchain=settings.toolchain,
    )


def _root_image(engine: Engine, reference: str, platform: Platform, progress: Progress) -> EngineImage:
    image = engine.inspect(reference)
    if image is None or not platform.is_platform_of(image.platform):
        try:
            image = engine.pull(reference, platform=platform.name, progress=progress)
        except RegistryError as error:
            raise BaseImageError(
                f"The base image {reference} isn't here, and can't be pulled: {error.message}",
                hint=error.hint or "Name an image that can be had with --base, or see `docker login`.",
            ) from error
    if not platform.is_platform_of(image.platform):
        raise BaseImageError(
            f"The base image {reference} is for {image.platform}, and the image is made for {platform}.",
            hint=f"Name another one with --base, or `docker pull --platform {platform} {reference}`.",
        )
    return image


def _build(
    engine: Engine,
    reference: str,
    stage: Stage,
    settings: Settings,
    *,
    identity: str,
    progress: Progress,
) -> None:
    from imagesync.engine.build_context import BuildRequest

    root, dockerfile = settings.base, dockerfile_base(settings.templates)
    request = BuildRequest(
        network="default",
        platform=settings.platform.name,
        build_args={"BASE": root, "APT": " ".join(check_apt(settings.apt))},
        target=base_target(dockerfile, stage) or None,
        labels={Label.BASE_HASH: identity},
    )
    try:
        engine.tag(engine.build_dockerfile(dockerfile, request, progress=progress), reference)
    except BuildError as error:
        raise BaseImageError(
            f"The base image can't be made from {root}. {error.message}",
            hint=_advice(error.message, settings.templates),
        ) from error


def _advice(log: str, templates: Path | None) -> str:
    """Return the hint for a failed build of the base."""
    if re.search(r"Temporary failure|Could not (resolve|connect)|Failed to fetch|Unable to connect", log):
        return (
            "Making the base image needs the servers of its distribution. Behind a proxy, set `proxies`"
            " in Docker's config.json. Without a network, name an image with --base that has python3 and"
            " ca-certificates already; for wheels that are built in it python3-dev, python3-venv and"
            " build-essential, too."
        )
    # Second, because without its lists apt knows no package.
    if "Unable to locate package" in log or "has no installation candidate" in log:
        return "Correct the package's name in `apt`, or see whether this distribution has it."
    if templates is not None and (own := templates / "Dockerfile.base").is_file():
        return f"Correct {own}. Its commands run as the user of the image in `base`, without `USER root`."
    return "Name an image with --base that has apt-get, or Python 3.10 or later with the module venv."


def _is_described(labels: Mapping[str, str], identity: str) -> bool:
    # If the root image is a base image itself, its label is inherited.
    facts = load_json(labels.get(Label.BASE, "{}"))
    return bool(facts.get("base_hash") == identity)


def _describe(
    engine: Engine, reference: str, settings: Settings, identity: str, *, progress: Progress
) -> EngineImage:
    """Return the image with the facts of its interpreter in a label, so that it is asked only once."""
    from imagesync.engine.build_context import BuildRequest
    from imagesync.engine.run_container import RunRequest

    root = settings.base
    bare = engine.inspect(reference)
    command = ("python3", "-c", program_text("image.base_facts"))
    result = engine.run(RunRequest(reference, command, timeout=120))
    if result.exit_code != 0:
        message = result.stderr.decode(errors="replace").strip()[-2000:]
        raise BaseImageError(f"The interpreter of the base image {root} doesn't start: {message}")
    facts = {**load_json(result.stdout), "base_hash": identity}
    _glibc(facts, settings)
    request = BuildRequest(
        network="none",
        platform=settings.platform.name,
        labels={Label.BASE: json.dumps(facts, sort_keys=True)},
    )
    engine.tag(engine.build_dockerfile(f"FROM {reference}\n", request, progress=progress), reference)
    described = engine.inspect(reference)
    if described is None:
        raise BaseImageError(f"The base image {reference} was removed while it was made.", hint="Try again.")
    # It has lost its tag, and its layers are those of the described image.
    if bare is not None and bare.image_id != described.image_id:
        engine.discard(bare.image_id)
    return described


def _glibc(facts: dict[str, Any], settings: Settings) -> tuple[int, int]:
    """Return the version of the C library, after checking that the interpreter supports wheels for Linux."""
    root, machine = settings.base, settings.platform.machine
    if facts["implementation"] != "cpython" or facts["machine"] != machine:
        raise BaseImageError(
            f"The base image {root} has {facts['implementation']} for {facts['machine']},"
            f" and the image is made with CPython for {machine}.",
            hint="Name another one with --base.",
        )
    # A base image that was made before has no such fact.
    if facts.get("free_threaded"):
        raise BaseImageError(
            f"The base image {root} has a free-threaded build of CPython, which the usual wheels don't fit.",
            hint="Name one with the usual build with --base.",
        )
    found = re.fullmatch(r"glibc (\d+)\.(\d+).*", facts["libc"])
    if found is None:
        raise BaseImageError(
            f"The base image {root} has no GNU C library, which most compiled wheels need.",
            hint="Name an image of Ubuntu, Debian or Red Hat with --base; Alpine has another C library.",
        )
    return int(found[1]), int(found[2])
