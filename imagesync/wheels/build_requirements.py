"""Build requirements: those that an interpreter doesn't meet, and a cache of their resolved versions.

The first is for builds without isolation. With the second, a build after an edit asks no index: where the
environment of the last build can't be taken, uv installs the wheels of versions that are cached for an hour,
from its own cache, without a resolution and without a network.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName
from packaging.version import InvalidVersion

from imagesync.core.cache_file import cache_path, read_cache, write_cache
from imagesync.core.digests import file_hexdigest, sha256_of
from imagesync.core.names import canonical_name
from imagesync.errors import WheelError
from imagesync.standalone.programs import program_path

if TYPE_CHECKING:
    from imagesync.scan.environment import Interpreter

FRESH = 3600
"""The age in seconds after which requirements are resolved again."""
_FORMAT = 2
_FILES = ("UV_CONSTRAINT", "UV_BUILD_CONSTRAINT", "UV_OVERRIDE")


@dataclass(frozen=True)
class InstalledRequirements:
    """The distributions that an interpreter can import.

    Parameters
    ----------
    distributions
        Canonical name to version and requirements.
    markers
        The interpreter's marker environment.
    """

    distributions: Mapping[NormalizedName, tuple[str, tuple[str, ...]]]
    markers: Mapping[str, str]

    @property
    def digest(self) -> str:
        """Return ``sha256:<hex>`` over the names and versions."""
        versions = sorted((name, version) for name, (version, _) in self.distributions.items())
        return sha256_of(json.dumps(versions))

    def unmet(self, requirements: Iterable[str]) -> tuple[str, ...]:
        """Return the direct and indirect *requirements* that no installed distribution meets.

        ``build --no-isolation`` checks the same, but for the interpreter that runs it.
        """
        return tuple(sorted(set(self._unmet(requirements, frozenset({""}), set()))))

    def _unmet(self, lines: Iterable[str], extras: frozenset[str], seen: set[str]) -> Iterator[str]:
        for line in lines:
            try:
                requirement = Requirement(line)
            except InvalidRequirement:
                continue  # in metadata of an installed distribution
            marker = requirement.marker
            if marker and not any(marker.evaluate({**self.markers, "extra": extra}) for extra in extras):
                continue
            requirement.marker = None
            if str(requirement) in seen:
                continue
            seen.add(str(requirement))
            installed = self.distributions.get(canonical_name(requirement.name))
            if installed is None or not _allows(requirement, installed[0]):
                yield str(requirement)
            else:
                yield from self._unmet(installed[1], frozenset({"", *requirement.extras}), seen)


def installed_requirements(python: Interpreter) -> InstalledRequirements:
    """Return the distributions that *python* can import.

    Raises
    ------
    WheelError
        Only files were scanned, or the interpreter can't be run.
    """
    if not python.executable:
        raise WheelError(
            f"The setting 'no-isolation' builds with the interpreter of {python.prefix}, "
            "and only the files there were read.",
            hint="Name the interpreter (--python PATH) instead of the folder, or remove the setting.",
        )
    try:
        # Neither PYTHONPATH nor the current folder, which `-c` imports from, is part of the environment.
        done = subprocess.run(
            [python.executable, "-E", "-B", str(program_path("host.installed_requirements"))],
            cwd=python.prefix,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
        )
        found = json.loads(done.stdout.decode())
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        raise WheelError(
            f"{python.executable} doesn't say what is installed beside it: {error}",
            hint=f"See whether it starts: {python.executable} -c 'import importlib.metadata'",
        ) from error
    return InstalledRequirements(
        {canonical_name(name): (version, tuple(requires)) for name, (version, requires) in found.items()},
        python.markers,
    )


def can_find_module(python: Interpreter, module: str) -> bool:
    """Return True if the interpreter *python* finds the top-level module *module*, which isn't imported."""
    if not python.executable or not module.isidentifier():
        return False
    # As in an isolated build, the current folder, which `-c` imports from, doesn't count.
    code = "import sys; del sys.path[0]; import importlib.util as u; sys.exit(not u.find_spec(sys.argv[1]))"
    try:
        done = subprocess.run(
            [python.executable, "-E", "-B", "-c", code, module],
            cwd=python.prefix,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0


def _allows(requirement: Requirement, version: str) -> bool:
    try:
        return requirement.specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return False


class BuildPins:
    """The versions that build requirements got before.

    Parameters
    ----------
    folder
        Where they are kept.
    indexes
        The indexes that they come from.
    environ
        The variables that uv gets.
    """

    def __init__(
        self, folder: Path, *, python: Interpreter, indexes: str, environ: Mapping[str, str]
    ) -> None:
        self._folder = folder
        variables = sorted((key, value) for key, value in environ.items() if key.startswith("UV_"))
        facts = [python.implementation, python.version, python.platform, indexes, variables]
        facts += _digests(environ)
        # Hashed, because the URLs of indexes may hold passwords.
        self.identity = hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def recall(self, requirements: Collection[str]) -> str | None:
        """Return the cached pins of *requirements*, one a line; ``None`` if there are none, or old ones."""
        pins = read_cache(self._path(requirements), key=_FORMAT, max_age=FRESH)
        return None if pins is None else str(pins)

    def remember(self, requirements: Collection[str], pins: str) -> None:
        """Cache the *pins* of *requirements*, unless there is a file or URL, whose content may change."""
        if any("@" in line or "/" in line for line in (*requirements, *pins.splitlines())):
            return
        write_cache(self._path(requirements), pins, key=_FORMAT)

    def _path(self, requirements: Collection[str]) -> Path:
        return cache_path(self._folder, self.identity, sorted(requirements))


def _digests(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the digests of constraint files, whose content may change."""
    paths = (_path(entry) for name in _FILES for entry in environ.get(name, "").split())
    yield from (file_hexdigest(path) for path in paths if path.is_file())


def _path(entry: str) -> Path:
    return Path(url2pathname(urlsplit(entry).path) if entry.startswith("file:") else entry).expanduser()
