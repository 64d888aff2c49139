"""Facts about a base image that a lock needs, for machines without an engine that can run it.

For each fact the first of these counts: a flag, the image's registry, an engine's earlier
answer, a table of well-known images.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.core.strict_json import load_json
from imagesync.errors import BaseImageError, RegistryError, UsageError
from imagesync.image.base import base_identity, base_reference, check_apt
from imagesync.image_layout import BaseImage, Label
from imagesync.settings.bases import find_release, well_known
from imagesync.store.layout import ANSWERS

if TYPE_CHECKING:
    from imagesync.core.platforms import Platform
    from imagesync.core.progress import Progress
    from imagesync.registry.registry import RemoteImage
    from imagesync.settings.model import Settings

_FORMAT: Final = 1
_ON_THE_PATH: Final = "python3"
_TABLE: Final = "imagesync's table of well-known images"
# The first line of the history of everything that is based on a Debian image of Docker Hub.
_DEBIAN = re.compile(r"# debian\.sh .* out/ '(?P<codename>[a-z]+)' '@\d+'")


@dataclass(frozen=True)
class Facts:
    """The facts about a base image from one source; empty or ``None`` if it doesn't have them.

    Parameters
    ----------
    origin
        The source, in words.
    python
        Such as ``3.12.3``, or ``3.12``.
    glibc
        Such as ``(2, 39)``.
    executable
        The interpreter's path.
    """

    origin: str
    python: str = ""
    glibc: tuple[int, int] | None = None
    executable: str = ""


def _asked_for(settings: Settings) -> Facts:
    """Return the facts in the settings: ``--target-python`` and ``--target-glibc``."""
    glibc = _version(settings.target_glibc) if settings.target_glibc else None
    return Facts("as you say", settings.target_python, glibc)


def refuse_contradiction(settings: Settings, known: Facts, *, patch_level: bool = True) -> None:
    """Check that the settings don't contradict the *known* facts about the base image.

    Parameters
    ----------
    settings
        The user's settings, with ``--target-python`` and ``--target-glibc``.
    known
        The facts of another source.
    patch_level
        Whether the known patch level of Python is certain.

    Raises
    ------
    UsageError
        They contradict them.
    """
    requested = _asked_for(settings)
    if requested.python and known.python and not _same_python(requested.python, known.python, patch_level):
        raise _contradiction(
            settings, "target-python", requested.python, f"Python {known.python}", known.origin
        )
    if requested.glibc and known.glibc and requested.glibc != known.glibc:
        glibc = f"glibc {_dotted(known.glibc)}"
        raise _contradiction(settings, "target-glibc", _dotted(requested.glibc), glibc, known.origin)


def facts_of(base: BaseImage, origin: str = "the engine") -> Facts:
    """Return the facts that *base*, an image in an engine, records."""
    return Facts(origin, base.python_version, base.glibc, base.python_executable)


def known_base(
    settings: Settings, *, cache: Path, progress: Progress, digest: str = "", problem: str = ""
) -> BaseImage | None:
    """Return the base image for these settings as far as it is known without making it.

    Parameters
    ----------
    settings
        Name the root image and the system packages.
    cache
        The folder of earlier answers of engines.
    progress
        Reports the facts and their sources.
    digest
        Of the root image, if an engine has it: its registry isn't asked then.
    problem
        Why no engine can make the base image; empty if one can.

    Returns
    -------
    BaseImage or None
        Its Python may be unknown. ``None`` if too little is known and an engine can tell.

    Raises
    ------
    UsageError
        A flag contradicts what is known.
    BaseImageError
        No engine can tell, and the C library isn't known.
    """
    requested = _asked_for(settings)
    complete = bool(requested.python and requested.glibc)
    if digest and not complete:
        return None
    sources, pinned, problems = [requested], "", [problem] if problem else []
    if not complete:
        try:
            found = _read(settings.base, settings.platform, progress)
        except RegistryError as error:
            problems.append(error.message)
        else:
            digest, pinned = found.digest, found.reference
            sources += registry_facts(found.config)
    sources += _recall(cache, digest or settings.base, settings.platform)
    for source in sources[1:]:
        refuse_contradiction(settings, source)
    for source in _from_table(settings.base):
        refuse_contradiction(settings, source, patch_level=False)
        sources.append(source)
    python, glibc = _python(sources), next((source for source in sources if source.glibc), None)
    if glibc is None or not python.python:
        if not problem:
            return None
        if glibc is None:
            raise unknown_base(settings.base, problems)
    progress.line(_line(settings.base, python, glibc))
    return _base_image(settings, replace(python, glibc=glibc.glibc), digest=digest, pinned=pinned)


def known_python(settings: Settings, *, cache: Path, digest: str) -> str:
    """Return the full version of Python in the base image; empty if it isn't known without a network.

    Parameters
    ----------
    settings
        Name the root image.
    cache
        The folder of earlier answers of engines.
    digest
        Of the root image.
    """
    sources = [*_recall(cache, digest, settings.platform), *_from_table(settings.base)]
    return next((source.python for source in sources if source.python.count(".") == 2), "")


def _python(sources: Sequence[Facts]) -> Facts:
    """Return the first of *sources* that knows the interpreter, with the patch level that another adds."""
    first = next((source for source in sources if source.python), Facts(""))
    precise = (s.python for s in sources if first.python and s.python.startswith(f"{first.python}."))
    executables = (source.executable for source in sources if source.executable)
    return replace(
        first, python=next(precise, first.python), executable=next(executables, "") or _ON_THE_PATH
    )


def _base_image(settings: Settings, facts: Facts, *, digest: str, pinned: str) -> BaseImage:
    assert facts.glibc is not None  # noqa: S101  what isn't known was refused before
    apt = check_apt(settings.apt)
    identity = base_identity(digest or settings.base, settings)
    return BaseImage(
        reference=base_reference(identity),
        root=settings.base,
        digest=digest,
        image_id="",
        python_version=facts.python,
        python_executable=facts.executable,
        glibc=facts.glibc,
        base_hash=identity,
        apt=apt,
        pinned=pinned,
        toolchain=settings.toolchain,
    )


def registry_facts(config: Mapping[str, Any]) -> Iterator[Facts]:
    """Yield the facts in the configuration of an image, which a registry sends without a layer.

    Only reliable facts count: imagesync's own label, the variables of the official images of Python,
    and the distribution that the image is based on. An image's own Python is the distribution's only if
    nothing was put on it.

    Parameters
    ----------
    config
        The OCI image configuration.
    """
    container = config.get("config") or {}
    labels = container.get("Labels") or {}
    with suppress(ValueError, LookupError, TypeError):
        recorded = load_json(labels[Label.BASE])
        match = re.fullmatch(r"glibc (\d+\.\d+).*", recorded["libc"])
        if match is not None:
            yield Facts("its registry", recorded["version"], _version(match[1]), recorded["executable"])
    variables = dict(entry.partition("=")[::2] for entry in container.get("Env") or ())
    python = variables.get("PYTHON_VERSION", "")
    official = "GPG_KEY" in variables or "PYTHON_SHA256" in variables
    if official and re.fullmatch(r"3\.\d+\.\d+", python):
        yield Facts("its registry", python, executable="/usr/local/bin/python3")
    release = None
    if labels.get("org.opencontainers.image.ref.name") == "ubuntu":
        release = find_release("ubuntu", labels.get("org.opencontainers.image.version", ""))
    for step in config.get("history") or ():
        if match := _DEBIAN.search(step.get("created_by", "")):
            release = find_release("debian", match["codename"])
    if release is not None:
        bare = len((config.get("rootfs") or {}).get("diff_ids") or ()) == 1
        distribution = f"its registry: {release.distribution.title()} {release.codename}"
        yield Facts(distribution, release.python if bare else "", release.glibc)


def remember(cache: Path, base: BaseImage, platform: Platform) -> None:
    """Cache the facts that an engine reported about *base* for *platform*, by its digest and by its name."""
    content = {"python": base.python_version, "glibc": list(base.glibc), "executable": base.python_executable}
    for name in (base.digest, base.root):
        path = _path(cache, name, platform)
        if read_cache(path, key=_FORMAT) != content:
            write_cache(path, content, key=_FORMAT)


def _recall(cache: Path, name: str, platform: Platform) -> list[Facts]:
    known = read_cache(_path(cache, name, platform), key=_FORMAT)
    if known is None:
        return []
    major, minor = known["glibc"]
    return [Facts("what an engine said of it before", known["python"], (major, minor), known["executable"])]


def _path(cache: Path, name: str, platform: Platform) -> Path:
    # An index has one digest, and one name, for all platforms.
    return cache_path(cache / ANSWERS, "base", name, platform.name)


def _read(reference: str, platform: Platform, progress: Progress) -> RemoteImage:
    from imagesync.registry.registry import read_config

    found = read_config(reference, platform=platform.name, progress=progress)
    if found is None:
        raise RegistryError(f"Its registry has no {reference}.")
    return found


def _from_table(reference: str) -> list[Facts]:
    known = well_known(reference)
    if known is None:
        return []
    origin = f"{_TABLE}: {known.release}" if known.release else _TABLE
    return [Facts(origin, known.python, known.glibc, known.executable)]


def _same_python(requested: str, known: str, patch_level: bool) -> bool:
    one, other = (version.split(".")[: 3 if patch_level else 2] for version in (requested, known))
    shared = min(len(one), len(other))
    return one[:shared] == other[:shared]


def _contradiction(settings: Settings, key: str, requested: str, known: str, origin: str) -> UsageError:
    where = settings.origins.get(key.replace("-", "_"), f"--{key}")
    return UsageError(
        f"The base image {settings.base} has {known} ({origin}), and {where} says {requested}.",
        hint=f"Leave --{key} away, or name the image that you mean with --base.",
    )


def unknown_base(base: str, problems: Sequence[str]) -> BaseImageError:
    """Return the error for a base image whose C library isn't known, for the reasons in *problems*."""
    return BaseImageError(
        f"Which C library the base image {base} has isn't known.\n" + "\n".join(problems),
        hint="Say what it has: --target-python 3.12 --target-glibc 2.39, as `python3 --version` and"
        " `ldd --version` in it print them. Or start an engine, which can ask the image.",
    )


def _line(base: str, python: Facts, glibc: Facts) -> str:
    library = f"glibc {_dotted(glibc.glibc or (0, 0))}"
    if not python.python:
        return f"{base}: {library} ({glibc.origin})"
    if python.origin == glibc.origin:
        return f"{base}: Python {python.python}, {library} ({glibc.origin})"
    return f"{base}: Python {python.python} ({python.origin}), {library} ({glibc.origin})"


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
