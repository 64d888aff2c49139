"""The values of reading a lock file: the request, the part of the file to take, and what was read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from imagesync.core.credentials import reason_of
from imagesync.core.limits import LOCK_FILE
from imagesync.core.platforms import Platform
from imagesync.errors import UsageError
from imagesync.lock.lock import Lock, Target
from imagesync.lock.lockfile.custom_metadata import CustomMetadata

if TYPE_CHECKING:
    import yaml
    from packaging.utils import NormalizedName

_ALIASES = re.compile(r"(^|[\s,\[{:-])&[^\s,\[\]{}]", re.MULTILINE)
_MOST_NODES = 100_000

_NAMES = ("conda-lock.yml", "pylock.toml", "uv.lock", "pixi.lock")
# How other tools write their lock files.
_COMMANDS = {
    "uv.lock": "uv lock",
    "pixi.lock": "pixi lock",
    "poetry.lock": "poetry lock",
    "pdm.lock": "pdm lock",
    "Pipfile.lock": "pipenv lock",
}


@dataclass(frozen=True)
class Selection:
    """The part of a lock file that is taken, besides the project's dependencies.

    Parameters
    ----------
    groups, extras
        Names of dependency groups and extras; in a ``conda-lock.yml`` both are categories.
    no_dev
        Leave out the group ``dev`` where it is a default one.
    environment
        The environment of a ``pixi.lock``; empty for the default one.
    """

    groups: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    no_dev: bool = False
    environment: str = ""

    def __bool__(self) -> bool:
        return self != Selection()

    def require_file(self, path: Path | None) -> None:
        """Check that there is a file to choose from.

        Raises
        ------
        UsageError
            There is none.
        """
        if path is None:
            raise UsageError(
                "--group, --extra, --no-dev and --environment choose from a file.",
                hint="Name it: --locked FILE, or --from FILE",
            )


class ReadRequest(NamedTuple):
    """A request to read a lock file.

    Parameters
    ----------
    path
        The lock file.
    target
        Returns the platform and interpreter of the image. It is only called for a file that has several
        artifacts of a package, or doesn't say which Python it is for.
    environ
        Environment variables, for credentials in URLs (``${TOKEN}``) and for uv.
    platform
        That of the image.
    selection
        The part to take.
    """

    path: Path
    target: Callable[[], Target]
    environ: Mapping[str, str]
    platform: Platform
    selection: Selection = Selection()


@dataclass(frozen=True)
class ReadLock:
    """A lock file, read for one platform.

    Parameters
    ----------
    path
        The lock file.
    lock
        The lock. Its target has what the file records; conda packages in files of other tools lack facts
        that only their archives have, and the vendored packages of a source tree or a commit the digest of
        what their wheel is made from.
    custom_metadata
        Facts that imagesync recorded beside the entries.
    interpreter_version
        Of Python, with the patch level; empty if the file doesn't record it.
    left_out
        Names of packages that only other groups, extras or environments have, sorted.
    others
        Names of these groups, extras and environments, sorted.
    private
        URLs with their credentials.
    hashes
        By name of a package whose artifact isn't known, the digests that it may have.
    is_exact
        Whether an environment differs from it by another version, even if its level allows that.
    is_pip_only
        Whether the format has no conda packages.
    index_options
        Options of a requirements file that say where packages are, without credentials.
    """

    path: Path
    lock: Lock
    custom_metadata: CustomMetadata = field(default_factory=lambda: CustomMetadata(None))
    interpreter_version: str = ""
    left_out: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    private: tuple[str, ...] = field(default=(), repr=False)
    hashes: Mapping[NormalizedName, frozenset[str]] = field(default_factory=dict)
    is_exact: bool = True
    is_pip_only: bool = False
    index_options: tuple[str, ...] = ()


def read_text(path: Path) -> str:
    """Return the text of a lock file.

    Raises
    ------
    UsageError
        It can't be read, isn't UTF-8, or is YAML that a few aliases expand beyond any lock file.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LOCK_FILE + 1)
        if len(content) > LOCK_FILE:
            raise UsageError(
                f"{path} isn't a lock file: it is larger than {LOCK_FILE >> 20} MB.",
                hint="Name another file.",
            )
        text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} isn't a lock file: it isn't UTF-8.", hint="Name another file.") from error
    if (path.suffix in (".yml", ".yaml") or path.name == "pixi.lock") and _ALIASES.search(text):
        _refuse_expansion(path, text)
    return text


def unreadable(path: Path, error: OSError) -> UsageError:
    """Return the error for a lock file that can't be read; its hint is how one of that name is made."""
    command = _COMMANDS.get(path.name)
    if command is None and (path.suffix in (".yml", ".yaml", ".txt") or path.name.startswith("pylock.")):
        command = f"imagesync lock -o {path}"
    there = [name for name in _NAMES if (path.parent / name).is_file()]
    names = f"; {' and '.join(there)} {'is' if len(there) == 1 else 'are'} there" if there else ""
    return UsageError(
        f"The lock file {path} can't be read: {error.strerror or 'it is not there'}{names}.",
        hint=f"Write it: {command}"
        if command
        else f"Name a lock file: {', '.join(_NAMES)} or hashed requirements.",
    )


def _refuse_expansion(path: Path, text: str) -> None:
    """Check that the YAML in *text* has a usual number of nodes once its aliases are expanded."""
    import yaml

    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = _MOST_NODES  # of a node that holds itself
            sizes[id(node)] = 1 + sum(map(size, _children(node)))
        return sizes[id(node)]

    try:
        root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        expanded = 0 if root is None else size(root)
    except (yaml.YAMLError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else reason_of(error)
        raise UsageError(f"{path} isn't YAML that can be read: {reason}", hint="Lock again.") from error
    if expanded > _MOST_NODES:
        raise UsageError(
            f"{path} isn't a lock file: its YAML aliases expand to more than {_MOST_NODES:,} nodes.",
            hint="Lock again. No tool that writes lock files writes such aliases.",
        )


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node.value, str):
        return
    for entry in node.value:
        yield from entry if isinstance(entry, tuple) else (entry,)
