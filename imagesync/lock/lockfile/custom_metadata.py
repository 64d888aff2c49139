"""Facts about a lock that lock files have no field for, in the places that each format has for others' data.

These are ``metadata.custom_metadata`` of a ``conda-lock.yml``, which conda-lock preserves; the table
``tool.imagesync`` of a ``pylock.toml``; and comments of an explicit file. There is one line for each package,
so that a diff of lock files shows the changed packages. In a file for several platforms the keys of each
start with its section: ``imagesync/linux-aarch64.pip.numpy``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from imagesync.core.names import Level
from imagesync.core.strict_json import load_json
from imagesync.lock.lock import Deviation, Lock

if TYPE_CHECKING:
    from imagesync.lock.locked_packages import LockedConda
    from imagesync.plan.plan import Plan, PlannedPackage

FORMAT: Final = 1
HEAD: Final = "imagesync"
SHARED_FILES: Final = "shared_files"
# Keys of a locked conda package that an entry of conda-lock has no field for.
_CONDA_KEYS = ("subdir", "channel", "build_number", "noarch", "constrains", "distributions")


def to_metadata(plan: Plan, lock: Lock, *, not_in_image: Sequence[str] = ()) -> dict[str, str]:
    """Return the facts of *lock* and *plan* that the entries of the lock file have no field for.

    *not_in_image* are the conda packages that the file has for other tools.
    """
    target = lock.target
    head = {
        "format": FORMAT,
        "digest": lock.digest,
        "python": target.python_version,
        "glibc": ".".join(map(str, target.glibc)),
        "interpreter": plan.interpreter,
        "profile": plan.profile,
        "critical_imports": list(plan.critical_imports),
        "resolver": lock.resolver,
        **({"not_in_image": list(not_in_image)} if not_in_image else {}),
        **({SHARED_FILES: shared} if (shared := _shared_files(plan)) else {}),
    }
    lines: dict[str, Any] = {HEAD: head}
    lines |= {f"{HEAD}.conda.{package.name}": _conda(package) for package in lock.conda}
    for package in lock.packages:
        lines[f"{HEAD}.pip.{package.name}"] = {
            **_level(package.planned),
            **({"size": package.artifact.size} if package.artifact.size is not None else {}),
        }
    for vendored in lock.vendored:
        source = vendored.planned.source
        lines[f"{HEAD}.pip.{vendored.name}"] = {
            **_level(vendored.planned),
            "content": vendored.content,
            # Not its URL, which is a path of this machine.
            "source": source.kind,
            **({"repacked": vendored.repacked} if vendored.repacked else {}),
            **({"modified": True} if vendored.planned.as_installed else {}),
        }
    lines |= {f"{HEAD}.deviation.{each.name}": each.to_dict() for each in lock.deviations}
    return {key: json.dumps(value, separators=(",", ":")) for key, value in sorted(lines.items()) if value}


def to_sections(sections: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the facts of each platform in one mapping, by the subdirectory of channels for it.

    Those of a single platform stay as they are.

    >>> to_sections({"linux-64": {"imagesync.pip.a": "{}"}})
    {'imagesync.pip.a': '{}'}
    >>> to_sections({"linux-64": {"imagesync": "{}"}, "linux-aarch64": {"imagesync.pip.a": "{}"}})
    {'imagesync/linux-64': '{}', 'imagesync/linux-aarch64.pip.a': '{}'}
    """
    if len(sections) == 1:
        return dict(*sections.values())
    return {
        f"{HEAD}/{section}{key.removeprefix(HEAD)}": value
        for section, facts in sorted(sections.items())
        for key, value in facts.items()
    }


def section_of(metadata: Mapping[str, str], section: str) -> dict[str, str]:
    """Return the facts of one platform, with keys as in a file for it alone.

    >>> section_of({"imagesync/linux-64.pip.a": "{}", "imagesync/linux-aarch64": "{}"}, "linux-64")
    {'imagesync.pip.a': '{}'}
    """
    own = f"{HEAD}/{section}"
    is_divided = any(key.startswith(f"{HEAD}/") for key in metadata)
    if not is_divided:
        return {k: v for k, v in metadata.items() if k == HEAD or k.startswith(f"{HEAD}.")}
    known = (key for key in metadata if key == own or key.startswith(f"{own}."))
    return {HEAD + key.removeprefix(own): metadata[key] for key in known}


