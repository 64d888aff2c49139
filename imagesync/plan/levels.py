"""Levels and profiles: how closely packages in the image must match the local ones.

A level is a rule by canonical name or by pattern with ``*``, shipped or from the user's settings
(``[tool.imagesync.levels]``), with the reason that the user is shown. Packages without a rule are
"compatible". A profile lists the packages that a kind of cluster can't do without: these critical packages
must be installed, and the image gets exactly the local versions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, NamedTuple

from imagesync.core.names import Level, canonical_name, canonical_pattern, nearest
from imagesync.errors import UsageError

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from imagesync.scan.environment import Environment

LEVELS: Final[dict[str, dict[str, str]]] = {
    "nearest": {
        # Packages that Dask's version check compares (optional_packages of distributed/versions.py), and
        # packages whose data is sent between client and workers: pickled arrays and frames, Arrow messages,
        # Parquet, compressed frames.
        "numpy": "Arrays are pickled between your machine and the image, and their format changes"
        " between releases.",
        "pandas": "Data frames are pickled between your machine and the image, and their internals"
        " change between releases.",
        "pyarrow": "Arrow data and Parquet files pass between your machine and the image, and must be"
        " read as they were written.",
        "polars": "Data frames are pickled between your machine and the image, and their internals"
        " change between releases.",
        "blosc": "What one side compresses, the other must be able to decompress.",
        "blosc2": "What one side compresses, the other must be able to decompress.",
        "brotli": "What one side compresses, the other must be able to decompress.",
        "cramjam": "What one side compresses, the other must be able to decompress.",
        "lz4": "What one side compresses, the other must be able to decompress; Dask compares its version.",
        "numcodecs": "What one side compresses, the other must be able to decompress.",
        "python-snappy": "What one side compresses, the other must be able to decompress.",
        "zstandard": "What one side compresses, the other must be able to decompress.",
        # Their pickles check the version when they are loaded, or are only guaranteed within one version.
        "dill": "Functions pickled with it are promised to load only with the same version.",
        "scikit-learn": "Fitted models are pickled, and load reliably only with the version that wrote them.",
        # Compiled kernels and extension types are tied to one another's binary interface.
        "llvmlite": "numba works with exactly one release of it.",
        "numba": "Compiled functions are pickled between your machine and the image.",
        "torch": "Models and tensors are pickled between your machine and the image, and its add-ons"
        " are built against one release.",
    },
    "ignore": {
        "imagesync": "It makes the image and has no part in it.",
        "conda": "It manages environments, and that of the image is complete.",
        "conda-libmamba-solver": "It is of conda, which manages environments.",
        "libmamba": "It is of conda and mamba, which manage environments.",
        "libmambapy": "It is of conda and mamba, which manage environments.",
        "mamba": "It manages environments, and that of the image is complete.",
        "pip": "The image is complete when it is built, and its process can't install anything, so pip"
        " has no use there.",
    },
    "ignore-unless-requested": {
        "setuptools": "It builds packages, and the image gets them built.",
        "wheel": "It builds packages, and the image gets them built.",
    },
    "platform-only": {
        # Distributions for Windows or macOS only. The conda packages have neither linux-64 nor noarch builds.
        "appnope": "It exists for macOS only.",
        "cctools-osx-*": "It is of the compiler for macOS.",
        "clang-osx-*": "It is the compiler for macOS.",
        "clangxx-osx-*": "It is the compiler for macOS.",
        "compiler-rt-osx-*": "It is of the compiler for macOS.",
        "gfortran-osx-*": "It is the compiler for macOS.",
        "ld64-osx-*": "It is the linker for macOS.",
        "libcxx": "It is the C++ runtime of macOS.",
        "python.app": "It exists for macOS only.",
        "sigtool": "It signs programs of macOS.",
        "tapi": "It is of the linker for macOS.",
        "pyobjc": "It exists for macOS only.",
        "pyobjc-*": "It exists for macOS only.",
        "rumps": "It exists for macOS only.",
        "tensorflow-macos": "It exists for macOS only.",
        "tensorflow-metal": "It exists for macOS only.",
        "comtypes": "It exists for Windows only.",
        "console-shortcut": "It makes entries of the start menu, on the user's desktop only.",
        "icc-rt": "It is the runtime of a compiler for Windows.",
        "m2-*": "It exists for Windows only.",
        "m2w64-*": "It exists for Windows only.",
        "menuinst": "It makes entries of the start menu, on the user's desktop only.",
        "msys2-*": "It exists for Windows only.",
        "powershell-shortcut": "It makes entries of the start menu, on the user's desktop only.",
        "pthreads-win32": "It exists for Windows only.",
        "pyreadline": "It exists for Windows only.",
        "pyreadline3": "It exists for Windows only.",
        "pywin32": "It exists for Windows only.",
        "pywin32-*": "It exists for Windows only.",
        "pywinpty": "It exists for Windows only.",
        "tensorflow-intel": "It exists for Windows only.",
        "ucrt": "It is the C runtime of Windows.",
        "vc": "It is the C runtime of Windows.",
        "vc14-*": "It is the C runtime of Windows.",
        "vcomp14": "It is the OpenMP runtime of Windows.",
        "vs2015-runtime": "It is the C runtime of Windows.",
        "vs*-win-64": "It is the compiler for Windows.",
        "win32-setctime": "It exists for Windows only.",
        "win-inet-pton": "It exists for Windows only.",
        "win-unicode-console": "It exists for Windows only.",
        "winrt-*": "It exists for Windows only.",
        "wmi": "It exists for Windows only.",
    },
}


class Rule(NamedTuple):
    """A level for a name or a pattern, and the reason that the user is shown."""

    level: Level
    reason: str


class Levels(NamedTuple):
    """Rules by canonical name, and by pattern; a name takes precedence over a pattern.

    Parameters
    ----------
    names, patterns
        The rules. Patterns contain ``*``.
    prefixes
        The text before the ``*`` of each pattern.
    """

    names: Mapping[str, Rule]
    patterns: Mapping[str, Rule]
    prefixes: tuple[str, ...]

    def find(self, *names: str) -> Rule | None:
        """Return the rule for a package with these *names*; the longest matching pattern decides."""
        for name in names:
            if rule := self.names.get(name):
                return rule
        # Few names begin like a pattern, and matching patterns is slow.
        if not any(name.startswith(self.prefixes) for name in names):
            return None
        matching = [p for p in self.patterns if any(fnmatchcase(name, p) for name in names)]
        return self.patterns[max(matching, key=lambda pattern: (len(pattern), pattern))] if matching else None


def make_levels(rules: Iterable[tuple[str, Rule]]) -> Levels:
    """Return *rules*, pairs of a name or pattern and its rule, as :class:`Levels`."""
    named = {canonical_pattern(name): rule for name, rule in rules}
    patterns = {name: rule for name, rule in named.items() if "*" in name}
    return Levels(
        names={name: rule for name, rule in named.items() if name not in patterns},
        patterns=patterns,
        prefixes=tuple({pattern.partition("*")[0] for pattern in patterns}),
    )


def load_levels() -> Levels:
    """Return the shipped levels."""
    return make_levels(
        (name, Rule(Level(level), reason))
        for level, reasons in LEVELS.items()
        for name, reason in reasons.items()
    )


class CriticalPackage(NamedTuple):
    """A package that a cluster can't do without.

    Parameters
    ----------
    name
        The canonical name.
    import_name
        The module to import when the finished image is checked.
    reason
        Why it is critical, for the user.
    same_version_as
        The package whose version to install if this one is missing.
    conda
        The conda name, if it differs.
    """

    name: NormalizedName
    import_name: str
    reason: str
    same_version_as: NormalizedName | None = None
    conda: str = ""


class Profile(NamedTuple):
    """The needs of a kind of cluster.

    Parameters
    ----------
    name
        As the setting ``profile`` writes it.
    chosen_by
        ``auto`` takes the first profile of which one of these packages is installed.
    critical
        The critical packages.
    """

    name: str
    chosen_by: tuple[NormalizedName, ...]
    critical: tuple[CriticalPackage, ...]


_DASK: Final = canonical_name("dask")
_DISTRIBUTED: Final = canonical_name("distributed")

PROFILES: Final = (
    Profile(
        name="dask",
        chosen_by=(_DASK,),
        # required_packages of distributed/versions.py: what Dask compares between client, scheduler, workers.
        critical=(
            CriticalPackage(
                _DASK,
                "dask",
                "Dask sends its task graphs between your machine and the cluster, and refuses or fails on"
                " other versions.",
                same_version_as=_DISTRIBUTED,
            ),
            CriticalPackage(
                _DISTRIBUTED,
                "distributed",
                "Client, scheduler and workers speak one protocol, which changes between releases.",
                same_version_as=_DASK,
            ),
            CriticalPackage(
                canonical_name("msgpack"),
                "msgpack",
                "It packs every message between your machine and the cluster.",
                conda="msgpack-python",
            ),
            CriticalPackage(
                canonical_name("cloudpickle"),
                "cloudpickle",
                "It pickles your functions here, and the workers must be able to load them.",
            ),
            CriticalPackage(
                canonical_name("tornado"),
                "tornado",
                "It carries the connections between your machine and the cluster.",
            ),
            CriticalPackage(
                canonical_name("toolz"),
                "toolz",
                "Dask's task graphs hold its functions, pickled by reference.",
            ),
        ),
    ),
    Profile(
        name="ray",
        chosen_by=(canonical_name("ray"),),
        critical=(
            CriticalPackage(
                canonical_name("ray"),
                "ray",
                "Ray refuses to connect to a cluster that runs another version.",
            ),
        ),
    ),
    Profile(name="none", chosen_by=(), critical=()),
)


def load_profiles() -> dict[str, Profile]:
    """Return the shipped profiles by name, in the order in which ``auto`` tries them."""
    return {profile.name: profile for profile in PROFILES}


def find_profile(name: str, environment: Environment) -> Profile:
    """Return the profile *name*; ``auto`` is the first whose packages *environment* has, or else ``none``.

    Raises
    ------
    UsageError
        There is no such profile.
    """
    profiles = load_profiles()
    if name == "auto":
        installed = {package.name for package in environment.packages}
        chosen = (profile for profile in profiles.values() if not installed.isdisjoint(profile.chosen_by))
        return next(chosen, profiles["none"])
    if name not in profiles:
        known = ["auto", *profiles]
        close = nearest(name, known)
        raise UsageError(
            f"The profile '{name}' doesn't exist.",
            hint=f"Did you mean '{close}'?" if close else f"The profiles are {', '.join(known)}.",
        )
    return profiles[name]
