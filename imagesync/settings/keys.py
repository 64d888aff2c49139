"""The keys of the settings, and the values that each one takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

from imagesync.core.credentials import redact
from imagesync.core.image_location import parse_location
from imagesync.core.image_reference import is_reference, is_repository, parse_reference
from imagesync.core.names import Level
from imagesync.core.platforms import PLATFORMS
from imagesync.errors import UsageError
from imagesync.image_layout import PREFIX, is_reserved

Kind = Literal[
    "switch",
    "text",
    "size",
    "number",
    "list",
    "requirements",
    "table",
    "path",
    "paths",
    "pairs",
    "copies",
    "words",
    "lines",
]

# PEP 508 names, with * for several; conda's may begin with an underscore, too.
_NAME = re.compile(r"[A-Za-z0-9*_]([A-Za-z0-9._*-]*[A-Za-z0-9*])?")
# A channel's name, such as ``conda-forge`` or ``pytorch/label/test``, or a URL or path.
_CHANNEL = re.compile(r"[A-Za-z0-9._~/-][^\s,\"'<>]*")
# Decimal units, as in the output.
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>|kB|KB|MB|GB)")
_UNITS = {"": 1, "kB": 1_000, "KB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}
_CUDA = re.compile(r"[0-9]+(\.[0-9]+){0,2}")
_TARGET_PYTHON = re.compile(r"3\.[0-9]{1,2}(\.[0-9]{1,2})?")
_TARGET_GLIBC = re.compile(r"2\.[0-9]{1,2}")
# Debian Policy 5.6.1 and 5.6.12, with an architecture, a version or a release as apt-get takes them. A dash
# at the end would tell apt-get to remove the package.
_APT = re.compile(
    r"[a-z0-9][a-z0-9+.-]*[a-z0-9+.](:[a-z0-9-]*[a-z0-9])?"
    r"(=[0-9][A-Za-z0-9.+:~-]*(?<!-)|/[a-z0-9.-]*[a-z0-9])?"
)
# POSIX.1-2017, 8.1; and what Docker advises for labels.
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?")
# Of `docker run --shm-size`, and of Dask.
_CLUSTER_SIZE = re.compile(
    r"(workers|nthreads)=\d+|cpus=\d+(\.\d+)?|shm-size=\d+\s*([kmg]i?)?b?"
    r"|memory-limit=(auto|\d+(\.\d+)?\s*([kmgt]i?)?b?)",
    re.IGNORECASE,
)
# Without what a Dockerfile or a shell would expand.
_IMAGE_PATH = re.compile(r"/[\w.+@%~ /-]*")
_ENVIRONMENT_VARIABLES = frozenset(
    {"PATH", "HOME", "USER", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "CONDA_SHLVL"}
)


MOST_LAYERS = 100
"""Of an image, those of its base included: engines stop at 125, and an image may be the base of another."""
MOST_SECONDS = 3600
"""For a server that is silent."""


class Key(NamedTuple):
    """A key of ``[tool.imagesync]``.

    Parameters
    ----------
    name
        The key in a file, such as ``allow-inconsistent`` or ``add.pip``.
    field
        The field of :class:`~imagesync.settings.model.Settings`.
    accepts
        Checks a text value, or each entry of a list or table (``name=level``).
    expected
        A description of the valid values.
    word
        A text that a list may be instead, or may hold.
    """

    name: str
    field: str
    kind: Kind
    accepts: Callable[[str], bool] = bool
    expected: str = "text that isn't empty"
    word: str = ""

    @property
    def variable(self) -> str:
        """Return the environment variable, such as ``IMAGESYNC_ADD_PIP``."""
        return "IMAGESYNC_" + self.name.upper().replace("-", "_").replace(".", "_")

    @property
    def flag(self) -> str:
        """Return the command-line option, such as ``--add-pip``."""
        # The command line takes one value per option: --level, --channel.
        single = ("levels", "channels", "platforms")
        name = self.field.removesuffix("s") if self.field in single else self.field
        return "--" + name.replace("_", "-")


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def _is_level(text: str) -> bool:
    name, _, level = text.partition("=")
    return _is_name(name) and level in {known.value for known in Level}


def parse_size(text: str) -> int | None:
    """Return a size in bytes, or ``None`` if *text* isn't a size.

    >>> parse_size("1.5 GB"), parse_size("800"), parse_size("much")
    (1500000000, 800, None)
    """
    match = _SIZE.fullmatch(text.strip())
    return None if match is None else int(float(match["number"]) * _UNITS[match["unit"]])


def _is_public(text: str) -> bool:
    # Everybody who has the image can read it; and a Dockerfile's strings have no line breaks.
    return redact(text) == text and re.search(r"[\r\n\0]", text) is None


def _is_command(text: str) -> bool:
    # Line breaks are possible: a Dockerfile has commands as JSON.
    return redact(text) == text and "\0" not in text


def _is_variable(text: str) -> bool:
    name, _, value = text.partition("=")
    return _VARIABLE.fullmatch(name) is not None and name not in _ENVIRONMENT_VARIABLES and _is_public(value)


def _is_label(text: str) -> bool:
    name, _, value = text.partition("=")
    return _LABEL.fullmatch(name) is not None and not name.startswith("dev.imagesync") and _is_public(value)


def _is_cluster_size(text: str) -> bool:
    return _CLUSTER_SIZE.fullmatch(text) is not None


def is_image_path(text: str) -> bool:
    """Return True if *text* is an absolute path in an image.

    >>> is_image_path("/srv/app"), is_image_path("app"), is_image_path("/srv/../etc")
    (True, False, False)
    """
    return _IMAGE_PATH.fullmatch(text) is not None and ".." not in text.split("/")


def _is_copy_target(text: str) -> bool:
    return is_image_path(text) and len(PurePosixPath(text).parts) > 1 and not is_reserved(text)


def _is_base(text: str) -> bool:
    if is_reference(text):
        return True
    try:
        parse_location(text, given_as="base")
    except UsageError:
        return False
    return True


def _one_of(*choices: str) -> Callable[[str], bool]:
    return lambda text: text in choices


def is_apt_package(text: str) -> bool:
    """Return True if *text* names a Debian package to install, in the syntax of apt-get.

    >>> is_apt_package("libgl1:amd64"), is_apt_package("git/bookworm-backports"), is_apt_package("git-")
    (True, True, False)
    """
    return _APT.fullmatch(text) is not None


_NAME_EXPECTED = "a package's name without a version, such as 'scikit-learn' or 'nvidia-*'"

KEYS = (
    Key("strict", "strict", "switch"),
    Key("profile", "profile", "text"),
    Key("ignore", "ignore", "list", _is_name, _NAME_EXPECTED),
    Key("only", "only", "list", _is_name, _NAME_EXPECTED),
    Key(
        "levels",
        "levels",
        "table",
        _is_level,
        f"a package's name and one of {', '.join(level.value for level in Level)}",
    ),
    Key("add.pip", "add_pip", "requirements"),
    Key("add.conda", "add_conda", "requirements"),
    Key(
        "modified",
        "modified",
        "text",
        _one_of("ship", "index", "error"),
        "'ship' (as they are here), 'index' (as their index or channel has them) or 'error'",
    ),
    Key("code", "code", "paths", expected="paths of folders and modules, such as ['.', 'lib/helper.py']"),
    Key(
        "code-max-size",
        "code_max_size",
        "size",
        lambda text: parse_size(text) is not None,
        "a size, such as '50 MB' or '1 GB'",
    ),
    Key("no-isolation", "no_isolation", "list", _is_name, _NAME_EXPECTED, word="auto"),
    Key("no-build", "no_build", "switch"),
    Key(
        "apt",
        "apt",
        "list",
        is_apt_package,
        "the name of a Debian package, such as 'libgomp1' or 'git=1:2.43.0-1ubuntu7'",
    ),
    Key("toolchain", "toolchain", "switch"),
    Key(
        "env",
        "env",
        "pairs",
        _is_variable,
        "names and values of variables without credentials, such as { OMP_NUM_THREADS = '1' };"
        " PATH and its like are the environment's own",
    ),
    Key(
        "labels",
        "labels",
        "pairs",
        _is_label,
        "names and values of labels without credentials, such as { 'com.example.team' = 'weather' }",
    ),
    Key("cmd", "cmd", "words", _is_command, "the words of a command, such as ['python', '-m', 'weather']"),
    Key("workdir", "workdir", "text", is_image_path, "an absolute path in the image, such as '/srv/app'"),
    Key(
        "user",
        "user",
        "text",
        lambda text: _USER.fullmatch(text) is not None,
        "a user of the image, such as '1000:1000' or 'app'",
    ),
    Key(
        "files",
        "files",
        "copies",
        _is_copy_target,
        f"files and folders with their absolute paths in the image, outside {PREFIX},"
        " such as { 'odbc.ini' = '/etc/odbc.ini' }",
    ),
    Key(
        "run",
        "run",
        "lines",
        lambda text: bool(text.strip()) and _is_command(text),
        "commands of a shell without credentials, such as ['useradd app']",
    ),
    Key("run-network", "run_network", "switch"),
    Key("allow-inconsistent", "allow_inconsistent", "switch"),
    Key(
        "base",
        "base",
        "text",
        _is_base,
        "an image reference, such as 'ubuntu:24.04', 'oci:DIR', 'oci-archive:FILE' or 'docker-archive:FILE'",
    ),
    Key(
        "builder",
        "builder",
        "text",
        _one_of("auto", "docker", "oci"),
        "'auto' (an engine if one answers), 'docker' (an engine) or 'oci' (without one)",
    ),
    Key(
        "platforms",
        "platforms",
        "list",
        _one_of(*map(str, PLATFORMS)),
        f"{' or '.join(map(str, PLATFORMS))}, such as ['{PLATFORMS[-1]}']",
    ),
    Key("compression", "compression", "text", _one_of("gzip", "zstd"), "'gzip' or 'zstd'"),
    Key(
        "max-layers",
        "max_layers",
        "number",
        lambda text: text.isdecimal() and 10 <= int(text) <= MOST_LAYERS,
        f"a number of layers from 10 to {MOST_LAYERS}",
    ),
    Key("skip-scripts", "skip_scripts", "switch"),
    Key("keep-archives", "keep_archives", "switch"),
    Key(
        "target-python",
        "target_python",
        "text",
        lambda text: _TARGET_PYTHON.fullmatch(text) is not None,
        "the base image's Python, such as '3.12' or '3.12.3'",
    ),
    Key(
        "target-glibc",
        "target_glibc",
        "text",
        lambda text: _TARGET_GLIBC.fullmatch(text) is not None,
        "the base image's C library, such as '2.39'",
    ),
    Key(
        "python",
        "python_source",
        "text",
        _one_of("auto", "base", "conda"),
        "'auto', 'base' (the base image's interpreter) or 'conda' (that of a conda channel)",
    ),
    Key(
        "channels",
        "channels",
        "list",
        lambda text: _CHANNEL.fullmatch(text) is not None,
        "conda channels, such as 'conda-forge' or 'https://conda.example.com/team'",
    ),
    Key(
        "conda-installer",
        "conda_installer",
        "text",
        _one_of("auto", "micromamba", "rattler"),
        "'auto', 'micromamba' or 'rattler'",
    ),
    Key("micromamba", "micromamba", "path", expected="the path of a micromamba executable"),
    Key(
        "cuda",
        "cuda",
        "text",
        lambda text: _CUDA.fullmatch(text) is not None,
        "a version of CUDA, such as '12.4'",
    ),
    Key(
        "repository",
        "repository",
        "text",
        is_repository,
        "an image's name without a tag, in lower case, such as 'registry.example.com/team/imagesync'",
    ),
    Key(
        "cache-from",
        "cache_from",
        "text",
        lambda text: is_repository(text) and parse_reference(text).names_registry,
        "a repository with its registry, such as 'registry.example.com/team/imagesync'",
    ),
    Key("push", "push", "switch"),
    Key("attest", "attest", "switch"),
    Key(
        "timeout",
        "timeout",
        "number",
        lambda text: text.isdecimal() and 1 <= int(text) <= MOST_SECONDS,
        f"a number of seconds from 1 to {MOST_SECONDS}",
    ),
    Key("resolver", "resolver", "text", _one_of("uv", "pip-tools"), "'uv' or 'pip-tools'"),
    Key("solver", "solver", "text", _one_of("rattler", "conda-lock"), "'rattler' or 'conda-lock'"),
    Key("templates", "templates", "path", expected="a folder's path"),
    Key("locked", "locked", "path", expected="a lock file's path, such as 'uv.lock'"),
    Key("cache-dir", "cache_dir", "path", expected="a folder's path"),
    Key(
        "cluster",
        "cluster",
        "pairs",
        _is_cluster_size,
        "sizes of clusters: workers, nthreads, cpus, memory-limit or shm-size,"
        " such as { workers = 4, memory-limit = '4GiB' }",
    ),
)