def _shared_files(plan: Plan) -> dict[str, list[str]]:
    from imagesync.scan.conda.shared_files import shared_files

    records = [package.record for package in plan.conda if package.record is not None]
    return {path: list(names) for path, names in shared_files(records, plan.python).items()}


def _conda(package: LockedConda) -> dict[str, Any]:
    document = package.to_dict()
    level = package.planned.level.value if package.planned is not None else None
    known = {**{key: document[key] for key in _CONDA_KEYS}, "size": package.artifact.size, "level": level}
    return {key: value for key, value in known.items() if value not in ("", [], None)}


def _level(planned: PlannedPackage | None) -> dict[str, str]:
    return {} if planned is None else {"level": planned.level.value}


def _facts(key: str, value: object) -> dict[str, Any]:
    """Return the facts of one line.

    Raises
    ------
    ValueError
        It isn't a JSON object, or has a level that isn't one.
    """
    facts = load_json(value) if isinstance(value, str) else None
    if not isinstance(facts, dict):
        raise ValueError(f"{key} isn't a JSON object")  # noqa: TRY004  callers know one error of parsing
    Level(facts.get("level", Level.EXACT.value))
    return facts


def _is_module(name: object) -> bool:
    return isinstance(name, str) and all(part.isidentifier() for part in name.split("."))


class CustomMetadata:
    """The ``custom_metadata`` of a lock file for one platform; empty for a lock file of another tool.

    *section* is the subdirectory of channels for the platform.

    Raises
    ------
    ValueError
        What imagesync wrote there was changed into something else.
    """

    def __init__(self, metadata: Mapping[str, str] | None, section: str = "") -> None:
        known = section_of(metadata or {}, section)
        lines = {key: _facts(key, value) for key, value in known.items()}
        head = lines.get(HEAD, {})
        imports = head.get("critical_imports", [])
        if not (isinstance(imports, list) and all(_is_module(name) for name in imports)):
            raise ValueError(f"{HEAD}.critical_imports are no names of modules: {str(imports)[:80]}")
        if not all(isinstance(head.get(key, ""), str) for key in ("profile", "resolver", "digest")):
            raise ValueError(f"{HEAD} has no texts for profile, resolver and digest")
        self._lines: dict[str, dict[str, Any]] = lines if head.get("format") == FORMAT else {}
        self.head: dict[str, Any] = head if self._lines else {}
        self._changed = False

    @property
    def is_ours(self) -> bool:
        """Return True if imagesync wrote the lock file, and its packages are unchanged."""
        return bool(self.head) and not self._changed

    @property
    def shared_conda_files(self) -> Mapping[str, tuple[str, ...]] | None:
        """Return the files that several conda packages had locally; ``None`` in a file of another tool.

        See :func:`~imagesync.scan.conda.shared_files.shared_files`.
        """
        found = self.head.get(SHARED_FILES, {})
        if not self.head or not isinstance(found, dict):
            return None
        return {
            path: tuple(map(str, names)) for path, names in found.items() if names and isinstance(names, list)
        }

    @property
    def not_in_image(self) -> frozenset[str]:
        """Return the names of the conda packages that the file has for other tools."""
        names = self.head.get("not_in_image")
        return frozenset(map(str, names)) if isinstance(names, list) else frozenset()

    def changed(self) -> CustomMetadata:
        """Return the metadata without the packages, for a file whose packages another tool has changed."""
        metadata = CustomMetadata({HEAD: json.dumps(self.head)})
        metadata._changed = True
        return metadata

    def conda_package(self, name: str) -> dict[str, Any]:
        """Return the keys of :meth:`LockedConda.from_dict` for a conda package, and its ``size``."""
        known = self.package("conda", name)
        return {key: known[key] for key in (*_CONDA_KEYS, "size") if key in known}

    def package(self, manager: str, name: str) -> dict[str, Any]:
        """Return the facts about a package; empty if there are none."""
        return self._lines.get(f"{HEAD}.{manager}.{name}", {})

    def level(self, manager: str, name: str) -> Level:
        """Return the level of a package, which is exact in a lock file of another tool."""
        return Level(self.package(manager, name).get("level", Level.EXACT.value))

    def deviations(self) -> tuple[Deviation, ...]:
        """Return the deviations from the locked environment."""
        found = [v for k, v in sorted(self._lines.items()) if k.startswith(f"{HEAD}.deviation.")]
        return tuple(map(Deviation.from_dict, found))
